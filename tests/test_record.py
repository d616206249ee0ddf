"""The record: what goes in comes out, once, whenever it is read and however it was cut."""

from __future__ import annotations

import threading
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import mdxai
from mdxai.record import (
    Checkpoint,
    RecordError,
    RecordSettings,
    RecordWarning,
    RunWriter,
    differences,
    latest_checkpoint,
    list_checkpoints,
    list_parts,
    read_checkpoint,
    write_checkpoint,
)
from mdxai.record.durable_files import supersede
from mdxai.record.layout import BY_STEP, ROWS

from .synthetic_run import (
    HEADER,
    MASSES,
    NUMBERS,
    PRINCIPLES,
    add_step,
    attribution_of,
    deviations_at,
    frame_at,
    state_at,
    write_run,
)


def assert_complete(path, steps):
    """Every number of the record follows from its step, and each step is there once."""
    run = mdxai.open_run(path)
    rows = run.frames_table().to_pylist()
    assert [row["step"] for row in rows] == list(range(steps))
    for row in rows:
        frame = frame_at(row["step"])
        assert row["potential_energy_eV"] == frame.energy
        kinetic = row["kinetic_energy_eV"], row["temperature_K"]
        assert kinetic == pytest.approx((frame.kinetic_energy, frame.temperature), rel=1e-13)
        for name, deviation in deviations_at(row["step"]).items():
            atoms = row[f"{name}_atoms"]
            if deviation is None:
                assert row[name] is None
                assert atoms is None
            else:
                np.testing.assert_equal(row[name], deviation.value)
                assert tuple(atoms) == deviation.atoms
    trajectory = list(run.frames())
    assert [frame.step for frame in trajectory] == list(range(steps)[-len(trajectory) :])
    for frame in trajectory:
        truth = frame_at(frame.step)
        for name in ("positions", "velocities", "forces"):
            recorded = getattr(truth, name).astype(np.float32).astype(float)
            np.testing.assert_array_equal(getattr(frame, name), recorded)
        assert (frame.time, frame.energy) == (truth.time, truth.energy)
    assert_explanations_complete(run, steps)
    events = run.events_table().to_pylist()
    assert [event["step"] for event in events] == list(range(4, steps, 9))
    assert [event["number"] for event in events] == list(range(len(events)))


def assert_explanations_complete(run, steps):
    pairs = run.pairs_table()
    truth = [attribution_of(frame_at(step)) for step in range(0, steps, 5)]
    np.testing.assert_array_equal(pairs["step"], np.repeat(np.arange(0, steps, 5), 36))
    strengths = np.concatenate([t.strengths for t in truth]).astype(np.float32)
    np.testing.assert_array_equal(pairs["two_body_eV"], strengths)
    np.testing.assert_array_equal(pairs["j"], np.concatenate([t.pairs.j for t in truth]))
    triples = run.triples_table().to_pandas()
    assert len(triples) == sum(len(t.triples) for t in truth)
    for step, found in run.attributions():
        expected = attribution_of(frame_at(step))
        assert (found.output, found.numbers.tolist()) == (expected.output, NUMBERS.tolist())
        np.testing.assert_array_equal(found.triples, expected.triples)
        for name in ("atoms", "one_body", "by_body_order", "strengths", "three_body"):
            truth_of = getattr(expected, name).astype(np.float32)
            np.testing.assert_array_equal(getattr(found, name), truth_of)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(steps=st.integers(1, 70), commit_every=st.integers(1, 40), finish=st.booleans())
def test_recorded_rows_are_read_back_unchanged(tmp_path_factory, steps, commit_every, finish):
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, steps, commit_every, finish)
    assert_complete(path, steps)
    if finish:
        assert mdxai.open_run(path).verdict["stability"] == "stable"
        assert all(len(list_parts(path, kind)) <= 1 for kind in ROWS if kind != "trajectory")


def test_readers_see_each_row_once_during_a_merge(tmp_path):
    """The small parts of a merge that was cut short are put back beside the merged one."""
    path = tmp_path / "run"
    write_run(path, 40, 3, finish=False)
    small = {p.name: p.read_bytes() for p in path.glob("*.parquet")}
    write_run(tmp_path / "other", 40, 3)
    for part in (tmp_path / "other").glob("*.parquet"):
        small.setdefault(part.name, part.read_bytes())
    for name, content in small.items():
        (path / name).write_bytes(content)
    assert_complete(path, 40)


