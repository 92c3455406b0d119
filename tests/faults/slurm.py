"""A real Slurm with two nodes on this machine: Debian's slurm-wlm and munge, as root, no systemd.

with slurm.running() as cluster:
    job = cluster.submit("launch/slurm/train.sbatch", "--config", ..., cwd=ROOT, PYTHON=...)
    cluster.wait(job, "COMPLETED")
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("node0", "node1")

# Two slurmd on one machine: each has a port and folders of its own (%n). Groups of processes are
# what a container without cgroups of its own can track; nothing binds tasks to cores.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=10
MinJobAge=3600
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=test Nodes=ALL Default=YES MaxTime=60
"""


def missing() -> list[str]:
    """The programs that are not installed, of those that a cluster takes."""
    return [name for name in (*DAEMONS, "sbatch", "scontrol") if _find(name) is None]


def _find(name: str) -> str | None:
    # Debian puts daemons where the path of a user without rights does not lead.
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Slurm:
    """A running cluster; made by `running`."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def command(self, *arguments: object, cwd: Path | None = None, **environment: str) -> str:
        """Runs a command of Slurm and returns its standard output."""
        result = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, f"{arguments}: {result.stderr}{self.logs()}"
        return result.stdout

    def submit(
        self, script: str, *arguments: object, cwd: Path, options: tuple[str, ...] = ("--nodes=2",),
        **environment: str,
    ) -> str:  # fmt: skip
        """Submits a batch script from a folder with variables set; returns the job's number."""
        return self.command(
            "sbatch", "--parsable", *options, script, *arguments, cwd=cwd, **environment
        ).strip()  # fmt: skip

    def show(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job`, as JobState, ExitCode, Restarts, StdOut."""
        text = self.command("scontrol", "show", "job", job)
        # Some lines have several fields, and some values (paths) blanks.
        field = r"[A-Z][\w:/-]*="
        found = re.findall(rf"\s({field})(.*?)(?=\s+{field}|\s*$)", f" {text}", re.MULTILINE)
        return {name.rstrip("="): value for name, value in found}

    def wait(self, job: str, *states: str, timeout: float = 60) -> dict[str, str]:
        """Waits until the job is in one of the states; returns its fields."""
        deadline = time.monotonic() + timeout
        while (fields := self.show(job))["JobState"] not in states:
            assert time.monotonic() < deadline, f"{fields}\n{self.output(job)}\n{self.logs()}"
            time.sleep(0.1)
        return fields

    def output(self, job: str) -> str:
        """What the job has written so far."""
        file = Path(self.show(job)["StdOut"])
        return file.read_text() if file.exists() else ""

    def start_now(self, job: str) -> None:
        """Waits until a job is requeued and lets it begin: Slurm holds it back for two minutes."""
        wait_for(lambda: self.show(job)["Reason"] == "BeginTime", f"{job} is not requeued")
        self.command("scontrol", "update", f"JobId={job}", "StartTime=now")

    def signal(self, job: str, name: str) -> None:
        """Sends a signal to the processes of the job, as Slurm does before the time is up."""
        self.command("scancel", f"--signal={name}", job)

    def cancel(self, job: str) -> None:
        """Stops the job for good."""
        self.command("scancel", job)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-2000:]}" for log in self._folder.glob("*.log")
        )


@contextlib.contextmanager
def running() -> Iterator[Slurm]:
    """Starts munged, slurmctld and two slurmd, and ends them and all jobs at the end."""
    # Not below pytest's tmp_path: the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged refuses a socket in a folder that others cannot enter
    daemons: list[subprocess.Popen] = []
    cluster = Slurm(folder)
    try:
        _configure(folder)
        for command in (
            ("munged", "--foreground", f"--key-file={folder}/munge.key",
             f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
             f"--seed-file={folder}/munged.seed"),
            ("slurmctld", "-D"),
            *(("slurmd", "-D", "-N", node) for node in NODES),
        ):  # fmt: skip
            daemons.append(_start(command, folder))
            if command[0] == "munged":
                wait_for((folder / "munge.socket").exists, "munged does not start")
        wait_for(lambda: _idle(cluster), "the nodes do not come up")
        yield cluster
    finally:
        _end(cluster, daemons)
        _kill_what_is_left(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(folder=folder, host=socket.gethostname(), ports=_free_ports(3))
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _start(command: tuple[str, ...], folder: Path) -> subprocess.Popen:
    program = _find(command[0])
    assert program is not None, f"{command[0]} is not installed (tests/apt_soak.txt)"
    name = "-".join(word for word in command if not word.startswith("-"))
    with (folder / f"{name}.log").open("wb") as output:
        return subprocess.Popen(
            # If the tests are killed, it goes with them.
            ["setpriv", "--pdeathsig", "TERM", program, *command[1:]],
            env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _idle(cluster: Slurm) -> bool:
    result = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%T"],
        env=cluster._environment,
        capture_output=True,
        text=True,
    )
    return result.stdout.split() == ["idle"] * len(NODES)


def wait_for(condition: Callable[[], bool], failure: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.1)


def _end(cluster: Slurm, daemons: list[subprocess.Popen]) -> None:
    """Jobs first, through Slurm, which alone knows their processes; then the daemons."""
    with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
        cluster.command("scancel", "--signal=KILL", "--full", "--user=root")
        cluster.command("scancel", "--user=root")
        wait_for(lambda: not cluster.command("squeue", "--noheader"), "jobs remain", timeout=20)
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
    for daemon in daemons:
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


def _kill_what_is_left(folder: Path) -> None:
    """What Slurm did not end, as it should have: all that has this cluster in its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(f"SLURM_CONF={folder}/") in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
