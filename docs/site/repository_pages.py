"""Build hooks of the site: pages of the repository outside docs/, and the commands' reference.

The documentation links to files all over the repository, as anybody who reads it there can follow.
On the site each of these files is a page below `repository/`: Markdown as it is, code as a listing,
anything else as it is. Links are rewritten accordingly; MkDocs then checks every one of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import relpath

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click
from typer.main import get_command

from mdxai.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LISTINGS = {".py": "python", ".toml": "toml", ".sh": "bash", ".yml": "yaml"}
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s:#]+)(#[^)\s]*)?(\))")
# Links in code are none. `no-run` after the language is for the tests, and no language to MkDocs.
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the commands' reference, and every file outside docs/ that a page links to."""
    files.append(File.generated(config, "commands.md", content=_commands()))
    waiting = [ROOT / "docs" / file.src_uri for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in _linked(page) - seen:
            seen.add(target)
            if not _is_on_site(target):
                files.append(_added(target, config))
                waiting += [target] if target.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where the site has what they lead to."""
    if page.file.src_uri == "commands.md":
        return markdown
    source = _source(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        before, path, anchor, after = link.groups(default="")
        target = (source.parent / path).resolve()
        if not target.exists():
            return link[0]  # MkDocs will complain
        here = Path(page.file.src_uri).parent.as_posix()
        return before + relpath(_place(target), here) + anchor + after

    parts = CODE.split(markdown.replace("```python no-run\n", "```python\n"))
    return "".join(part if k % 2 else LINK.sub(moved, part) for k, part in enumerate(parts))


def _commands() -> str:
    command = get_command(app)
    context = typer.Context(command)
    return get_docs_for_click(obj=command, ctx=context, name="mdxai", title="Commands")


def _linked(page: Path) -> set[Path]:
    """Return the files that a page links to, but for the web and itself."""
    if not page.is_file():
        return set()
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    found = {(page.parent / link[2]).resolve() for link in LINK.finditer(text)}
    return {target for target in found if target.is_file() and target.is_relative_to(ROOT)}


def _is_on_site(target: Path) -> bool:
    """Return whether MkDocs finds a file by itself: all of docs/ but what builds the site."""
    return target.is_relative_to(DOCS) and not target.is_relative_to(DOCS / "site")


def _place(target: Path) -> str:
    """Return where a file of the repository is in the site's sources."""
    if _is_on_site(target):
        return target.relative_to(DOCS).as_posix()
    place = f"repository/{target.relative_to(ROOT).as_posix()}"
    return f"{place}.md" if target.suffix in LISTINGS else place


def _source(place: str) -> Path:
    """Return the file of the repository that a page of the site was made from."""
    inside = place.removeprefix("repository/")
    if inside == place:
        return DOCS / place
    bare = ROOT / inside.removesuffix(".md")
    return bare if bare.suffix in LISTINGS else ROOT / inside


def _added(target: Path, config: MkDocsConfig) -> File:
    place = _place(target)
    if target.suffix not in LISTINGS:
        return File.generated(config, place, abs_src_path=str(target))
    name = target.relative_to(ROOT).as_posix()
    text = (
        f"# `{name}`\n\n````{LISTINGS[target.suffix]}\n{target.read_text(encoding='utf-8')}````\n"
    )
    return File.generated(config, place, content=text)
