"""What the command line says of errors that nobody foresaw, of Ctrl-C and to plain consoles."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

import mdxai
from mdxai.cli.failures import whole_line
from mdxai.cli.plain_text import nearest

from .conftest import ethanol_dynamics, invoke

PACKAGE = Path(mdxai.__file__).parent


class Failing(Calculator):
    """A spring to the origin that fails in its own way after some evaluations."""

    implemented_properties = ("energy", "forces")

    def __init__(self, kind: str = "none", after: int = 12, pause: float = 0.0):
        super().__init__()
        self.kind, self.left, self.pause = kind, int(after), float(pause)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.pause)
        self.left -= 1
        if self.left < 0:
            FAILURES[self.kind]()
        place = atoms.positions
        self.results = {"energy": float((place**2).sum()), "forces": -2 * place}


def _exhausted():
    raise MemoryError


def _wordless():
    raise ValueError


def _several_lines():
    raise RuntimeError("CUDA error\n  at [kernel]\n\n  see log")


FAILURES = {
    "none": lambda: None,
    "ZeroDivisionError: division by zero": lambda: 1 / 0,
    "TypeError: unsupported operand": lambda: None + 1,
    "KeyError: 'sigma'": lambda: {}["sigma"],
    "IndexError: list index out of range": lambda: [].__getitem__(1),
    "LinAlgError: Singular matrix": lambda: np.linalg.inv(np.zeros((2, 2))),
    "RuntimeError: size mismatch": lambda: torch.zeros(2, 2) @ torch.zeros(3, 3),
    "ModuleNotFoundError: No module named 'no_such'": lambda: __import__("no_such"),
    "FileNotFoundError: [Errno 2]": lambda: Path("/no/such/file").read_bytes(),
    "MemoryError": _exhausted,
    "ValueError": _wordless,
    "RuntimeError: CUDA error at [kernel] see log": _several_lines,
}


@pytest.mark.parametrize("kind", [kind for kind in FAILURES if kind != "none"])
def test_an_error_of_a_calculator_is_one_line_that_names_it(tmp_path, kind):
    out = tmp_path / "run"
    result = invoke(
        "run", "tests.test_failures:Failing", "CH4", "--steps", 30, "--out", out, "-q",
        "--arg", f"kind={kind}",
    )  # fmt: skip
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    begin = kind.replace("size mismatch", "")
    assert line.startswith(f"error: {begin}")
    assert "raised by the calculator tests.test_failures.Failing" in line
    assert f"{out} keeps the frames up to step 11; the same command with --resume" in line
    assert "`mdxai --debug`" in line
    assert mdxai.open_run(out).n_frames == 12


def test_debug_shows_the_traceback(tmp_path):
    arguments = ["run", "tests.test_failures:Failing", "CH4", "--steps", 30, "-q", "--arg",
                 "kind=KeyError: 'sigma'"]  # fmt: skip
    result = invoke("--debug", *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.output
    assert '{}["sigma"]' in result.output
    assert result.output.splitlines()[-1].startswith("error: KeyError: 'sigma'")


def test_debug_may_stand_anywhere(monkeypatch, capsys):
    from mdxai.cli.main import main

    monkeypatch.setattr(sys, "argv", ["mdxai", "report", "/no/such/run", "--debug"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "error: /no/such/run" in said


def test_a_fault_of_mdxai_is_called_one(monkeypatch):
    monkeypatch.setattr("mdxai.report.write_report", lambda run, out: {}["lost"])
    result = invoke("report", "run")
    assert result.exit_code == 2
    assert "error: KeyError: 'lost'" in result.output
    monkeypatch.setattr("mdxai.report.write_report", lambda run, out: mdxai.Frame(1))
    assert "raised in" in invoke("report", "run").output
    try:
        mdxai.frame.find_pairs(np.zeros((2, 3)), np.eye(3), np.zeros(3, bool), "far")
    except TypeError as error:
        said = whole_line(error)
    assert "a fault of mdxai itself (mdxai/frame.py, line" in said
    assert "please report it" in said


def test_modules_that_cannot_be_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_module.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "needy_module.py").write_text("import no_such_package\n", encoding="utf-8")
    for module, said in (("broken_module", "broken_module"), ("needy_module", "no_such_package")):
        result = invoke("run", f"{module}:f", "CH4", "--out", tmp_path / "run", "-q")
        assert result.exit_code == 2
        assert said in result.output
        assert len(result.output.splitlines()) == 1
        assert "please report" not in result.output


def _command(*arguments, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "mdxai", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PACKAGE.parent,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_says_what_was_kept_and_how_to_go_on(tmp_path):
    out = tmp_path / "my run"
    arguments = ("run", "tests.test_failures:Failing", "CH4", "--steps", 400, "--out", out, "-q",
                 "--arg", "pause=0.05", "--checkpoint-steps", 5)  # fmt: skip
    started = _command(*arguments)
    while not list(out.glob("checkpoint-*")):
        assert started.poll() is None, started.communicate()
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=120)
    (line,) = errors.decode().splitlines()
    assert started.returncode == 5
    assert line.startswith("stopped by SIGINT after step ")
    assert "the same command with --resume continues up to step 400" in line
    run = mdxai.open_run(out)
    assert run.verdict["interrupted_by"] == "SIGINT"
    assert f"after step {run.last_frame().step};" in line
    resumed = _command(*(a if a != 0.05 else 0 for a in arguments), "--resume")
    resumed.communicate(timeout=120)
    assert resumed.returncode == 3  # by its verdict: springs tear methane apart
    assert mdxai.open_run(out).last_frame().step == 400


def test_characters_have_a_likeness_in_ascii():
    assert nearest("0.5 Å, σ ≤ 3×10⁻² – é … C–H") == "0.5 A, sigma <= 3x10-2 - e ... C-H"
    assert nearest("空 \udcff") == "? ?"
    assert nearest("plain [x]") == "plain [x]"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [
    ["--help"], ["run", "--help"], ["calculators"], ["report", "/no/é空"],
])  # fmt: skip
def test_consoles_of_ascii_get_ascii(arguments):
    command = _command(*arguments, PYTHONIOENCODING="ascii", LANG="C", LC_ALL="C", PYTHONUTF8="0")
    output, errors = command.communicate(timeout=120)
    assert command.returncode in (0, 2)
    assert (output + errors).isascii()
    assert b"Traceback" not in errors
    assert b"Error:" not in errors


@pytest.mark.slow
def test_an_installation_that_cannot_be_written_to_works_without_a_cache(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "mdxai", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path for path in (tmp_path / "mdxai").rglob("*") if path.is_dir()]:
        (folder / "__pycache__").write_text("no directory can be made here", encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    environment |= {
        "PYTHONPATH": str(tmp_path), "HOME": "/dev/null/home", "PYTHONDONTWRITEBYTECODE": "1"
    }  # fmt: skip
    code = (
        "import numba, mdxai.statistics._kernels as kernels, numpy as np\n"
        f"assert kernels.__file__.startswith({str(tmp_path)!r})\n"
        "from mdxai.frame import Frame\n"
        "from ase.build import molecule\n"
        "from mdxai.principles.frame_quantities import frame_quantities\n"
        "print(frame_quantities(Frame.from_atoms(molecule('H2O'))).placed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True,
        env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["True"], done.stderr


def test_atoms_of_the_failing_calculator_move():
    assert Failing("none").get_potential_energy(Atoms("H", [[1.0, 0, 0]])) == 1.0


def test_help_and_repr_are_short(tmp_path):
    from mdxai.monitoring.options import MonitorOptions

    for public in [getattr(mdxai, name) for name in mdxai.__all__] + [MonitorOptions]:
        error = isinstance(public, type) and issubclass(public, BaseException)
        if callable(public) and not error:
            assert len(str(inspect.signature(public))) < 1500, public
    dynamics = ethanol_dynamics(Failing("none"))
    with mdxai.Monitor(dynamics, tmp_path / "run", on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        expected = f"<Monitor: no frame yet, inconclusive, record in {tmp_path / 'run'}>"
        assert repr(monitor) == expected
        dynamics.run(3)
        run = mdxai.open_run(tmp_path / "run")
        assert repr(run) == f"<Run {tmp_path / 'run'}: 9 atoms, not finished>"
    assert repr(monitor).startswith("<Monitor: step 3, ")
    assert repr(run).startswith(f"<Run {tmp_path / 'run'}: 9 atoms, 4 frames, ")
