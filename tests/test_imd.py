"""A live stream of another engine: a small IMD v3 server on loopback stands in for one."""

from __future__ import annotations

import socket
import struct
import threading

import numpy as np
import pytest
from ase import units
from ase.io import write
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.engines import Selection, TrajectoryError
from mdxai.monitoring.replay import open_trajectory, replay, stated_dynamics
from tests.conftest import ethanol_with, frames_of, heated

pytest.importorskip("imdclient")
ENERGIES, COORDINATES, GO, HANDSHAKE, SESSION, TIME, VELOCITIES, FORCES = 1, 2, 3, 4, 10, 12, 14, 15
KJ = units.kJ / units.mol


@pytest.fixture(scope="module")
def frames():
    atoms = heated(ethanol_with(), 300, rng=3)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    return frames_of(dynamics, 30)


@pytest.fixture
def topology(tmp_path):
    path = tmp_path / "top.pdb"
    write(path, ethanol_with(None))
    return path


def packets(frame):
    """One frame as IMD v3 sends it: ps, Å, Å/ps, kJ/mol/Å, little-endian bodies."""
    yield struct.pack("!ii", TIME, 1) + struct.pack("<ddq", 5e-4, frame.time / 1e3, frame.step)
    energies = [0.0, 0.0, frame.energy / KJ, *[0.0] * 6]
    yield struct.pack("!ii", ENERGIES, 1) + struct.pack("<i9f", frame.step, *energies)
    for kind, values in ((COORDINATES, frame.positions), (VELOCITIES, frame.velocities * 1e3),
                         (FORCES, frame.forces / KJ)):  # fmt: skip
        yield struct.pack("!ii", kind, frame.n_atoms) + values.astype("<f4").tobytes()


def serve(frames, cut=None):
    """Send frames to one client; end by closing, or in the middle of a packet of frame `cut`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk():
        with listener, listener.accept()[0] as client:
            client.sendall(struct.pack("!i", HANDSHAKE) + struct.pack("<i", 3))
            client.sendall(struct.pack("!ii", SESSION, 7) + bytes([1, 1, 0, 1, 0, 1, 1]))
            assert struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))[0] == GO
            for k, frame in enumerate(frames):
                content = b"".join(packets(frame))
                try:
                    client.sendall(content[: len(content) // 2] if k == cut else content)
                except OSError:  # the client has had enough
                    return
                if k == cut:
                    return

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    return f"imd://127.0.0.1:{listener.getsockname()[1]}", thread


def test_a_live_stream_is_checked_to_its_end(frames, topology, tmp_path):
    url, thread = serve(frames)
    monitor = replay(
        "schnet-ethanol",
        url,
        tmp_path / "run",
        topology=topology,
        dynamics=stated_dynamics("nve", None),
    )
    thread.join(10)
    verdict = monitor.verdict
    assert verdict.n_frames == len(frames)
    assert verdict.stability == "stable", verdict
    assert {"energy", "momentum"}.isdisjoint(verdict.unavailable)
    run = mdxai.open_run(tmp_path / "run")
    for got, sent in zip(run.frames(), frames, strict=True):
        assert (got.step, got.time) == (sent.step, pytest.approx(sent.time))
        np.testing.assert_allclose(got.positions, sent.positions, atol=1e-5)
        np.testing.assert_allclose(got.velocities, sent.velocities, atol=1e-6)
        np.testing.assert_allclose(got.forces, sent.forces, atol=1e-5)
        assert got.energy == pytest.approx(sent.energy, rel=1e-6)
    assert run.verdict["interrupted_by"] is None


def test_a_broken_connection_ends_with_a_verdict(frames, topology, tmp_path):
    url, thread = serve(frames, cut=12)
    monitor = replay("schnet-ethanol", url, tmp_path / "run", topology=topology)
    thread.join(10)
    assert monitor.verdict.n_frames == 12
    assert mdxai.open_run(tmp_path / "run").verdict["n_frames"] == 12


def test_a_stream_may_be_left_early(frames, topology):
    url, thread = serve(frames)
    monitor = replay("schnet-ethanol", url, topology=topology, selection=Selection(stop=10, step=2))
    thread.join(10)
    assert monitor.verdict.n_frames == 5


# The client leaves its socket to the garbage collector when the connection is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_streams_that_cannot_be_followed(frames, topology):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TrajectoryError, match="refused"):
        open_trajectory(f"imd://127.0.0.1:{port}", topology)
    url, thread = serve(frames)
    with pytest.raises(TrajectoryError, match="no frame 3 to start from"):
        open_trajectory(url, topology, Selection(start=3))
    thread.join(10)
