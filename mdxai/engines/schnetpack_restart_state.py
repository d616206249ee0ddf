"""The state of a schnetpack simulation: what `restart_simulation` restores, and also the state of
all hooks and of the random generators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from mdxai.serialization import StateError

CHOSEN = ("temperature_bath", "time_constant", "target_pressure")  # by the user
SAME = ("atom_types", "masses", "n_atoms")  # must not differ


def state_of(simulator: Any, step: int) -> dict[str, Any]:
    """Return the state of a simulation between two steps, as mappings of NumPy arrays.

    Args:
        simulator: a schnetpack.md.Simulator.
        step: number of completed steps.
    """
    random = {"cpu": torch.get_rng_state().numpy()}
    if simulator.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(simulator.device).numpy()
    return {
        "step": step,
        "system": _arrays(simulator.system),
        "hooks": [
            {"kind": type(hook).__name__, "buffers": _arrays(hook)}
            for hook in simulator.simulator_hooks
        ],
        "random": random,
    }


def put_state(simulator: Any, state: Mapping[str, Any]) -> None:
    """Set an identically made simulation to a state; its next step is the same.

    Raises:
        StateError: for another system or other hooks; says what differs and changes nothing.
    """
    _refuse_other_system(_arrays(simulator.system), state["system"])
    _refuse_other_hooks(list(simulator.simulator_hooks), state["hooks"])
    simulator.step = int(state["step"])
    simulator.system.load_system_state(_tensors(state["system"]))
    for hook, stored in zip(simulator.simulator_hooks, state["hooks"], strict=True):
        hook.load_state_dict(_tensors(stored["buffers"]))
    torch.set_rng_state(torch.from_numpy(state["random"]["cpu"].copy()))
    if "cuda" in state["random"]:
        torch.cuda.set_rng_state(torch.from_numpy(state["random"]["cuda"].copy()), simulator.device)
    simulator.restart = True  # as schnetpack's restart_simulation does


def put_forces(simulator: Any, state: Mapping[str, Any]) -> None:
    """Restore the energies and forces of a state; computing them anew could change the rounding."""
    for name in ("forces", "energy"):
        getattr(simulator.system, name).copy_(torch.from_numpy(state["system"][name].copy()))


def _arrays(module: Any) -> dict[str, Any]:
    """Return the buffers of a module that have been set."""
    buffers = module.state_dict().items()
    return {name: b.detach().cpu().numpy() for name, b in buffers if not is_lazy(b)}


def _tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _refuse_other_system(present: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    for name in (*SAME, "positions"):
        there, here = stored[name], present[name]
        if (there.shape, there.dtype) != (here.shape, here.dtype):
            raise StateError(
                f"system.{name}: recorded {there.dtype} of shape {there.shape}, now {here.dtype} "
                f"of shape {here.shape}; build the system as for the first start"
            )
        if name in SAME and not np.array_equal(there, here):
            raise StateError(f"system.{name} differs from the record; load the same molecules")


def _refuse_other_hooks(present: list[Any], stored: list[Mapping[str, Any]]) -> None:
    there, here = [s["kind"] for s in stored], [type(hook).__name__ for hook in present]
    if there != here:
        raise StateError(
            f"simulator_hooks: recorded {', '.join(there)}, now {', '.join(here)}; use the same "
            "hooks in the same order"
        )
    for hook, was in zip(present, stored, strict=True):
        now = _arrays(hook)
        for name in CHOSEN:
            if name in was["buffers"] and not np.isclose(was["buffers"][name], now[name]).all():
                raise StateError(
                    f"{type(hook).__name__}.{name}: recorded {was['buffers'][name]}, now "
                    f"{now[name]} (in schnetpack's units)"
                )
