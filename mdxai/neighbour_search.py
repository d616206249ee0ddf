"""The cell lists of vesin, without the torch that it imports wherever it finds it."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

_COPY = "mdxai._vesin"  # a package of its own: `import vesin` stays what it is for everybody else


@cache
def cell_list() -> type:
    """Return vesin's class `NeighborList`, which takes and gives numpy arrays here.

    vesin imports torch to accept its tensors, too: seconds, and 600 MB, of no use to a simulation
    with a calculator that needs no torch.
    """
    if "torch" not in sys.modules:
        try:
            return _without_torch()
        except (ImportError, AttributeError):  # another version of vesin, made up otherwise
            pass
    from vesin import NeighborList

    found: type = NeighborList
    return found


def _without_torch() -> type:
    spec = importlib.util.find_spec("vesin")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("vesin is not installed")
    package = ModuleType(_COPY)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_COPY] = package
    part = importlib.util.find_spec(f"{_COPY}._neighbors")
    if part is None or part.loader is None:
        raise ImportError("this vesin has no module _neighbors")
    module = importlib.util.module_from_spec(part)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import_all_but_torch}
    part.loader.exec_module(module)
    found: type = module.NeighborList
    return found


def _import_all_but_torch(name: str, *where: Any, **how: Any) -> Any:
    if name.partition(".")[0] in ("torch", "cupy"):
        raise ImportError(f"{name} is not wanted here")
    return builtins.__import__(name, *where, **how)
