"""schnetpack's networks without what only its training needs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from threading import RLock
from types import ModuleType
from typing import Any
from warnings import catch_warnings

_PACKAGE = "schnetpack"
_WIGNER = "sympy.physics.wigner"
_lock = RLock()


def spare_training() -> None:
    """Let parts of schnetpack be imported without its `__init__`, which imports all of them.

    That `__init__` brings lightning, torchmetrics and matplotlib: seconds and hundreds of MB to
    evaluate a network. It runs as soon as anybody asks the package for a name that it alone
    defines, so that `import schnetpack` means what it always does.
    """
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return  # the import that follows says so
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        part = f"{_PACKAGE}.{name}"
        if part in sys.modules:  # still being imported: its parent does not hold it yet
            return sys.modules[part]
        if importlib.util.find_spec(part) is not None:
            return import_module(part)
        with _lock:
            if vars(package).pop("__getattr__", None) is not None:
                loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__version__"] = version(_PACKAGE)
    vars(package)["__getattr__"] = find
    sys.modules[_PACKAGE] = package


@contextmanager
def _sympy_when_called() -> Iterator[None]:
    """Let schnetpack import sympy when it first asks it for a Clebsch–Gordan coefficient.

    SO3net needs them when it is built, the other networks never: half a second. Whoever imports
    that module of sympy meanwhile gets what it holds.
    """
    if _WIGNER in sys.modules:
        yield
        return
    stand_in = ModuleType(_WIGNER)

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        remove()
        return getattr(import_module(_WIGNER), name)

    def remove() -> None:
        if sys.modules.get(_WIGNER) is stand_in:
            del sys.modules[_WIGNER]

    def clebsch_gordan(*numbers: Any) -> Any:
        return find("clebsch_gordan")(*numbers)

    vars(stand_in)["clebsch_gordan"] = clebsch_gordan
    vars(stand_in)["__getattr__"] = find
    sys.modules[_WIGNER] = stand_in
    try:
        yield
    finally:
        remove()


spare_training()
# torch says of schnetpack's use of torch.jit what no user of mdxai can mend.
with _sympy_when_called(), catch_warnings(action="ignore", category=FutureWarning):
    from schnetpack import properties
    from schnetpack.atomistic import (
        Aggregation,
        Atomwise,
        DipoleMoment,
        Forces,
        PairwiseDistances,
        ZBLRepulsionEnergy,
    )
    from schnetpack.model import NeuralNetworkPotential
    from schnetpack.nn import CosineCutoff, GaussianRBF, cosine_cutoff
    from schnetpack.representation import PaiNN, SchNet, SO3net

__all__ = [
    "Aggregation",
    "Atomwise",
    "CosineCutoff",
    "DipoleMoment",
    "Forces",
    "GaussianRBF",
    "NeuralNetworkPotential",
    "PaiNN",
    "PairwiseDistances",
    "SO3net",
    "SchNet",
    "ZBLRepulsionEnergy",
    "cosine_cutoff",
    "properties",
    "spare_training",
]
