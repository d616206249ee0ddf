"""Tables of a study."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from ase.data import chemical_symbols

from mdxai.record import RunWriter
from mdxai.study.models import Places
from mdxai.study.tables import causes_table, runs_table
from tests.synthetic_run import HEADER, PRINCIPLES


def test_causes_are_counted_with_their_elements(tmp_path):
    findings = [
        {"principle": "bond", "severity": "unstable", "time_fs": 9.0, "atoms": [0, 1]},
        {"principle": "contact", "severity": "unstable", "time_fs": 4.0, "atoms": [3, 2]},
        {"principle": "decay_rise", "severity": "warn", "time_fs": 0.0, "atoms": []},
    ]
    for k, found in enumerate((findings, findings, findings[:1], findings[2:])):
        writer = RunWriter(tmp_path / "runs" / f"m{k}" / "r")
        writer.start(HEADER, PRINCIPLES)
        writer.finish({"findings": found}, None)
    outcomes = [
        SimpleNamespace(
            run=f"m{k}/r", model=f"m{k}", molecule="ethanol", temperature=300.0, end=10.0 + k,
            unstable=k < 3, traits={}, series={}, times=np.zeros(0),
        )
        for k in range(4)
    ]  # fmt: skip
    table = causes_table(runs_table(outcomes, Places(tmp_path, tmp_path)))
    between = ["-".join(sorted(chemical_symbols[HEADER["system"]["numbers"][a]] for a in pair))
               for pair in ((2, 3), (0, 1))]  # fmt: skip
    assert table["cause"].tolist() == ["contact", "bond"]
    assert table["cause_between"].tolist() == between
    assert table["runs"].tolist() == [2, 1]
    assert table["median_fs"].tolist() == [10.5, 12.0]
