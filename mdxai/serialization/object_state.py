"""Objects ↔ plain data: what a checkpoint holds of a monitor.

`snapshot` turns an object into mappings with string keys, lists, plain values and NumPy arrays;
`restore` puts these into an object that the same constructor has made. Nothing is skipped in
silence: what cannot be stored raises an error that names the attribute. Functions, calculators,
potentials and attributors stay as the constructor was given them (those with `state()` are asked
for it), and so do the attributes that a class lists in `_not_state`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from mdxai.serialization.encoding import StateError

PACKAGES = ("mdxai",)
_MISSING: Any = object()
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial, type)
_PLAIN = (bool, int, float, str)
_CONTAINERS = (list, dict, set, deque, np.ndarray, np.random.Generator, np.random.RandomState)


def snapshot(thing: Any, packages: tuple[str, ...] = PACKAGES) -> Any:
    """Return the state of an object, copied now.

    Args:
        thing: plain values, NumPy arrays and generators, containers of these, and objects of the
            packages, nested and shared in any way.
        packages: whose objects are looked into.

    Raises:
        StateError: naming the attribute that holds something else.
    """
    return _SnapshotWalk(packages).take(thing, type(thing).__name__)


def restore(thing: Any, state: Any, packages: tuple[str, ...] = PACKAGES) -> Any:
    """Put a state into an object that was constructed in the same way; return the object.

    Objects are changed in place. Plain values, arrays and containers are returned as new ones.

    Raises:
        StateError: where the state belongs to something else.
    """
    return _RestoreWalk(packages).give(thing, state, type(thing).__name__)


class _SnapshotWalk:
    """One walk over objects. A shared object is written once and referred to afterwards."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is recycled during the walk
        self._memory: list[tuple[np.ndarray[Any, Any], str]] = []

    def take(self, value: Any, where: str) -> Any:  # noqa: PLR0911 (a case a line)
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, np.generic):
            return value if not value.dtype.hasobject else self._refuse(value, where)
        if type(value) is tuple:
            return {"tuple": self._each(value, where)}
        if type(value) is bytes:
            return {"bytes": np.frombuffer(value, dtype=np.uint8)}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if is_kept(value):
            return self._kept(value, where)
        if id(value) in self._numbers:
            return {"same": self._numbers[id(value)]}
        self._numbers[id(value)] = len(self._alive)
        self._alive.append(value)
        return self._first_time(value, where)

    def _first_time(self, value: Any, where: str) -> Any:  # noqa: PLR0911 (a case a line)
        if type(value) is np.ndarray:
            return self._array(value, where)
        if type(value) is list:
            return self._each(value, where)
        if type(value) is dict:
            pairs = [
                [self.take(k, f"{where}'s key {k!r}"), self.take(v, f"{where}[{k!r}]")]
                for k, v in value.items()
            ]
            return {"dict": pairs}
        if type(value) in (set, frozenset):
            entries = sorted(value, key=repr)
            return {"set": self._each(entries, where), "frozen": type(value) is frozenset}
        if type(value) is deque:
            return {"deque": self._each(value, where), "maxlen": value.maxlen}
        if (generator := _generator_state(value)) is not None:
            return generator
        if self._ours(value):
            return self._object(value, where)
        return self._refuse(value, where)

    def _each(self, values: Any, where: str) -> list[Any]:
        return [self.take(entry, f"{where}[{n}]") for n, entry in enumerate(values)]

    def _array(self, value: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
        if value.dtype.hasobject:
            self._refuse(value, where)
        if value.flags.writeable and value.size:
            for other, there in self._memory:
                if np.shares_memory(value, other):
                    raise StateError(
                        f"{where} and {there} are two views of the same memory and would be "
                        "separate arrays once restored; give the class state() and from_state(), "
                        "or list one of them in _not_state"
                    )
            self._memory.append((value, where))
        return value.copy(order="K")

    def _ours(self, value: Any) -> bool:
        return _top(type(value).__module__, self._packages)

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        name = _class_name(type(value))
        if isinstance(value, Exception):
            return {"error": name, "arguments": self._each(value.args, where)}
        if hasattr(type(value), "from_state"):
            return {"made": name, "state": dict(value.state())}
        attributes = {
            attribute: self.take(content, f"{where}.{attribute}")
            for attribute, content in _attributes(value)
        }
        return {"object": name, "attributes": attributes}

    def _kept(self, value: Any, where: str) -> dict[str, Any]:
        _refuse_hidden_state(value, where)
        has_state = hasattr(value, "state") and hasattr(value, "restore")
        known = {"kept": type(value).__name__}
        return known | ({"state": dict(value.state())} if has_state else {})

    def _refuse(self, value: Any, where: str) -> Any:
        kind = type(value)
        raise StateError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}, which no checkpoint can hold; "
            "keep numbers, strings, NumPy arrays and containers of these, or list the attribute "
            "in the class's _not_state if it follows from the constructor's arguments"
        )


