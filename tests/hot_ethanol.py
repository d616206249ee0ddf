"""Ethanol with a timestep that tears it apart within a few steps."""

from __future__ import annotations

from dataclasses import replace

from mdxai.monitoring.monitor import Monitor
from mdxai.stability.thresholds import THRESHOLDS

from .conftest import ethanol_dynamics

# Bonds that stretch for 10 fs count as broken: a hot molecule gets there after 20 steps.
STRICT = [replace(t, warn=0.0, unstable=0.02, patience=10.0) for t in THRESHOLDS
          if t.principle == "bond"]  # fmt: skip


def hot(timestep=5.0):
    """Return Langevin dynamics of ethanol at 800 K; timestep in fs."""
    return ethanol_dynamics(temperature=800, timestep=timestep, friction=0.02)


def watched(path, interval=1, steps=200, timestep=5.0, **options):
    """Run hot ethanol under a monitor; return the dynamics and the monitor."""
    dynamics = hot(timestep)
    with Monitor(dynamics, path, attribute_every=4, **options) as monitor:
        dynamics.attach(monitor, interval=interval)
        dynamics.run(steps)
    return dynamics, monitor
