"""Tensor functions recorded as one graph, and compiled from it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

Function = Callable[..., tuple[Tensor, ...]]  # of tensors of fixed shapes

_ONE_AT_A_TIME = threading.RLock()  # torch replaces functions of whole modules while it records


def traced(eager: Function, examples: Sequence[Tensor]) -> Function:
    """Return the same operations on inputs like `examples`, recorded as one graph.

    The graph gives the same bits without autograd's bookkeeping, which takes a sixth of the time
    for a small molecule. Tensors that `eager` holds, such as weights, may change in place.

    Raises:
        RuntimeError: for a function whose operations depend on values of its tensors.
    """
    with _ONE_AT_A_TIME, _Recorder(examples) as recorder:
        results = eager(*examples)
    operations, held = recorder.finish(results)

    @torch.inference_mode()
    def evaluate(*tensors: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = operations(*tensors, *held)
        return result

    return evaluate


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


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes the operations that run while it is entered, gradients included, into a graph.

    `make_fx` does the same for the compiler, and loads the compiler: seconds and 170 MB.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = Graph()
        self._nodes: dict[int, Node] = {}  # of tensors, by id
        self._kept: list[Tensor] = []  # so that no id is used twice
        self._arguments = [self._graph.placeholder(f"input_{k}") for k in range(len(inputs))]
        self._held: list[Tensor] = []
        for tensor, argument in zip(inputs, self._arguments, strict=True):
            self._know(tensor, argument)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would load it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and write it down."""
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value that is read from a tensor cannot be recorded")
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.detach.default:  # which tells autograd something, and no more
            self._know(result, self._node_of(args[0]))
            return result
        given = tree_map(self._node_of, (args, kwargs or {}))
        node = self._graph.call_function(func, *given)
        if isinstance(result, Tensor):
            self._know(result, node)
        else:
            for number, part in enumerate(result):
                self._know(part, self._graph.call_function(getitem, (node, number)))
        return result

    def _know(self, tensor: Tensor, node: Node) -> None:
        self._nodes[id(tensor)] = node
        self._kept.append(tensor)

    def _node_of(self, value: Any) -> Any:
        """Return the node of a tensor; other values as they are."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:  # a weight, an index: the same at every call
            with self._graph.inserting_after(self._arguments[-1]):
                self._arguments.append(self._graph.placeholder(f"held_{len(self._held)}"))
            self._held.append(value)
            self._know(value, self._arguments[-1])
        return self._nodes[id(value)]

    def finish(self, results: Sequence[Tensor]) -> tuple[Function, list[Tensor]]:
        """Return the operations as a function of the inputs and what they hold, and that."""
        self._graph.output(tuple(map(self._node_of, results)))
        return GraphModule({}, self._graph).forward, self._held