class _RestoreWalk:
    """The same walk over a state, beside the objects that it goes into."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        self._known: list[Any] = []

    def give(self, target: Any, state: Any, where: str) -> Any:
        if isinstance(state, np.ndarray):
            return self._remember(state.copy(order="K"))
        if isinstance(state, list):
            return self._list(target, state, where)
        if not isinstance(state, Mapping):
            return state
        kind = next(iter(state), None)
        give = getattr(self, f"_{kind}", None) if kind in _KINDS else None
        if give is None:
            raise StateError(
                f"the state of {where} is malformed: expected one of {', '.join(sorted(_KINDS))}, "
                f"got {list(state)}"
            )
        return give(target, state, where)

    def _remember(self, value: Any) -> Any:
        self._known.append(value)
        return value

    def _list(self, target: Any, state: list[Any], where: str) -> list[Any]:
        whole: list[Any] = self._remember([])
        whole += self._each(target, state, where)
        return whole

    def _each(self, target: Any, state: list[Any], where: str) -> list[Any]:
        there = list(target) if isinstance(target, list | tuple | deque) else []
        there += [_MISSING] * (len(state) - len(there))
        return [
            self.give(old, new, f"{where}[{n}]")
            for n, (old, new) in enumerate(zip(there, state, strict=False))
        ]

    def _tuple(self, target: Any, state: Mapping[str, Any], where: str) -> tuple[Any, ...]:
        return tuple(self._each(target, state["tuple"], where))

    def _bytes(self, target: Any, state: Mapping[str, Any], where: str) -> bytes:
        content: bytes = state["bytes"].tobytes()
        return content

    def _dtype(self, target: Any, state: Mapping[str, Any], where: str) -> np.dtype[Any]:
        kind: np.dtype[Any] = np.dtype(state["dtype"])
        return kind

    def _same(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        number = state["same"]
        if not 0 <= number < len(self._known) or self._known[number] is _MISSING:
            raise StateError(
                f"the state of {where} is malformed: it refers to object {number} of "
                f"{len(self._known)}"
            )
        return self._known[number]

    def _dict(self, target: Any, state: Mapping[str, Any], where: str) -> dict[Any, Any]:
        there = target if isinstance(target, dict) else {}
        whole: dict[Any, Any] = self._remember({})
        for key_state, value in state["dict"]:
            key = self.give(_MISSING, key_state, f"{where}'s key")
            whole[key] = self.give(there.get(key, _MISSING), value, f"{where}[{key!r}]")
        return whole

    def _set(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        place = self._reserve()
        kind = frozenset if state["frozen"] else set
        self._known[place] = kind(self._each(_MISSING, state["set"], where))
        return self._known[place]

    def _deque(self, target: Any, state: Mapping[str, Any], where: str) -> deque[Any]:
        whole: deque[Any] = self._remember(deque(maxlen=state["maxlen"]))
        whole.extend(self._each(target, state["deque"], where))
        return whole

    def _reserve(self) -> int:
        self._known.append(_MISSING)
        return len(self._known) - 1

    def _generator(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        content = state["generator"]
        if not isinstance(target, np.random.Generator):
            target = np.random.Generator(_bit_generator(content, where))
        if type(target.bit_generator).__name__ != content["bit_generator"]:
            raise StateError(
                f"{where} draws from {type(target.bit_generator).__name__}, its state is that of "
                f"{content['bit_generator']}; construct it with the generator it had"
            )
        target.bit_generator.state = content
        return self._remember(target)

    def _random_state(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        if not isinstance(target, np.random.RandomState):
            bits = _bit_generator(state["random_state"], where)
            target = np.random.RandomState(bits)
        target.set_state(dict(state["random_state"]))
        return self._remember(target)

    def _numpy_random(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        np.random.set_state(dict(state["numpy_random"]))  # noqa: NPY002 (the global one is meant)
        return self._remember(np.random)

    def _kept(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        if target is _MISSING or target is None:
            raise StateError(f"{where} was a {state['kept']}; now it is missing")
        if "state" in state:
            target.restore(state["state"])
        return target

    def _error(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        place = self._reserve()
        self._known[place] = self._class(state["error"], where)(
            *self._each(_MISSING, state["arguments"], where)
        )
        return self._known[place]

    def _made(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        return self._remember(self._class(state["made"], where).from_state(state["state"]))

    def _object(self, target: Any, state: Mapping[str, Any], where: str) -> Any:
        kind = self._class(state["object"], where)
        place = self._reserve()
        if _is_frozen(kind):
            content = {
                name: self.give(_MISSING, entry, f"{where}.{name}")
                for name, entry in state["attributes"].items()
            }
            self._known[place] = kind(**content)
            return self._known[place]
        if type(target) is not kind:
            if self._ours(target):
                raise StateError(
                    f"{where} is a {type(target).__name__}, its state that of a {kind.__name__}; "
                    "restore into an object that was constructed in the same way"
                )
            target = kind.__new__(kind)
        self._known[place] = target
        self._fill(target, state["attributes"], where)
        return target

    def _ours(self, target: Any) -> bool:
        return target is not _MISSING and _top(type(target).__module__, self._packages)

    def _fill(self, target: Any, state: Mapping[str, Any], where: str) -> None:
        there = dict(_attributes(target))
        for name, content in state.items():
            value = self.give(there.pop(name, _MISSING), content, f"{where}.{name}")
            object.__setattr__(target, name, value)
        for name in there:  # set by the constructor, gone by the time of the snapshot
            object.__delattr__(target, name)

    def _class(self, name: str, where: str) -> Any:
        module, _, qualified = name.partition(":")
        if not _top(module, self._packages):
            raise StateError(f"the state of {where} names {name}, which is not part of mdxai")
        try:
            found: Any = sys.modules.get(module) or import_module(module)
            for part in qualified.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise StateError(
                f"the state of {where} names {name}, which this version of mdxai does not have"
            ) from error
        if not isinstance(found, type) or found.__module__ != module:
            raise StateError(f"the state of {where} names {name}, which is not a class")
        return found


_KINDS = frozenset(
    ["tuple", "bytes", "dtype", "same", "dict", "set", "deque", "generator", "random_state",
     "numpy_random", "kept", "error", "made", "object"]
)  # fmt: skip


def _is_frozen(kind: Any) -> bool:
    if issubclass(kind, tuple):
        return True
    return is_dataclass(kind) and bool(getattr(kind, "__dataclass_params__").frozen)  # noqa: B009


def is_kept(value: Any) -> bool:
    """Whether a value stays as the constructor was given it: functions, calculators, potentials,
    attributors, networks.
    """
    if isinstance(value, _FUNCTIONS):
        return True
    kind = type(value)
    return any(hasattr(kind, name) for name in ("evaluate", "attribute", "calculate", "forward"))


def _refuse_hidden_state(value: Any, where: str) -> None:
    """Refuse a function that closes over something mutable: its changes would be lost."""
    for cell in getattr(value, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # still empty
            continue
        frozen = isinstance(content, np.ndarray) and not content.flags.writeable
        if isinstance(content, _CONTAINERS) and not frozen:
            raise StateError(
                f"{where} is a function that closes over a {type(content).__name__}, whose changes "
                "no checkpoint would hold; keep it in an attribute of a class"
            )


def _generator_state(value: Any) -> dict[str, Any] | None:
    if value is np.random:
        return {"numpy_random": np.random.get_state(legacy=False)}  # noqa: NPY002
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, np.random.RandomState):
        return {"random_state": value.get_state(legacy=False)}
    return None


def _bit_generator(state: Mapping[str, Any], where: str) -> Any:
    name = str(state["bit_generator"])
    kind = getattr(np.random, name, None)
    if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
        raise StateError(f"the state of {where} names {name}, which is not a generator of NumPy")
    return kind()


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds by name: slots, fields and the rest."""
    left_out = getattr(type(value), "_not_state", ())
    names = [name for kind in type(value).__mro__ for name in _slots(kind)]
    names += getattr(value, "_fields", ())  # of a named tuple
    names += list(getattr(value, "__dict__", ()))
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.init or field.name in names]
        names += [name for name in getattr(value, "__dict__", ()) if name not in names]
    for name in dict.fromkeys(names):
        content = getattr(value, name, _MISSING)
        if name not in left_out and content is not _MISSING:
            yield name, content


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    every = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in every if name not in ("__dict__", "__weakref__"))


def _class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _top(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
