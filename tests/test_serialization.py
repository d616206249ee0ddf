"""Objects ↔ plain data ↔ bytes: a restored object continues as the original would."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mdxai.attribution import attributor
from mdxai.calculators import twin_of
from mdxai.engines import AseEngine
from mdxai.principles import explanation_principles, principles_for
from mdxai.principles.probes.probe_registry import probe_principles
from mdxai.serialization import StateError, as_json, decode, encode, pack, restore, snapshot
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS
from mdxai.stability.verdict import VerdictBuilder
from mdxai.statistics import BinnedMoments
from tests.conftest import copper, ethanol_with, heated, langevin

OURS = ("mdxai", "tests")


def stored(thing, packages=("mdxai",)):
    """Return a state as it comes back from a file."""
    return decode(encode(snapshot(thing, packages)))


@dataclass
class Inner:
    count: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    atoms: tuple[int, ...]
    array: np.ndarray


class Holder:
    def __init__(self):
        self.inner = Inner()
        self.shared = self.inner
        self.array = np.arange(3.0)
        self.alias = self.array
        self.text, self.nothing, self.flag = "a", None, True
        self.numbers = [1, 2.5, np.float32(3), np.int64(4)]
        self.table = {("a", 1): self.inner, 2: {3: "x"}}
        self.ring = deque([1, 2], maxlen=2)
        self.kinds = {1, 2}
        self.raw = b"\x00\xff"
        self.rng = np.random.default_rng(1)
        self.old = np.random.RandomState(2)
        self.found = None
        self.bath = lambda: 300.0


def used():
    holder = Holder()
    holder.inner.count = 7
    holder.array[1] = np.nan
    holder.text = "ä"
    holder.numbers += [-0.0, float("inf"), 10**30]
    holder.ring.append(3)
    holder.rng.normal(size=3)
    holder.old.normal(size=3)
    holder.found = Value("v", (1, 2), np.ones((2, 2), order="F"))
    holder.more = holder.found
    return holder


def test_all_kinds_of_state_come_back_and_sharing_stays():
    there, fresh = used(), Holder()
    restore(fresh, stored(there, OURS), OURS)
    assert fresh.inner is fresh.shared is fresh.table["a", 1]
    assert fresh.array is fresh.alias
    assert fresh.more is fresh.found
    assert fresh.inner.count == 7
    np.testing.assert_array_equal(fresh.array, there.array)
    assert fresh.numbers == there.numbers
    assert [type(n) for n in fresh.numbers] == [type(n) for n in there.numbers]
    assert np.signbit(fresh.numbers[4])
    assert (fresh.text, fresh.nothing, fresh.flag, fresh.raw) == ("ä", None, True, b"\x00\xff")
    assert (fresh.ring, fresh.ring.maxlen, fresh.kinds) == (there.ring, 2, {1, 2})
    assert fresh.table[2] == {3: "x"}
    assert fresh.found.array.flags.f_contiguous
    assert fresh.found.atoms == (1, 2)
    np.testing.assert_array_equal(fresh.rng.normal(size=5), there.rng.normal(size=5))
    np.testing.assert_array_equal(fresh.old.normal(size=5), there.old.normal(size=5))
    assert fresh.bath() == 300.0


def test_a_snapshot_is_a_copy():
    holder = used()
    state = snapshot(holder, OURS)
    holder.array[:] = 5
    holder.rng.normal()
    fresh = restore(Holder(), state, OURS)
    assert fresh.array[0] == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"Holder\.odd is a builtins.object, which no checkpoint can hold"),
        (1 + 2j, r"Holder\.odd is a builtins.complex"),
        ([{"a": iter(())}], r"Holder\.odd\[0\]\['a'\] is a builtins.tuple_iterator"),
        (np.array([None]), r"Holder\.odd is a numpy.ndarray"),
    ],
)
def test_unknown_objects_are_refused_by_name(value, message):
    holder = Holder()
    holder.odd = value
    with pytest.raises(StateError, match=message):
        snapshot(holder, OURS)


def test_closures_and_views_are_refused():
    holder, seen = Holder(), []
    holder.bath = lambda: seen
    with pytest.raises(StateError, match=r"Holder\.bath is a function that closes over a list"):
        snapshot(holder, OURS)
    holder = Holder()
    holder.view = holder.array[1:]
    with pytest.raises(StateError, match=r"two views of the same memory"):
        snapshot(holder, OURS)


def test_a_state_of_something_else_is_refused():
    with pytest.raises(StateError, match=r"Holder is a Holder, its state that of a Inner"):
        restore(Holder(), snapshot(Inner(), OURS), OURS)
    with pytest.raises(StateError, match="which is not part of mdxai"):
        restore(Holder(), {"object": "os:system", "attributes": {}}, OURS)
    with pytest.raises(StateError, match="which this version of mdxai does not have"):
        restore(Holder(), {"object": "mdxai.frame:Nothing", "attributes": {}}, OURS)
    with pytest.raises(StateError, match="is malformed: expected one of"):
        restore(Holder(), {"surprise": 1}, OURS)
    holder = Holder()
    holder.rng = np.random.Generator(np.random.MT19937(1))
    with pytest.raises(StateError, match="draws from MT19937, its state is that of PCG64"):
        restore(holder, snapshot(Holder(), OURS), OURS)


@dataclass
class _Sparing:
    kept: int = 1
    left: list[int] = field(default_factory=list)
    _not_state = ("left",)


def test_attributes_listed_as_not_state_are_kept():
    there, fresh = _Sparing(2, [1]), _Sparing(3, [9])
    restore(fresh, stored(there, OURS), OURS)
    assert (fresh.kept, fresh.left) == (2, [9])


def ethanol(kind="painn-ethanol", timestep=0.5):
    rng = np.random.default_rng(3)
    atoms = heated(ethanol_with(kind, amplitude=0.03), 500, rng)
    return langevin(atoms, 500, timestep=timestep, friction=0.02, rng=rng)


def crystal():
    rng = np.random.default_rng(3)
    return langevin(heated(copper(), 500, rng), 500, timestep=4.0, friction=0.02, rng=rng)


def frames_of(dynamics, n, explain_every=0):
    engine = AseEngine(dynamics)
    explain = attributor(dynamics.atoms.calc) if explain_every else None
    seen = []

    def look():
        frame = engine.frame()
        due = explain is not None and frame.step % explain_every == 0
        seen.append((frame, explain.attribute(frame) if due else None))

    dynamics.attach(look)
    dynamics.run(n)
    return seen


def principles(first, dynamics, learned):
    engine = AseEngine(dynamics)
    card = getattr(dynamics.atoms.calc, "card", None)
    found = principles_for(first, card, engine.describe())[0]
    if learned:
        found += explanation_principles(first, card.cutoff)[0]
    return found


def judged(principles, builder, seen):
    found = []
    for frame, attribution in seen:
        deviations = {p.name: p.deviate(frame, attribution) for p in principles}
        builder.add(frame.time, deviations)
        found.append(deviations)
    return found


@pytest.mark.parametrize("make", [ethanol, crystal])
def test_restored_principles_give_the_same_deviations(make):
    """Checked before, at and after their refits: explained 20 times at frame 60, 200 at 600."""
    learned = make is ethanol
    dynamics = make()
    seen = frames_of(dynamics, 640 if learned else 150, 3 if learned else 0)
    first = seen[0][0]
    said: set[str] = set()
    for cut in (1, 97, len(seen) - 10):
        whole, builder = principles(first, dynamics, learned), VerdictBuilder(THRESHOLDS)
        judged(whole, builder, seen[:cut])
        state = stored({"principles": whole, "builder": builder})
        after = judged(whole, builder, seen[cut:])
        again, other_builder = principles(first, dynamics, learned), VerdictBuilder(THRESHOLDS)
        restore({"principles": again, "builder": other_builder}, state)
        assert repr(judged(again, other_builder, seen[cut:])) == repr(after)
        assert repr(other_builder.verdict()) == repr(builder.verdict())
        assert repr(snapshot(again)) == repr(snapshot(whole))
        said |= {name for deviations in after for name, d in deviations.items() if d is not None}
    assert len(said) >= (25 if learned else 7)


@pytest.mark.slow
def test_restored_probes_give_the_same_deviations():
    dynamics = ethanol("schnet-ethanol")
    seen = frames_of(dynamics, 3)
    sets = [probe_principles(twin_of(dynamics.atoms.calc), seen[0][0])[0] for _ in range(2)]
    builders = [VerdictBuilder(PROBE_THRESHOLDS), VerdictBuilder(PROBE_THRESHOLDS)]
    judged(sets[0], builders[0], seen[:1])
    restore(sets[1], stored(sets[0]))
    assert repr(judged(sets[1], builders[1], seen[3:])) == repr(
        judged(sets[0], builders[0], seen[3:])
    )


def test_a_restored_profile_continues_bit_by_bit():
    rng = np.random.default_rng(0)

    def some():
        return rng.integers(0, 2, 500), rng.uniform(0, 5, 500), rng.normal(size=500)

    profile = BinnedMoments(("a", "b"), 5.0)
    profile.update(*some())
    again = restore({"profile": None}, stored({"profile": profile}))["profile"]
    more = some()
    profile.update(*more)
    again.update(*more)
    np.testing.assert_array_equal(again.mean, profile.mean)
    np.testing.assert_array_equal(again.variance, profile.variance)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ARRAYS = npst.arrays(
    npst.scalar_dtypes() | npst.unicode_string_dtypes(), npst.array_shapes(min_dims=0, min_side=0)
)
STATES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(one, float):
        assert np.float64(one).tobytes() == np.float64(other).tobytes()
    else:
        assert one == other


@settings(max_examples=60, deadline=None)
@given(STATES)
def test_states_come_back_bit_for_bit(state):
    assert_same(decode(encode(state)), state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [object()]}, r"state.a\[0\] is a object"),
        ({"a": np.array([None])}, "state.a is an array of objects"),
        ({"a": {1: 2}}, "state.a has keys that are not text"),
    ],
)
def test_states_that_cannot_be_stored_are_refused(state, message):
    with pytest.raises(StateError, match=message):
        encode(state)


def test_equal_states_give_equal_bytes():
    one, other = ({"a": used().array, "b": [1, 2.5, "ä"]} for _ in range(2))
    assert encode(one) == encode(other)


def test_packed_data_is_a_copy_and_may_be_part_of_other_data():
    moving = np.arange(3.0)
    packed = pack({"moving": moving})
    moving += 1
    state = decode(encode({"before": np.ones(2), "packed": packed, "after": moving}))
    assert state["packed"]["moving"].tolist() == [0.0, 1.0, 2.0]
    assert state["before"].tolist() == [1.0, 1.0]
    assert state["after"].tolist() == [1.0, 2.0, 3.0]


def test_bytes_that_are_not_whole_are_refused():
    content = encode({"a": np.arange(5)})
    for damaged in (content[:-1], b"", b"x" + content[1:]):
        with pytest.raises(StateError, match="SHA-256 is not the one it ends with"):
            decode(damaged)


def test_json_has_no_numbers_that_are_not_finite():
    value = {1: np.array([1.0, np.nan]), "b": (np.float32(np.inf), np.int64(3)), "c": [None, True]}
    assert as_json(value) == {"1": [1.0, None], "b": [None, 3], "c": [None, True]}
