"""Calculators by what a user writes on a command line: one rule for every command."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ase import Atoms

from mdxai.calculators.card import CalculatorError

BUILT_IN = {
    "emt": "ase.calculators.emt:EMT",
    "lj": "ase.calculators.lj:LennardJones",
    "pyscf": "mdxai.calculators.pyscf_calculator:PyscfCalculator",
}
FORMS = (
    "a shipped name such as painn-ethanol (`mdxai calculators` lists them), the folder or file of "
    "a network, emt, lj, pyscf, or package.module:name of a class or function that makes an ASE "
    "calculator, with --arg key=value"
)


def calculator_factory(
    source: str, arguments: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> Callable[[], Any]:
    """Return a function that makes a calculator from its name.

    Args:
        source: name, folder or file of a network; "emt" or "lj" of ASE; "pyscf";
            "package.module:name" or "file.py:name" of a class or function, which is imported and
            called, or of a calculator that is there. Modules are also looked for in the working
            directory.
        arguments: "key=value" for what is called; a value is a Python literal or else text.
        options: keyword arguments of `load_calculator`, for a network.

    Raises:
        CalculatorError: for a network that cannot be loaded, a name that cannot be imported or
            called like this, or a bad argument.
    """
    target = BUILT_IN.get(source, source)
    if Path(source).exists() or ":" not in target:
        return _network(source, arguments, options or {})
    made = _imported(target)
    keywords = dict(_keyword(argument) for argument in arguments)
    if not isinstance(made, type) and _is_calculator(made):
        if keywords:
            raise CalculatorError(
                f"{target} is a calculator already, so --arg has nothing to be given to"
            )
        return lambda: made
    if not callable(made):
        raise CalculatorError(
            f"expected {target!r} to be a class, a function or a calculator, got {made!r}"
        )
    return lambda: _called(made, target, keywords)


def _network(
    source: str, arguments: Sequence[str], options: Mapping[str, Any]
) -> Callable[[], Any]:
    if arguments:
        raise CalculatorError(f"--arg is for calculators that are imported; {source} is not one")
    try:
        from mdxai.calculators.loading import load_calculator  # torch, only for a network

        network = load_calculator(source, **options)
    except CalculatorError as error:
        path, dot, name = source.rpartition(".")
        if Path(source).exists() or os.sep in source or not dot:
            raise
        raise CalculatorError(
            f"{error}. For a class or function write {path}:{name}, with a colon"
        ) from error
    return lambda: network


def _called(make: Callable[..., Any], target: str, keywords: Mapping[str, Any]) -> Any:
    try:
        made = make(**keywords)
    except Exception as error:  # constructors raise errors of any type
        raise CalculatorError(
            f"{target} cannot be called: {type(error).__name__}: {error}; give its arguments with "
            "--arg key=value"
        ) from error
    if isinstance(made, type) or not _is_calculator(made):
        raise CalculatorError(
            f"{target} makes no ASE calculator but {type(made).__name__}; expected {FORMS}"
        )
    return made


def _is_calculator(thing: Any) -> bool:
    asks = callable(getattr(thing, "get_potential_energy", None))
    return asks and not isinstance(thing, Atoms)


def _imported(target: str) -> Any:
    place, _, name = target.rpartition(":")
    if not (place and name):
        raise CalculatorError(f"{target!r} names no calculator; expected {FORMS}")
    try:
        module = _module(place)
    except Exception as error:  # importing runs arbitrary code
        raise CalculatorError(
            f"{target!r} cannot be imported ({type(error).__name__}: {error}); expected "
            "package.module:name of a class or function that makes an ASE calculator"
        ) from error
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise CalculatorError(
                f"{target!r} cannot be imported: {place} has no {name!r}{_near(found, part)}"
            )
        found = getattr(found, part)
    return found


def _near(module: Any, name: str) -> str:
    from difflib import get_close_matches

    spelled = {n.lower(): n for n in dir(module)}
    near = get_close_matches(name.lower(), spelled, n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        path = Path(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)  # so that objects of it can be copied
        spec.loader.exec_module(module)
        return module
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # last, so that it hides no installed package
    return import_module(place)


def _keyword(argument: str) -> tuple[str, Any]:
    key, equals, text = argument.partition("=")
    if not (equals and key.isidentifier()):
        raise CalculatorError(f"expected key=value after --arg, got {argument!r}")
    try:
        return key, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, text
