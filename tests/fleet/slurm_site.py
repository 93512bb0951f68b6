"""A Slurm of two nodes on this host, of the test's own: munged, slurmctld and two slurmd in one folder."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.fleet.processes import started_with

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
PATIENCE = 120.0
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MaxArraySize={largest_array}
KillWait=5
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmctldTimeout=60
SlurmdParameters=config_overrides
SlurmdTimeout={node_timeout}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=DEFAULT Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=2000 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Why no Slurm can be started here; empty where one can."""
    lacking = [name for name in PROGRAMS if _program(name) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed: apt-get install slurm-wlm munge"
    return "" if os.getuid() == 0 else "slurmd starts other people's jobs: it needs root"


class SlurmSite:
    """The daemons, and what a test asks of them."""

    def __init__(self, folder: Path, largest_array: int = 1001) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._hurried: set[str] = set()
        words = {"host": platform.node().split(".")[0], "user": "root", "folder": folder, "ports": _free_ports(3)}
        self.conf.write_text(CONF.format(largest_array=largest_array, node_timeout=10, **words))
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands find this site."""
        return {"SLURM_CONF": str(self.conf), "PATH": f"{os.environ['PATH']}:/usr/sbin"}

    def start(self) -> None:
        """Start everything and wait until both nodes are idle."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        munge = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        options = [f"--{'pid-file' if n == 'pid' else 'log-file' if n == 'log' else n}={f}" for n, f in munge.items()]
        options = [option.replace("--seed=", "--seed-file=") for option in options]
        self._run("munged", "--foreground", "--force", f"--key-file={key}", *options)
        self.wait(munge["socket"].exists, "munged")
        self._run("slurmctld", "-D", "-f", str(self.conf))
        for node in NODES:
            self.start_node(node)
        self.wait(lambda: self.ask("sinfo", "--noheader", "--format=%T").split() == ["idle"], "two idle nodes")

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self._run("slurmd", "-D", "-f", str(self.conf), "-N", node)

    def _runs_on(self, node: str, told: set[str]) -> bool:
        return {f"SLURM_CONF={self.conf}", f"SLURMD_NODENAME={node}"} <= told

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    def tasks(self, name: str) -> dict[str, str]:
        """State of each task of the jobs of this name, as long as Slurm remembers it."""
        said = self.ask("squeue", "--noheader", "--array", "--states=all", f"--name={name}", "--format=%i %T")
        return dict(line.split() for line in said.splitlines())

    def let_begin(self, name: str) -> None:
        """Have tasks that were queued again start soon: Slurm holds them back for two minutes.

        Not at once, for nodes must have forgotten the old task before.
        """
        waiting = {task for task, state in self.tasks(name).items() if state == "PENDING"}
        for task in waiting - self._hurried:
            self.ask("scontrol", "update", f"JobId={task}", "StartTime=now+5seconds")
        self._hurried = waiting

    def wait(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.logs()}"
            for name, daemon in self._daemons.items():
                assert daemon.poll() is None, f"{name} has ended: {self.logs()}"
            time.sleep(0.2)

    def stop(self) -> None:
        """End all daemons, and what they had started."""
        for daemon in self._daemons.values():
            daemon.terminate()
        for daemon in self._daemons.values():
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
        _kill(
            lambda told: bool({f"SLURM_CONF={self.conf}", *(f"NODE_OF_TEST={self.folder}/{n}" for n in NODES)} & told)
        )

    def left(self) -> list[str]:
        """Command lines of what jobs of this site have left running."""
        pids = started_with(lambda told: any(self._runs_on(node, told) for node in NODES))
        return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids]

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return "\n".join(
            f"{log.name}: {line}" for log in self.folder.glob("*.log") for line in log.read_text().splitlines()[-8:]
        )

    def _run(self, program: str, *arguments: str) -> None:
        name = f"{program} {arguments[-1]}" if program == "slurmd" else program
        with (self.folder / f"{name.replace(' ', '-')}.out.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [str(_program(program)), *arguments],
                env={**os.environ, **self.environment, "NODE_OF_TEST": f"{self.folder}/{arguments[-1]}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _kill(of: Callable[[set[str]], bool]) -> None:
    for pid in started_with(of):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