def test_a_run_is_readable_while_it_is_written(tmp_path):
    path, failures, readings = tmp_path / "run", [], []
    started, over = threading.Event(), threading.Event()

    def read():
        started.wait()
        while not over.is_set():
            try:
                run = mdxai.open_run(path)
                steps = [s for t in run.tables("frames", ["step"]) for s in t["step"].to_pylist()]
                frames = [frame.step for frame in run.frames()]
                for seen in (steps, frames):
                    assert seen == list(range(len(seen)))
                readings.append(len(steps))
            except Exception as error:
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    writer = RunWriter(path, RecordSettings(rows_per_part=5))
    writer.start(HEADER, PRINCIPLES)
    started.set()
    for step in range(300):
        add_step(writer, step)
        if writer.due(step):
            writer.commit(step, state_at(step))
    writer.finish({}, None)
    over.set()
    reader.join()
    assert not failures
    assert readings == sorted(readings)
    assert_complete(path, 300)


@pytest.mark.parametrize("commit_every", [3, 10])
def test_resumed_record_equals_the_uninterrupted_one(tmp_path, commit_every):
    """Cut at each of the last checkpoints, also an older one, with parts merged across it."""
    for back in range(3):
        path = tmp_path / f"{commit_every}-{back}"
        write_run(path, 50, commit_every, finish=back % 2 == 1)
        checkpoint = read_checkpoint(list_checkpoints(path)[-1 - back])
        np.testing.assert_equal(dict(checkpoint.state), state_at(checkpoint.step))
        writer = RunWriter(path, RecordSettings())
        writer.resume(checkpoint)
        with pytest.raises(RecordError, match=r"no verdict\.json yet"):
            _ = mdxai.open_run(path).verdict
        assert_complete(path, checkpoint.step + 1)
        for step in range(checkpoint.step + 1, 80):
            add_step(writer, step)
        with pytest.raises(RecordError, match="cannot be recorded after those of step 79"):
            add_step(writer, 79)
        writer.finish({"stability": "stable"}, None)
        assert_complete(path, 80)


def test_an_open_writer_can_return_to_its_last_checkpoint(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.start(HEADER, PRINCIPLES)
    for step in range(30):
        add_step(writer, step)
        if step == 12:
            writer.commit(step, state_at(step))
    writer.commit(29)
    writer.resume(latest_checkpoint(tmp_path / "run"))
    assert list((tmp_path / "run").glob("*.orphan"))
    for step in range(13, 40):
        add_step(writer, step)
    writer.finish({}, None)
    assert_complete(tmp_path / "run", 40)
    assert not list((tmp_path / "run").glob("*.orphan"))  # repeated, row by row


@pytest.mark.parametrize("kind", ROWS)
def test_superseded_rows_that_a_resumed_run_did_not_repeat_are_kept(tmp_path, kind):
    """Where the resumed run differs, the earlier rows stay; repeated ones are deleted."""
    path = tmp_path / "run"
    write_run(path, 30, 10, finish=False)
    writer = RunWriter(path, RecordSettings())
    writer.resume(read_checkpoint(list_checkpoints(path)[0]))
    change = {
        "frames": lambda frame: replace(frame, energy=1.0),
        "trajectory": lambda frame: replace(frame, forces=frame.forces + 1.0),
        "pairs": lambda frame: replace(frame, positions=frame.positions + frame.positions**2),
    }.get(kind, lambda frame: frame)
    explain = {
        "explanations": lambda one: replace(one, output=7.0),
        "triples": lambda one: replace(one, three_body=one.three_body + 1.0),
    }.get(kind, lambda one: one)
    for step in range(10, 30):
        frame = change(frame_at(step)) if step == 25 else frame_at(step)
        writer.add_frame(frame, deviations_at(step))
        if step % 5 == 0:
            one = attribution_of(frame)
            writer.add_attribution(frame, explain(one) if step == 25 else one)
        if step % 9 == 4:
            writer.add_event(step, frame.time, "other" if kind == "events" else "fourth",
                             {"step": step, "all": np.arange(2)})  # fmt: skip
    writer.finish({}, None)
    changed = {"frames": {"frames", "trajectory"}, "pairs": {"pairs", "trajectory"}}
    left = {p.name.partition("-")[0] for p in path.glob("*.orphan")}
    assert left == {*changed.get(kind, {kind}), "checkpoint"}


def test_what_is_supersede_twice_under_one_name_is_kept_twice(tmp_path):
    for content in ("one", "two", "two"):
        (tmp_path / "blackbox-7.extxyz").write_text(content)
        supersede(tmp_path / "blackbox-7.extxyz")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"blackbox-7.extxyz.orphan": "one", "blackbox-7.extxyz.2.orphan": "two"}


