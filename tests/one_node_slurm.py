"""A Slurm of one node that lives as long as a test, from Debian's packages slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONFIGURATION = """
ClusterName=mdxai
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why there can be no Slurm here; empty if there can."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs Debian's slurm-wlm and munge: no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "Slurm's daemons are started as root"


class OneNode:
    """Slurm in a folder. `environment` makes its commands, and what they start, use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def command(self, *words: str | Path, cwd: Path | None = None) -> str:
        """Run a command and return what it prints."""
        done = subprocess.run(
            [str(word) for word in words], env=self.environment, cwd=cwd or self.folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self) -> list[str]:
        """Return the jobs that wait or run, one line each."""
        return self.command("squeue", "--noheader", "--array").splitlines()

    def until(self, what: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.said()
            time.sleep(0.5)

    def said(self) -> str:
        """Return the end of the daemons' logs."""
        logs = (self.folder / name for name in ("slurmctld.log", "slurmd.log", "munged.log"))
        return "\n".join(log.read_text()[-2000:] for log in logs if log.exists())


@contextmanager
def one_node(folder: Path) -> Iterator[OneNode]:
    """Start Slurm and end it afterwards, with its jobs."""
    slurm = OneNode(folder)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(folder=folder, host=host, ports=_free_ports())
    )
    munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log",
             "seed-file": "seed"}  # fmt: skip
    names = [f"--{option}={folder}/munge.{name}" for option, name in munge.items()]
    daemons = [
        subprocess.Popen(
            words, env=slurm.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for words in (["munged", "-F", "--force", *names], ["slurmctld", "-D"], ["slurmd", "-D"])
    ]
    try:
        slurm.until(lambda: "idle" in _asked(slurm), 60)
        yield slurm
    finally:
        subprocess.run(["scancel", "--user=root"], env=slurm.environment, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def _asked(slurm: OneNode) -> str:
    done = subprocess.run(
        ["sinfo", "--noheader"], env=slurm.environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def _free_ports() -> tuple[int, int]:
    with closing(socket.socket()) as one, closing(socket.socket()) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
