"""The promises that the tree makes: one-way imports, short bodies, documented names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mdxai

PACKAGE = Path(mdxai.__file__).parent
# Rooms of one row may import each other only from left to right.
ORDER = (
    (
        "first_use",
        "errors",
        "held_results",
        "neighbour_search",
        "outside",
        "frame",
        "serialization",
        "showing",
    ),
    ("calculators",),
    ("engines", "statistics", "attribution"),
    ("principles",),
    ("record", "early_warning"),
    ("stability",),
    ("forecast",),
    ("mending",),
    ("analysis",),
    ("report",),
    ("monitoring",),
    ("study", "testing"),
    ("cli",),
)
PLACES = [room for row in ORDER for room in row]
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "mdxai" and len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):  # what `import mdxai` and `python -m mdxai` start with
        return
    assert own in PLACES, f"{own} has no place in the import order"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for other in filter(None, map(layer, names)):
            assert PLACES.index(other) <= PLACES.index(own), (
                f"{own} imports {other}, which is later"
            )


# Files and rooms of a study import each other only from left to right.
STUDY = (
    ("run_series", "recipe", "markdown"),
    ("run_outcome",),
    ("resampling",),
    ("survival",),
    ("lead_time",),
)


def test_a_study_imports_one_way():
    rank = {name: place for place, row in enumerate(STUDY) for name in row}
    for path in (PACKAGE / "study").rglob("*.py"):
        own = path.relative_to(PACKAGE / "study").with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            name = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if name.startswith("mdxai.study.") and name.split(".")[2] != own:
                other = name.split(".")[2]
                assert rank.get(other, 9) <= rank.get(own, 9), f"{own} imports {other}"


def functions():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def body_lines(node: ast.FunctionDef) -> int:
    body = node.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return (body[-1].end_lineno - body[0].lineno + 1) if body else 0


def test_bodies_are_short():
    """Body budget: 95 % under 30 lines, none over 60; files: median under 200 lines."""
    lengths = {f"{p.name}:{n.name}": body_lines(n) for p, n in functions()}
    too_long = {name: length for name, length in lengths.items() if length > 60}
    assert not too_long
    assert np.quantile(list(lengths.values()), 0.95) < 30
    assert np.median([len(p.read_text().splitlines()) for p in MODULES]) < 200


def test_public_names_resolve_and_are_documented():
    for name in mdxai.__all__:
        assert getattr(mdxai, name).__doc__, f"mdxai.{name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_classes_and_functions_are_documented(path):
    if path.name in ("cli.py", "_kernels.py"):
        return
    dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    importlib.import_module(dotted.removesuffix(".__init__"))
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if public and len(node.body) > 2:
            assert ast.get_docstring(node), f"{path.name}:{node.name} has no docstring"


# What a run can end with because its user asked for that; nothing here is to be mended.
OUTCOMES = {"SimulationInterrupted", "UnstableReplica", "UnstableTrajectory"}


def exceptions():
    for path in MODULES:
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found = getattr(
                    importlib.import_module(module.removesuffix(".__init__")), node.name
                )
                if issubclass(found, Exception) and not issubclass(found, Warning):
                    yield found


def test_every_error_that_users_can_mend_is_an_mdxai_error():
    found = {error for error in exceptions() if not error.__name__.startswith("_")}
    foreign = {error.__name__ for error in found if not issubclass(error, mdxai.MdxaiError)}
    assert foreign == OUTCOMES
    builtin = (ValueError, RuntimeError, TypeError)
    assert all(e is mdxai.MdxaiError or issubclass(e, builtin) for e in found)


def test_importing_mdxai_is_light():
    code = (
        "import sys, mdxai\n"
        "assert 'ReplicaMonitor' in dir(mdxai)\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'schnetpack'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_mdxai_sets_no_environment_variable():
    code = "import os; before = dict(os.environ); import mdxai; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_numba_is_in_kernels():
    users = {p.name for p in MODULES if "numba." in p.read_text() and p.name != "__init__.py"}
    assert users == {"_kernels.py"}


def test_no_name_of_a_file_is_used_twice():
    names = [path.name for path in MODULES if path.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)


TESTS = Path(__file__).parent
FOREIGN = ("np", "os", "self", "subprocess", "sys", "torch")
SILENT = ("KeyboardInterrupt", "Killed", "SystemExit")  # exceptions without a message
# ASE has no public way to change the temperature of a Nosé–Hoover chain during a run.
PRIVATE_OF_ASE = {"dynamics._thermostat", "dynamics._thermostat._kT"}


def nodes_of_tests(kind: type[ast.AST]):
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield f"{path.relative_to(TESTS)}:{node.lineno}", node


def test_every_expected_error_is_matched_by_its_message():
    bare = [
        place
        for place, node in nodes_of_tests(ast.Call)
        if ast.unparse(node.func) == "pytest.raises"
        and not any(keyword.arg == "match" for keyword in node.keywords)
        and ast.unparse(node.args[0]) not in SILENT
    ]
    assert bare == []


def test_tests_touch_nothing_private():
    private = [
        f"{place} {ast.unparse(node)}"
        for place, node in nodes_of_tests(ast.Attribute)
        if node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in FOREIGN)
        and ast.unparse(node) not in PRIVATE_OF_ASE
    ]
    assert private == []