def test_retention_keeps_the_last_frames(tmp_path):
    path = tmp_path / "run"
    write_run(path, 120, 5, retain=17, keep_checkpoints=2, finish=False)
    kept = [frame.step for frame in mdxai.open_run(path).frames()]
    oldest = read_checkpoint(list_checkpoints(path)[0]).step
    assert kept == list(range(kept[0], 120))
    assert kept[0] <= oldest - 16
    assert kept[0] > 0
    writer = RunWriter(path, RecordSettings(retain=17))
    writer.resume(read_checkpoint(list_checkpoints(path)[0]))
    for step in range(oldest + 1, 130):
        add_step(writer, step)
    writer.finish({}, None)
    assert [frame.step for frame in mdxai.open_run(path).frames()] == list(range(113, 130))
    assert_complete(path, 130)


def test_settings_thin_frames_and_pairs_and_choose_the_precision(tmp_path):
    path = tmp_path / "run"
    write_run(path, 41, 10, frame_every=2, trajectory_every=4, top_pairs=3,
              trajectory_dtype="float16", relevance_dtype="float64")  # fmt: skip
    run = mdxai.open_run(path)
    assert run.to_dataframe()["step"].tolist() == list(range(0, 41, 2))
    assert [frame.step for frame in run.frames()] == list(range(0, 41, 4))
    np.testing.assert_allclose(run.frame(3).positions, frame_at(12).positions, rtol=1e-3, atol=1e-4)
    strengths = attribution_of(frame_at(5)).strengths
    strongest = np.sort(np.abs(strengths))[-3:]
    pairs = run.pairs_table().to_pandas()
    np.testing.assert_array_equal(np.sort(pairs[pairs.step == 5].two_body_eV.abs()), strongest)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_duckdb_and_pandas_read_the_parts(tmp_path, dtype):
    path = tmp_path / "run"
    write_run(path, 25, 6, finish=False, trajectory_dtype=dtype, relevance_dtype=dtype)
    counts = {"frames": 25, "trajectory": 25, "explanations": 5, "pairs": 5 * 36, "triples": 5,
              "events": 3}  # fmt: skip
    for kind, rows in counts.items():
        query = f"select count(*), max(step) from '{path}/{kind}-*.parquet'"
        assert duckdb.sql(query).fetchall()[0][0] == rows
    query = f"select positions[2] from '{path}/trajectory-*.parquet' order by step"
    second = [row[0] for row in duckdb.sql(query).fetchall()]
    truth = [frame_at(step).positions[0, 1].astype(dtype) for step in range(25)]
    np.testing.assert_array_equal(np.array(second, dtype=dtype), truth)
    frames = pd.concat([pd.read_parquet(p.path) for p in list_parts(path, "frames")])
    assert frames["principle1"].isna().sum() == sum(
        d["principle1"] is None or np.isnan(d["principle1"].value)
        for d in map(deviations_at, range(25))
    )


@pytest.mark.parametrize("picked", [slice(3, 40, 7), slice(-5, None), slice(None, None, 11)])
def test_frames_are_sliced_like_a_list(tmp_path, picked):
    write_run(tmp_path / "run", 60, 7, finish=False)
    run = mdxai.open_run(tmp_path / "run")
    steps = [f.step for f in run.frames(picked.start, picked.stop, picked.step)]
    assert steps == list(range(60))[picked]
    assert [run.frame(row).step for row in (59, 0, 33)] == [59, 0, 33]
    with pytest.raises(IndexError, match="no frame 60"):
        run.frame(60)
    with pytest.raises(RecordError, match="step must be positive"):
        run.frames(step=-1)


def test_the_xarray_dataset_holds_what_was_recorded(tmp_path):
    write_run(tmp_path / "run", 60, 7, finish=False, trajectory_every=2)
    data = mdxai.open_run(tmp_path / "run").to_xarray()
    assert dict(data.sizes) == {
        "frame": 60, "atom": 9, "xyz": 3, "explained": 12, "body_order": 4, "pair": 36
    }  # fmt: skip
    truth = np.array([frame_at(step).forces for step in range(0, 60, 2)]).astype(np.float32)
    np.testing.assert_array_equal(data.forces.values[::2], truth)
    assert np.isnan(data.forces.values[1::2]).all()
    np.testing.assert_array_equal(data.forces[8:20:4, [5, 2], 1], truth[4:10:2][:, [5, 2], 1])
    np.testing.assert_array_equal(data.forces[10, 3], truth[5, 3])
    strengths = [attribution_of(frame_at(step)).strengths for step in range(0, 60, 5)]
    np.testing.assert_array_equal(data.relevance, np.array(strengths).astype(np.float32))
    np.testing.assert_array_equal(
        data.distance[4], attribution_of(frame_at(20)).pairs.distances.astype(np.float32)
    )
    explained = [attribution_of(frame_at(step)) for step in range(0, 60, 5)]
    np.testing.assert_array_equal(data.explained_output, [one.output for one in explained])
    np.testing.assert_array_equal(data.explained_residual, [one.residual for one in explained])
    for name, field in (("per_atom", "atoms"), ("one_body", "one_body"),
                        ("by_body_order", "by_body_order")):  # fmt: skip
        truth = np.array([getattr(one, field) for one in explained]).astype(np.float32)
        np.testing.assert_array_equal(data[f"relevance_{name}"], truth)
        np.testing.assert_array_equal(data[f"relevance_{name}"][[7, 2], 1], truth[[7, 2], 1])


