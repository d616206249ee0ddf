"""Explanations come back from a record as they were computed, in the precision that was stored."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdxai
from mdxai.attribution import Attribution
from mdxai.frame import Frame, Pairs
from mdxai.record import RecordError, RecordSettings, RunWriter, list_parts

from .conftest import ethanol_with, frames_of, heated, langevin, random_potential
from .synthetic_run import HEADER, PRINCIPLES, add_step, attribution_of, frame_at, write_run

EXACT = ("method", "unit", "gamma", "max_bias", "output", "numbers", "triples", "several_images")


def assert_recorded(found: Attribution, computed: Attribution, dtype: str = "float32") -> None:
    """Every field is the one computed; relevance and pair geometry are rounded to the dtype."""

    def same(name: str, left: object, right: object) -> None:
        if left is None or right is None:
            assert left is right, name
            return
        rounded = name not in EXACT and isinstance(right, np.ndarray) and right.dtype.kind == "f"
        right = right.astype(dtype).astype(float) if rounded else right
        np.testing.assert_array_equal(left, right, err_msg=name)

    for field in fields(Attribution):
        left, right = getattr(found, field.name), getattr(computed, field.name)
        if field.name == "pairs":
            for name in ("i", "j", "distances", "vectors"):
                same(name, getattr(left, name), getattr(right, name))
        else:
            same(field.name, left, right)


def recorded(path, frames, attributions, **options):
    """Write explained frames, committing now and then; return the run."""
    system = {"numbers": frames[0].numbers.tolist(), "masses_amu": frames[0].masses.tolist(),
              "cell_ang": frames[0].cell.tolist(), "pbc": frames[0].pbc.tolist()}  # fmt: skip
    writer = RunWriter(path, RecordSettings(**options))
    writer.start(HEADER | {"system": system}, PRINCIPLES)
    for row, (frame, attribution) in enumerate(zip(frames, attributions, strict=True)):
        writer.add_frame(frame, {})
        writer.add_attribution(frame, attribution)
        if row % 3 == 1:
            writer.commit(frame.step, {"row": row})
    writer.finish({}, None)
    return mdxai.open_run(path)


@pytest.fixture(scope="module")
def ethanol_frames() -> list[Frame]:
    return frames_of(langevin(heated(ethanol_with("schnet-ethanol", amplitude=0.03))), 6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("method", "options"),
    [("walks", {"body_order": 2}), ("walks", {"body_order": 3}), ("flow", {})],
    ids=["pairs", "triples", "flow"],
)
def test_explanations_of_a_model_come_back(tmp_path, ethanol_frames, method, options, dtype):
    explain = mdxai.attributor(ethanol_with().calc, method=method, **options)
    computed = [explain.attribute(frame) for frame in ethanol_frames]
    run = recorded(tmp_path / "run", ethanol_frames, computed, relevance_dtype=dtype)
    found = list(run.attributions())
    assert [step for step, _ in found] == [frame.step for frame in ethanol_frames]
    for (_, one), truth in zip(found, computed, strict=True):
        assert_recorded(one, truth, dtype)
    for frame, truth in list(zip(ethanol_frames, computed, strict=True))[::-2]:
        assert_recorded(run.attribution(frame.step), truth, dtype)
    residuals = run.explanations_table(["residual_eV"])["residual_eV"].to_pylist()
    assert residuals == [truth.residual for truth in computed]
    assert (run.triples_table().num_rows > 0) == (options.get("body_order") == 3)


def test_flow_between_periodic_images_comes_back(tmp_path):
    from ase.build import bulk

    from mdxai.calculators.network_calculator import NetworkCalculator

    atoms = bulk("C", "diamond", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = NetworkCalculator(random_potential("SchNet", 3, cutoff=3.0))
    frame = Frame.from_atoms(atoms)
    for method in ("flow", "walks"):
        truth = mdxai.attributor(atoms.calc, method=method).attribute(frame)
        run = recorded(tmp_path / method, [frame], [truth])
        assert_recorded(run.attribution(0), truth)


def test_a_monitored_run_holds_the_explanations_that_its_principles_saw(tmp_path):
    dynamics = langevin(heated(ethanol_with("schnet-ethanol", amplitude=0.03)))
    seen = {}
    with mdxai.Monitor(dynamics, tmp_path / "run", attribute_every=4, report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.attach(lambda: seen.update({dynamics.nsteps // 4 * 4: monitor.last_attribution}))
        dynamics.run(12)
    run = mdxai.open_run(tmp_path / "run")
    assert [step for step, _ in run.attributions()] == [0, 4, 8, 12]
    for step, one in run.attributions():
        assert_recorded(one, seen[step])


@st.composite
def attributions(draw) -> Attribution:
    """Explanations of nine atoms of any shape that an attributor may give."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    n_pairs, n_triples = draw(st.integers(0, 40)), draw(st.integers(0, 20))
    method = draw(st.sampled_from(["walks", "flow"]))
    i = rng.integers(0, 8, n_pairs)
    pairs = Pairs(i, rng.integers(i + 1, 9), rng.normal(size=(n_pairs, 3)), rng.random(n_pairs))
    several = rng.random(n_pairs) < 0.5 if n_pairs and draw(st.booleans()) else None
    layers = rng.normal(size=(3, n_pairs)) if n_pairs and method == "flow" else None
    one_body = np.full(9, np.nan) if draw(st.booleans()) else rng.normal(size=9)
    return Attribution(
        method, draw(st.sampled_from([0.1, np.nan])), rng.normal(), rng.normal(size=9), one_body,
        pairs, rng.normal(size=n_pairs), rng.normal(size=draw(st.integers(1, 4))),
        rng.integers(0, 9, (n_triples, 3)), rng.normal(size=n_triples), several, layers,
        numbers=frame_at(0).numbers,
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(attributions(), min_size=1, max_size=8), st.sampled_from(["float32", "float64"]))
def test_any_explanation_comes_back(tmp_path_factory, computed, dtype):
    computed = [one for one in computed if one.method == computed[0].method]
    frames = [frame_at(3 * row) for row in range(len(computed))]
    path = tmp_path_factory.mktemp("explanations") / "run"
    run = recorded(path, frames, computed, relevance_dtype=dtype)
    for (_, one), truth in zip(run.attributions(), computed, strict=True):
        assert_recorded(one, truth, dtype)


