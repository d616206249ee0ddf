"""Documentation: links lead somewhere, scripts run, tables agree with the code."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from pkgutil import resolve_name

import pytest
from typer.main import get_command

import mdxai
from mdxai.cli.main import app
from mdxai.monitoring.options import MonitorOptions
from mdxai.principles.probes.probe_registry import PROBES
from mdxai.principles.registry import EXPLANATION, MOTION
from mdxai.stability.thresholds import THRESHOLDS

from .test_layout import ORDER

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name / "README.md" for name in ("calculators", "runs")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE = re.compile(r"^```(\w*)( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|[ &])mdxai ([a-z][a-z-]*)(.*)")
SCRIPTS = tuple(
    f"docs/{name}.md" for name in ("guide", "attribution", "engines", "testing", "statistics")
)
# enough to run every line
STEPS = {"20_000": "20", "n_replicas=32": "n_replicas=2", "most=40": "most=1"}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", text), re.MULTILINE)
    bare = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in bare}


def test_anchors_are_those_of_headings():
    text = "# One\n## The γ rule, said\n```python\n# no heading\n```\n### `a_b` [link](x.md)\n"
    assert anchors(text) == {"one", "the-γ-rule-said", "a_b-link"}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):  # such as https:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            broken.append(f"{link}: no such heading")
    assert not broken, f"in {page_name(page)}: {'; '.join(broken)}"


def test_every_page_of_the_documentation_is_in_its_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / link).resolve() for link in LINK.findall(index)}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page != ROOT / "docs" / "README.md"}
    assert pages <= linked


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["README.md", *SCRIPTS, pytest.param("docs/forecast.md", marks=pytest.mark.slow)]
)
def test_python_of_a_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / name).read_text(encoding="utf-8")
    scripts = [
        code for language, skip, code in CODE.findall(text) if language == "python" and not skip
    ]
    assert scripts
    script = "\n".join(scripts)
    for long, short in STEPS.items():
        script = script.replace(long, short)
    exec(compile(script, name, "exec"), {"__name__": "__main__"})


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000


def test_import_order_in_the_documentation_is_that_of_the_layout():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    order = re.search(r"^    (\w+, errors, .* ← [^`]*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert order is not None
    steps = [tuple(re.findall(r"\w+", step)) for step in order[1].split("←")]
    assert tuple(steps) == ORDER


def shell_code(text: str) -> list[str]:
    """Return the lines of shell blocks, indented lines and code in the text."""
    blocks = [code for language, _, code in CODE.findall(text) if language in ("", "sh")]
    prose = CODE.sub("", text)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line for line in prose.splitlines() if line.startswith("    ")]
    return lines + re.findall(r"`([^`\n]+)`", prose)


@pytest.mark.parametrize("page", [*PAGES[:2], *PAGES[3:]], ids=page_name)  # no CHANGELOG
def test_commands_and_their_options_exist(page):
    commands = get_command(app).commands
    unknown = []
    for line in shell_code(page.read_text(encoding="utf-8")):
        for command, rest in COMMAND.findall(line.partition("  #")[0]):
            params = commands[command].params if command in commands else []
            known = {name for option in params for name in option.opts}
            used = re.findall(r"(?<= )--[a-z-]+", rest)
            unknown += [line for option in used if option not in known]
            unknown += [line] * (command not in commands)
    assert not unknown


@pytest.mark.parametrize("page", [*PAGES[:2], *PAGES[3:]], ids=page_name)  # no CHANGELOG
def test_named_modules_and_names_exist(page):
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:\w+/)+\w+\.(?:py|toml))`", text)
    places = (ROOT, ROOT / "mdxai")
    missing = [file for file in files if not any((place / file).exists() for place in places)]
    for name in re.findall(r"`(mdxai(?:\.\w+)+)", text):
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert not missing


def test_everything_public_is_in_the_api_reference():
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md")]
    names = re.findall(r"^::: (\S+)$", "\n".join(pages), re.MULTILINE)
    assert len(names) == len(set(names))
    shown = [resolve_name(name) for name in names]
    missing = [name for name in mdxai.__all__ if getattr(mdxai, name) not in shown]
    assert not missing


def test_every_task_page_includes_its_script():
    for page in (ROOT / "docs" / "tasks").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        linked = [f"examples/{name}" for name in re.findall(r"\]\(../../examples/([^)]+)\)", text)]
        assert re.findall(r'^--8<-- "(.+)"$', text, re.MULTILINE) == linked != []


def test_every_page_is_in_the_navigation_of_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^      - (?:.*: )?([\w/]+\.md)$", text, re.MULTILINE)
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= set(listed)


def test_every_option_of_a_monitor_is_in_the_guide():
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    table = text.split("\n## Options\n")[1].split("\n## ")[0]
    documented = re.findall(r"`(\w+)=", "".join(re.findall(r"^\| `.*?\|", table, re.MULTILINE)))
    assert set(documented) == {option.name for option in fields(MonitorOptions)}


def test_readme_counts_the_principles_right():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(MOTION)} motion principles" in text
    assert f"{len(EXPLANATION)} explanation principles" in text


def table_names(page: str, heading: str) -> list[str]:
    """Return the names in the first column of the tables below a heading."""
    text = (ROOT / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    lines = takewhile(lambda line: not line.startswith("## "), text.splitlines())
    return [
        name
        for line in lines
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]


def test_principles_are_listed_by_their_kind():
    page = "docs/principles/README.md"
    assert sorted(table_names(page, "Motion")) == sorted(MOTION)
    assert sorted(table_names(page, "Explanation")) == sorted(EXPLANATION)
    without_forces = {
        name for name in PROBES if not name.endswith("_forces") or name.startswith("cutoff")
    }
    assert set(table_names(page, "Probes")) - {"precision_forces", "weak_spots"} == without_forces


def test_thresholds_in_the_documentation_are_those_of_the_code():
    text = (ROOT / "docs" / "thresholds.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|", text, re.MULTILINE)

    def number(cell: str) -> float:
        first = cell.split(maxsplit=1)[0]
        value = {"never": float("inf"), "none": 0.0}.get(first)
        milli = 1e-3 if "meV" in cell and "atom" not in cell else 1.0  # the code has eV
        return float(first) * milli if value is None else value

    documented = {name: [number(cell) for cell in cells] for name, *cells in rows}
    assert set(documented) == {t.principle for t in THRESHOLDS}
    for t in THRESHOLDS:
        assert documented[t.principle] == pytest.approx([t.warn, t.unstable, t.patience])