def test_the_cell_of_a_periodic_run_is_read_back(tmp_path):
    writer = RunWriter(tmp_path / "run")
    system = HEADER["system"] | {"pbc": [True] * 3}
    writer.start(HEADER | {"system": system}, PRINCIPLES)
    for step in range(5):
        writer.add_frame(frame_at(step, pbc=True), {})
    writer.finish({}, None)
    for frame in mdxai.open_run(tmp_path / "run").frames():
        np.testing.assert_array_equal(frame.cell, frame_at(frame.step, pbc=True).cell)
        np.testing.assert_array_equal(frame.masses, MASSES)
        np.testing.assert_array_equal(frame.numbers, NUMBERS)


def test_states_with_large_integers_and_generators_come_back(tmp_path):
    rng = np.random.default_rng(3)
    state = {"rng": rng.bit_generator.state, "huge": -(7**9000), "scalar": np.float32(1.5)}
    path = write_checkpoint(tmp_path, Checkpoint(12, state))
    read = read_checkpoint(path)
    assert read.step == 12
    assert read.state == state
    assert type(read.state["scalar"]) is np.float32


def test_a_checkpoint_holds_the_state_at_the_time_of_its_commit(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.start(HEADER, PRINCIPLES)
    add_step(writer, 0)
    moving = np.zeros(3)
    writer.commit(0, {"moving": moving})
    moving += 1
    writer.close()
    state = latest_checkpoint(tmp_path / "run").state
    np.testing.assert_array_equal(state["moving"], np.zeros(3))


def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path):
    write_run(tmp_path / "run", 30, 5)
    *_, older, newest = list_checkpoints(tmp_path / "run")
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(RecordWarning, match=f"{newest.name} is damaged"):
        assert latest_checkpoint(tmp_path / "run").step == read_checkpoint(older).step
    assert len(list_checkpoints(tmp_path / "run")) == 3


def test_differences_between_headers_are_listed():
    assert differences(HEADER, HEADER) == []
    changed = {
        **HEADER,
        "calculator": HEADER["calculator"] | {"weights_sha256": "cd" * 32},
        "engine": HEADER["engine"] | {"temperature": 300.0},
        "system": HEADER["system"] | {"numbers": [6, 6, 7, 1, 1, 1, 1, 1, 1]},
    }
    assert differences(HEADER, changed) == [
        f"calculator.weights_sha256: recorded '{'ab' * 32}', now '{'cd' * 32}'",
        "engine.temperature: recorded nothing, now 300.0",
        "system.numbers[2]: recorded 8, now 7",
    ]


def test_other_settings_cannot_continue_a_record(tmp_path):
    write_run(tmp_path / "run", 10, 5)
    writer = RunWriter(tmp_path / "run", RecordSettings(relevance_dtype="float64"))
    with pytest.raises(
        RecordError, match=r"relevance_dtype \(recorded with float32, now float64\)"
    ):
        writer.resume(latest_checkpoint(tmp_path / "run"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_every": 0}, "frame_every must be a whole number above 0, got 0"),
        ({"retain": 2.5}, "retain must be a whole number above 0, got 2.5"),
        ({"seconds_per_part": float("nan")}, "seconds_per_part must be a positive number, got nan"),
        ({"trajectory_dtype": "int8"}, "trajectory_dtype must be one of float16, float32, float64"),
        ({"rows_per_part": None}, "rows_per_part must be a whole number above 0, got None"),
        ({"keep_atoms": 1}, "keep_atoms must be True or False, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(RecordError, match=message):
        RecordSettings(**arguments)


@pytest.mark.parametrize("kind", BY_STEP)
def test_a_missing_part_of_a_finished_run_is_an_error(tmp_path, kind):
    write_run(tmp_path / "run")
    part = next(tmp_path.glob(f"run/{kind}-*.parquet"))
    part.unlink()
    with pytest.raises(RecordError, match=f"{part.name} is missing, which verdict.json lists"):
        mdxai.open_run(tmp_path / "run").parts(kind)