def test_what_is_not_kept_is_nan_or_absent(tmp_path):
    options = {"keep_atoms": False, "keep_vectors": False, "keep_triples": False, "top_pairs": 3}
    run = recorded(tmp_path / "run", [frame_at(5)], [attribution_of(frame_at(5))], **options)
    found, truth = run.attribution(5), attribution_of(frame_at(5))
    strongest = np.sort(np.argsort(-np.abs(truth.strengths))[:3])
    assert np.isnan(found.atoms).all()
    assert np.isnan(found.one_body).all()
    assert np.isnan(found.pairs.vectors).all()
    np.testing.assert_array_equal(found.pairs.i, truth.pairs.i[strongest])
    np.testing.assert_array_equal(found.strengths, truth.strengths[strongest].astype(np.float32))
    assert len(found.triples) == run.triples_table().num_rows == 0
    assert run.explanations_table()["residual_eV"].to_pylist() == [truth.residual]
    assert "relevance_per_atom" not in run.to_xarray()


def test_explanations_are_read_while_the_run_is_written(tmp_path):
    writer = RunWriter(tmp_path / "run", RecordSettings())
    writer.start(HEADER, PRINCIPLES)
    run, reading, read = None, None, []
    for step in range(120):
        add_step(writer, step)
        if step % 10 == 9:
            writer.commit(step)
        if step == 40:
            run = mdxai.open_run(tmp_path / "run")
            reading = run.attributions()
        if step > 40 and step % 5 == 0:
            read += [next(reading, None)]
    writer.finish({}, None)
    steps = [found[0] for found in read if found is not None]
    assert steps == list(range(0, 5 * len(steps), 5))
    assert len(steps) > 4
    assert [step for step, _ in run.attributions()] == list(range(0, 120, 5))


def test_asking_for_a_step_without_explanation_is_an_error(tmp_path):
    write_run(tmp_path / "run", 20)
    run = mdxai.open_run(tmp_path / "run")
    with pytest.raises(RecordError, match=r"step 7 of .* was not explained"):
        run.attribution(7)
    with pytest.raises(RecordError, match=r"step 999 of .* was not explained"):
        run.attribution(999)


def test_missing_pairs_are_an_error(tmp_path):
    write_run(tmp_path / "run", 20, finish=False)
    run = mdxai.open_run(tmp_path / "run")
    for part in list_parts(tmp_path / "run", "pairs"):
        part.path.unlink()
    with pytest.raises(RecordError, match="step 5 was recorded with 36 pairs, of which 0 are left"):
        run.attribution(5)


def test_other_measures_of_pairs_are_refused(tmp_path):
    writer = RunWriter(tmp_path / "run", RecordSettings())
    writer.start(HEADER, PRINCIPLES)
    hessian = replace(attribution_of(frame_at(0)), method="hessian")
    with pytest.raises(RecordError, match="two_body or flow of pairs, got hessian_norm"):
        writer.add_attribution(frame_at(0), hessian)
    writer.close()
