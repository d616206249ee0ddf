"""Packages whose names are imported when first used, so that watching EMT loads no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_at_first_use(
    package: str, home: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`.

    Args:
        package: its `__name__`.
        home: module of each public name.
    """

    def find(name: str) -> Any:
        # A submodule imported by the same name must not be shadowed, so only these names resolve.
        if name in home:
            return getattr(import_module(home[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def listed() -> list[str]:
        return sorted([*vars(sys.modules[package]), *home])

    return find, listed
