"""Tensor functions recorded as one graph, and compiled from it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

Function = Callable[..., tuple[Tensor, ...]]  # of tensors of fixed shapes

_ONE_AT_A_TIME = threading.RLock()  # torch replaces functions of whole modules while it records


def traced(eager: Function, examples: Sequence[Tensor]) -> Function:
    """Return the same operations on inputs like `examples`, recorded as one graph.

    The graph gives the same bits without autograd's bookkeeping, which takes a sixth of the time
    for a small molecule. Recording takes half a second.
    """
    return torch.inference_mode()(_record(eager, examples))


def compiled_or_eager(eager: Function, examples: Sequence[Tensor]) -> Function:
    """Return a compiled version of `eager` for inputs like `examples`, or `eager` with a warning.

    The graph, gradients included, goes straight to the compiler behind `torch.compile`. This
    avoids dynamo's guards, which cost as much as the arithmetic for small molecules. The compiled
    code is cached on disk.
    """
    from torch._inductor import standalone_compile

    try:
        with _ONE_AT_A_TIME, torch.inference_mode(False):
            inputs: list[Any] = [_copied(example) for example in examples]
            graph: Any = standalone_compile(
                _record(eager, inputs), inputs, dynamic_shapes="from_example_inputs"
            )
        with torch.no_grad():
            graph(*inputs)
    except Exception as error:  # of any part of the toolchain; the eager function always works
        reason = str(error).strip().splitlines()
        warnings.warn(
            "torch.compile failed, so the calculator runs uncompiled (slower, same results). "
            f"It needs a working C++ compiler. The error was: {reason[0] if reason else error!r}",
            RuntimeWarning,
            stacklevel=2,
        )
        return eager

    def evaluate(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(graph(*tensors))

    return evaluate


def _copied(tensor: Tensor) -> Tensor:
    """Return a copy with the same strides, which compiled code relies on."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _record(eager: Function, examples: Sequence[Tensor]) -> GraphModule:
    from torch.fx.experimental.proxy_tensor import make_fx

    # A lambda, because the graph would otherwise keep the annotations of `eager`, which the cache
    # of compiled code cannot store.
    with _ONE_AT_A_TIME:
        return make_fx(lambda *tensors: eager(*tensors))(*examples)  # noqa: PLW0108
