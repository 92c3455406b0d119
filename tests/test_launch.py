"""The launchers: checked by the tools of each platform, and run with stand-ins for the commands.

For Cloud TPU VMs gcloud is fake. Slurm is fake in `make test`, as far as the scripts use it, and
real in `make soak`: two nodes on this machine.
"""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, need, tool
from faults import slurm

from inception_jax.config.load import load_config

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.rglob("*.sh"), *LAUNCH.rglob("*.sbatch")])
BATCH_SCRIPTS = sorted(LAUNCH.rglob("*.sbatch"))
JOB_SETS = [LAUNCH / "gke" / "tpu.yaml", LAUNCH / "gke" / "gpu.yaml"]
PROCESS_FLAGS = {"--coordinator", "--num_processes", "--process_id"}


def run(*command: object, **options) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, **options
    )


def eventually(condition: Callable[[], object], timeout: float = 20) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Checkout:
    """A repository with the real launchers and stand-ins for the commands."""

    def __init__(self, folder: Path):
        self.folder = folder / "check out"  # paths with blanks are paths
        self.record = folder / "record"
        self.record.mkdir(parents=True)
        package = self.folder / "inception_jax"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        for command in ("train", "evaluate", "doctor"):
            shutil.copy(ROOT / "tests" / "faults" / "stand_in.py", package / f"{command}.py")
        shutil.copy(ROOT / "inception_jax" / "errors.py", package)
        shutil.copytree(ROOT / "inception_jax" / "launching", package / "launching")
        shutil.copytree(LAUNCH, self.folder / "launch")

    def plan(self, **processes: list) -> dict[str, str]:
        """Environment variables with the actions of each process `_K`, one for each start."""
        actions = {process.lstrip("_"): plan for process, plan in processes.items()}
        return {"RECORD": str(self.record), "PLAN": json.dumps(actions)}

    def seen(self, process: object, start: int = 0) -> dict:
        """The arguments, environment and signals of a stand-in; waits for them."""
        path = self.record / f"{process}.{start}.json"
        eventually(path.exists)
        return json.loads(path.read_text())

    def starts(self) -> list[str]:
        """All starts, as PROCESS.START."""
        return sorted(path.stem for path in self.record.glob("*.json"))


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A repository for a test to launch from."""
    return Checkout(tmp_path)


# --- what the platforms' own tools say


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_have_no_known_faults(script):
    result = run(tool("shellcheck"), "--external-sources", script, cwd=ROOT)
    assert result.returncode == 0, result.stdout
    assert os.access(script, os.X_OK) == (script.suffix == ".sh")


def test_the_dockerfile_has_no_known_faults():
    result = run(tool("hadolint"), LAUNCH / "docker" / "Dockerfile")
    assert result.returncode == 0, result.stdout


def test_an_image_has_what_the_dockerfile_copies():
    """.dockerignore lets everything through that is copied, and the constraints fit together."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (LAUNCH / "docker" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignore
    pinned = (LAUNCH / "docker" / "constraints.txt").read_text().splitlines()
    names = {line.split("==")[0] for line in pinned if not line.startswith("#")}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if not line.startswith("#"):
            name = re.split(r"[<>=]", line)[0].replace("_", "-").lower()
            assert name in names, f"{name}: make constraints.txt again, as its first lines say"


def kubernetes_fault(document: dict[str, Any]) -> str | None:
    """The first error of a document by the Kubernetes schema; None if it is valid."""
    need(find_spec("kubernetes_validate") is not None, "kubernetes-validate")
    import kubernetes_validate as kubernetes

    try:
        kubernetes.validate(document, "1.31", strict=True)  # podFailurePolicy is stable from there
    except kubernetes.ValidationError as error:
        return f"{list(error.path)}: {error.message}"
    return None


def test_kubernetes_takes_the_core_kinds():
    for name in ("rbac.yaml", "volume.yaml"):
        for document in yaml.safe_load_all((LAUNCH / "gke" / name).read_text()):
            assert kubernetes_fault(document) is None


@pytest.mark.parametrize("path", JOB_SETS, ids=lambda path: path.name)
def test_kubernetes_takes_the_jobs_of_a_job_set(path):
    job_set = yaml.safe_load(path.read_text())
    # The fields of a JobSet that are used here, as its v1alpha2 (0.6 and later) names them.
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(job_set["spec"]) == {"failurePolicy", "replicatedJobs"}
    policy = job_set["spec"]["failurePolicy"]
    assert set(policy) == {"maxRestarts", "rules"}
    assert policy["rules"] == [
        {"name": "preempted", "action": "RestartJobSetAndIgnoreMaxRestarts",
         "onJobFailureReasons": ["PodFailurePolicy"]}
    ]  # fmt: skip
    (replicated,) = job_set["spec"]["replicatedJobs"]
    assert set(replicated) == {"name", "replicas", "template"}
    job: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
    job |= replicated["template"]
    assert kubernetes_fault(job) is None
    spec = job["spec"]
    assert spec["parallelism"] == spec["completions"]
    assert {"action": "FailJob", "onExitCodes": {
        "containerName": "train", "operator": "In", "values": [42]
    }} in spec["podFailurePolicy"]["rules"]  # fmt: skip
    # The schema that is asked does notice.
    spec["podFailurePolicy"]["rules"][0]["onExitCode"] = 42
    assert "onExitCode" in str(kubernetes_fault(job))


def test_the_processes_of_the_gpu_job_set_find_each_other():
    job_set = yaml.safe_load((LAUNCH / "gke" / "gpu.yaml").read_text())
    (replicated,) = job_set["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    flags = dict(argument.split("=", 1) for argument in container["args"])
    name = job_set["metadata"]["name"]
    # https://jobset.sigs.k8s.io: pods are JOBSET-JOB-JOBINDEX-PODINDEX in the service JOBSET.
    assert flags["--coordinator"].split(":")[0] == f"{name}-{replicated['name']}-0-0.{name}"
    assert int(flags["--num_processes"]) == spec["parallelism"]
    (devices,) = container["env"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert devices["value"].split(",") == [str(gpu) for gpu in range(gpus)]


SKYPILOT = LAUNCH / "skypilot" / "train.yaml"
# Of SkyPilot's task schema the fields that are used here. The package itself, 98 packages and
# 450 MB, is not installed for tests; with version 0.14.1 the file was once read by sky.Task.
SKYPILOT_FIELDS = {
    "": {"name", "num_nodes", "resources", "workdir", "envs", "file_mounts", "setup", "run"},
    "resources": {"accelerators", "use_spot", "job_recovery"},
    "resources.job_recovery": {"recover_on_exit_codes"},
    "file_mounts./shared": {"name", "mode"},
}


def test_the_skypilot_task_has_fields_that_skypilot_knows():
    task = yaml.safe_load(SKYPILOT.read_text())
    for path, fields in SKYPILOT_FIELDS.items():
        part = task
        for name in filter(None, path.split(".")):
            part = part[name]
        assert set(part) <= fields
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [42]
    for script in (task["setup"], task["run"]):
        result = run(tool("shellcheck"), "--shell=bash", "-", input=script)
        assert result.returncode == 0, result.stdout


def test_skypilot_runs_each_process_with_its_place(checkout):
    task = yaml.safe_load(SKYPILOT.read_text())
    python = checkout.folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for rank in (0, 1):
        environment = os.environ | checkout.plan(_0=[0], _1=[0])
        environment |= {"FLAGS": "--config.a='8 epochs'", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
        environment |= {
            "COMMAND": "train",
            "SKYPILOT_NUM_NODES": "2",
            "SKYPILOT_NODE_RANK": str(rank),
        }
        result = run("bash", "-c", task["run"], cwd=checkout.folder, env=environment)
        assert result.returncode == 0, result.stderr
        assert checkout.seen(rank)["arguments"] == [
            "--config.a=8 epochs", "--coordinator", "10.0.0.1:8476",
            "--num_processes", "2", "--process_id", str(rank),
        ]  # fmt: skip


def launched_commands() -> Iterator[tuple[str, list[str]]]:
    """Every command and its arguments, in the launch files, their comments and their README."""
    for path in JOB_SETS:
        (replicated,) = yaml.safe_load(path.read_text())["spec"]["replicatedJobs"]
        (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
        yield container["command"][-1].removeprefix("inception_jax."), container["args"]
    task = yaml.safe_load(SKYPILOT.read_text())
    script = task["run"].replace('"${arguments[@]}"', task["envs"]["FLAGS"])
    (arguments,) = re.findall(r"inception_jax\.\$COMMAND\"(.*)", script.replace("\\\n", ""))
    yield task["envs"]["COMMAND"], shlex.split(arguments)
    starts = (
        r"(train|evaluate|sweep)\.sbatch(.*)",
        r"(?:tpu_vm\.sh run|step\.sh) (train|evaluate|doctor)(.*)",
        r"local\.py (?:--processes \d+ )(?:--command (\w+) )?--( .*)",
    )
    for path in [LAUNCH / "README.md", ROOT / "inception_jax" / "launching" / "local.py", *SCRIPTS]:
        text = re.sub(r"\\\n[# ]*", "", path.read_text())
        for start in starts:
            for command, arguments in re.findall(start, text):
                words = arguments.split("`")[0].split()
                yield command.replace("sweep", "train") or "train", words


def test_launch_files_use_flags_that_the_commands_know(command):
    launched = list(launched_commands())
    assert {name for name, _ in launched} >= {"train", "evaluate"}
    for name in {name for name, _ in launched}:
        known = set(re.findall(r"--\w+", command(name, "--help").stdout))
        for other, arguments in launched:
            flags = {word.split("=")[0] for word in arguments if word.startswith("--")}
            if other == name:
                assert {flag for flag in flags if not flag.startswith("--config.")} <= known


def test_launch_files_set_fields_that_the_config_has():
    for name, arguments in launched_commands():
        values = [word.split("=", 1)[1] for word in arguments if word.startswith("--config=")]
        values += [b for a, b in itertools.pairwise(arguments) if a == "--config"]
        overrides = [word for word in arguments if word.startswith("--config.")]
        for config in values:
            assert name in ("train", "doctor")
            load_config(config, overrides)


# --- local.py


def local(checkout: Checkout, *arguments: object, environment: dict[str, str], patience: int = 60):
    """Starts local.py; when a process has failed, it gives the others `patience` seconds."""
    script = (
        "import sys; from inception_jax.launching import local;"
        f"local.SECONDS_TO_NOTICE = {patience}; sys.exit(local.main(sys.argv[1:]))"
    )
    program = ["launch/local.py"] if patience == 60 else ["-c", script]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        cwd=checkout.folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "error"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def gone(pid: int) -> bool:
    """True for a process that has ended, also if its parent has not waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_local_starts_each_process_with_its_place(checkout):
    environment = checkout.plan(_0=[0], _1=[0])
    process = local(
        checkout, "--processes", 2, "--command", "evaluate", "--", "--workdir", "a b",
        environment=environment,
    )  # fmt: skip
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == "output of 0\n"  # as if it were alone
    assert errors == "[1] output of 1\n"
    coordinator = checkout.seen(0)["arguments"][3]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", coordinator)
    for k in ("0", "1"):
        assert checkout.seen(k)["arguments"] == [
            "--workdir", "a b", "--coordinator", coordinator,
            "--num_processes", "2", "--process_id", k,
        ]  # fmt: skip
        assert "JAX_LOCAL_DEVICE_IDS" not in checkout.seen(k)["environment"]


@pytest.mark.parametrize(
    ("ends", "exit_code"),
    [((0, 42), 42), ((42, 42), 42), ((42, 1), 1), ((42, "die"), 1), ((2, 2), 2), ((0, 2, 1), 1)],
)
def test_local_has_one_exit_code_for_all(checkout, ends, exit_code):
    plan = checkout.plan(**{f"_{k}": [end] for k, end in enumerate(ends)})
    process = local(checkout, "--processes", len(ends), "--", "--a", environment=plan)
    process.communicate(timeout=30)
    assert process.returncode == exit_code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_local_sends_a_signal_on_to_all_and_once(checkout, name):
    process = local(checkout, "--processes", 2, environment=checkout.plan(_0=["wait"], _1=["wait"]))
    for k in (0, 1):
        checkout.seen(k)
    # As a terminal does: to the whole group.
    process.send_signal(signal.Signals[name])
    process.communicate(timeout=30)
    assert process.returncode == 42
    assert [checkout.seen(k)["signals"] for k in (0, 1)] == [[name], [name]]


SIGNALLED_IN_A_START = """
import os, signal, sys
from inception_jax.launching import local

start = local.start

def start_and_signal(k, command, variables):
    process = start(k, [sys.executable, "-c", "import time; time.sleep(20)"], variables)
    os.kill(os.getpid(), signal.SIGTERM)
    return process

local.start = start_and_signal
sys.exit(local.main(["--processes", "2"]))
"""


def test_a_signal_in_the_middle_of_a_start_reaches_the_new_process():
    """The signal arrives when the process runs and is in no list yet."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = run(sys.executable, "-c", SIGNALLED_IN_A_START, cwd=ROOT, env=environment)
    assert (result.returncode, result.stderr) == (42, "")


def test_local_and_sweep_run_from_another_folder(checkout):
    """They need no installed package there."""
    environment = os.environ | checkout.plan(_0=[0]) | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-S", checkout.folder / "launch" / "local.py"]
    result = run(*command, "--processes", 1, cwd=checkout.record, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "output of 0\n", "")
    help = run(sys.executable, LAUNCH / "sweep.py", "--help", cwd=checkout.record)
    assert "usage: sweep.py" in help.stdout


def test_local_kills_those_that_outlive_a_failed_one(checkout):
    plan = checkout.plan(_0=["deaf"], _1=["die"])
    process = local(checkout, "--processes", 2, environment=plan, patience=1)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "killed process 0: still running 1 s after process 1 ended with -9" in errors
    assert gone(checkout.seen(0)["pid"])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it, and it is Linux's")
def test_nothing_outlives_a_local_that_is_killed(checkout):
    process = local(checkout, "--processes", 2, environment=checkout.plan(_0=["wait"], _1=["wait"]))
    pids = [checkout.seen(k)["pid"] for k in (0, 1)]
    # Children get the signal once a thread of their parent, and a second ends a run at once.
    assert len(os.listdir(f"/proc/{process.pid}/task")) == 1
    process.kill()
    process.communicate(timeout=30)
    eventually(lambda: all(map(gone, pids)))
    assert checkout.seen(0)["signals"] == ["SIGTERM"]  # so that what is done is saved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--processes"),
        (["--processes", "0"], "--processes 0: at least one"),
        (["--processes", "2", "--command", "tarin"], "'tarin'"),
        (["--processes", "2", "--", "--process_id=1"], "local.py sets"),
        (["--processes", "2", "--config", "x"], "--config"),
    ],
)
def test_local_says_what_is_wrong_in_one_line(checkout, arguments, message):
    process = local(checkout, *arguments, environment=checkout.plan())
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert checkout.starts() == []


def test_local_shares_out_the_gpus(checkout, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\nfor k in 0 1 2 3; do echo GPU $k: one; done\n")
    (tools / "nvidia-smi").chmod(0o755)
    path = {"PATH": f"{tools}:{os.environ['PATH']}", "JAX_PLATFORMS": ""}
    process = local(checkout, "--processes", 2, environment=checkout.plan(_0=[0], _1=[0]) | path)
    process.communicate(timeout=30)
    shares = [checkout.seen(k)["environment"]["JAX_LOCAL_DEVICE_IDS"] for k in (0, 1)]
    assert shares == ["0,1", "2,3"]
    one = path | {"CUDA_VISIBLE_DEVICES": "3"}
    process = local(checkout, "--processes", 2, environment=checkout.plan() | one)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "2 processes cannot share 1 GPU: --processes 1" in errors


def test_local_does_not_load_jax():
    """JAX would take the accelerators that the processes need."""
    script = "import sys, inception_jax.launching.local; sys.exit('jax' in sys.modules)"
    assert run(sys.executable, "-c", script, cwd=ROOT).returncode == 0


# --- Cloud TPU VMs

GCLOUD = """
import os, shutil, subprocess, sys
from pathlib import Path
words = [word for word in sys.argv[1:] if not word.startswith("--")]
flags = dict(word.split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
assert flags["--zone"] == "zone"
worker = flags.get("--worker")
codes = []
for k in ("0", "1") if worker == "all" else (worker,) if worker else ():
    home = Path(os.environ["WORKERS"]) / k
    home.mkdir(parents=True, exist_ok=True)
    if words[3] == "scp":
        shutil.copy(words[4], home / words[5].split(":")[1])
    else:
        environment = os.environ | {"HOME": str(home), "WORKER": k}
        command = ["bash", "-c", flags["--command"]]
        codes.append(subprocess.run(command, cwd=home, env=environment).returncode)
sys.exit(max(codes, default=0))
"""
# Installing needs the network: of uv, only the environment that it would make.
UV = """#!/bin/sh
[ "$1" != venv ] || { mkdir -p .venv/bin && ln -sf "$REAL_PYTHON" .venv/bin/python; }
"""


class TpuVm:
    """A slice of two workers that are folders; a fake gcloud runs their commands here."""

    def __init__(self, checkout: Checkout, folder: Path):
        self.checkout = checkout
        tools = folder / "tools"
        tools.mkdir()
        python3 = "#!/bin/sh\nexit 0\n"  # python3 -m pip install uv
        gcloud = f"#!{sys.executable}\n{GCLOUD}"
        for name, text in {"gcloud": gcloud, "uv": UV, "python3": python3}.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "REAL_PYTHON": sys.executable,
            "WORKERS": str(folder / "workers"),
            "TPU_NAME": "slice",
            "TPU_ZONE": "zone",
        }
        git = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")
        for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all")):
            assert run(*git, *arguments, cwd=checkout.folder).returncode == 0

        self.script = checkout.folder / "launch" / "tpu_vm.sh"

    def __call__(self, *arguments: object, exit_code: int = 0, **environment: str):
        """Runs the script, from a folder that is not the repository."""
        result = run(
            self.script, *arguments,
            env=self.environment | environment, cwd=self.checkout.record,
        )  # fmt: skip
        assert result.returncode == exit_code, result.stdout + result.stderr
        return result


@pytest.fixture
def tpu_vm(checkout, tmp_path) -> TpuVm:
    """A TPU slice of two workers."""
    return TpuVm(checkout, tmp_path)


@pytest.mark.parametrize("arguments", [["setup"], ["run", "train", "--config"], ["stop"]])
def test_the_tpu_script_says_which_variable_is_missing(tpu_vm, arguments):
    for name, example in (("TPU_NAME", "inception"), ("TPU_ZONE", "us-west4-a")):
        result = tpu_vm(*arguments, exit_code=2, **{name: ""})
        assert result.stderr == f"error: {name} is not set, as in: export {name}={example}\n"


@pytest.mark.parametrize("arguments", [[], ["create"], ["run", "train"]])
def test_the_tpu_script_says_how_it_is_used(tpu_vm, arguments):
    result = tpu_vm(*arguments, exit_code=2)
    assert result.stderr.startswith("error: usage: launch/tpu_vm.sh ")


def test_a_tpu_run_is_restarted_after_42_and_goes_on_as_asked(tpu_vm):
    tpu_vm("setup")
    flags = ["--workdir", "a 'b' $HOME; *", "--config.a=8 epochs"]
    plan = tpu_vm.checkout.plan(_0=[42, 0], _1=[42, 42, 0])
    result = tpu_vm("run", "train", *flags, **plan)
    assert "output of 0\nexit code 42\noutput of 0\nexit code 0\n" in result.stdout
    tpu_vm.checkout.seen(1, start=2)
    assert tpu_vm.checkout.starts() == ["0.0", "0.1", "1.0", "1.1", "1.2"]
    assert tpu_vm.checkout.seen(1, start=2)["arguments"] == flags


def test_a_tpu_run_fails_with_the_exit_code_of_the_command(tpu_vm):
    tpu_vm("setup")
    tpu_vm("run", "train", "--a", exit_code=1, **tpu_vm.checkout.plan(_0=[1], _1=[1]))
    assert tpu_vm.checkout.starts() == ["0.0", "1.0"]


@pytest.mark.slow
def test_a_tpu_run_outlives_its_connection_until_it_is_stopped(tpu_vm, tmp_path):
    checkout = tpu_vm.checkout
    tpu_vm("setup")
    environment = tpu_vm.environment | checkout.plan(_0=["wait", 0], _1=["wait", 0])
    connection = [tpu_vm.script, "run", "train", "--a"]
    with subprocess.Popen(
        connection, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as first:
        for k in (0, 1):
            checkout.seen(k)
        os.killpg(first.pid, signal.SIGKILL)  # the connection is lost
    with subprocess.Popen(connection, env=environment, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "already running\n"
        other = tpu_vm("run", "evaluate", "--a", exit_code=1)
        assert "error: another run is on: train --a ; launch/tpu_vm.sh stop ends it" in other.stderr
        tpu_vm("stop")
        second.communicate(timeout=20)
    assert second.returncode == 42
    assert [checkout.seen(k)["signals"] for k in (0, 1)] == [["SIGTERM"], ["SIGTERM"]]
    assert checkout.starts() == ["0.0", "1.0"]  # not started again
    tpu_vm("stop")  # nothing is left to stop
    for state in (tmp_path / "workers").glob("*/.inception_jax/exit_code"):
        state.unlink()  # as if the machines had been switched off
    home = tpu_vm.environment | {"HOME": str(tmp_path / "workers" / "0")}
    lost = run(tpu_vm.script, "worker_follow", env=home)
    assert (lost.returncode, lost.stderr.startswith("error: the run ended")) == (1, True)
    tpu_vm("run", "train", "--a", **checkout.plan(_0=["wait", 0], _1=["wait", 0]))
    assert checkout.starts() == ["0.0", "0.1", "1.0", "1.1"]


# --- Slurm, as the scripts see it

TRAIN = "launch/slurm/train.sbatch"

# srun starts the tasks of a step one after the other, and ends with the highest exit code.
SRUN = """
import json, os, subprocess, sys
tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
nodes = int(os.environ["SLURM_STEP_NUM_NODES"])
flags = [word for word in sys.argv[1:] if word.startswith("--") and "=" in word][:2]
assert flags == ["--kill-on-bad-exit=0", "--wait=120"], flags
command = sys.argv[sys.argv.index("launch/slurm/task.sh"):]
codes = []
for task in range(tasks):
    place = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task % (tasks // nodes))}
    codes.append(subprocess.run(command, env=os.environ | place).returncode)
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """
import os, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    for number in range(20_000):  # more than a pipe holds
        print(f"node{number}")
elif sys.argv[1:3] == ["show", "node"]:
    print(f"NodeName={sys.argv[3]} Arch=x86_64\\n   NodeAddr=10.0.0.1 NodeHostName=one")
else:
    with open(os.environ["REQUEUED"], "a") as requeued:
        requeued.write(" ".join(sys.argv[1:]) + "\\n")
"""


class FakeSlurm:
    """Runs batch scripts as Slurm would on two nodes."""

    def __init__(self, checkout: Checkout, folder: Path):
        self.checkout = checkout
        self._requeued = folder / "requeued"
        tools = folder / "tools"
        tools.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            (tools / name).write_text(f"#!{sys.executable}\n{text}")
            (tools / name).chmod(0o755)
        self._environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "REQUEUED": str(self._requeued),
            "SLURM_SUBMIT_DIR": str(checkout.folder),
            "SLURM_JOB_ID": "20007",
            "SLURM_JOB_NODELIST": "node[0-1]",
            "SLURM_STEP_NUM_NODES": "2",
            "SLURM_STEP_NUM_TASKS": "2",
        }

    def __call__(self, script: str, *arguments: object, exit_code: int = 0, **environment: str):
        """Runs a script, from a folder that is not the repository."""
        result = run(
            "bash", self.checkout.folder / script, *arguments, cwd=self.checkout.record,
            env=os.environ | self._environment | environment,
        )  # fmt: skip
        assert result.returncode == exit_code, result.stdout + result.stderr
        return result

    def requeued(self) -> list[str]:
        """The calls of scontrol that do not ask for names and addresses."""
        return self._requeued.read_text().splitlines() if self._requeued.exists() else []


@pytest.fixture
def fake_slurm(checkout, tmp_path) -> FakeSlurm:
    """A fake Slurm of two nodes with one process each."""
    return FakeSlurm(checkout, tmp_path)


def test_a_batch_script_starts_each_process_and_none_again_that_is_done(fake_slurm):
    checkout = fake_slurm.checkout
    fake_slurm(TRAIN, "--workdir", "a 'b' $HOME", **checkout.plan(_0=[0], _1=[0]))
    assert checkout.starts() == ["0.0", "1.0"]
    for k in (0, 1):
        assert checkout.seen(k)["arguments"] == ["--workdir", "a 'b' $HOME"]
        address = checkout.seen(k)["environment"]["JAX_COORDINATOR_ADDRESS"]
        assert address == "10.0.0.1:10007"
    assert fake_slurm.requeued() == []


@pytest.mark.parametrize(
    ("ends", "exit_code"),
    [
        ((42, 0), 42),
        ((0, 42), 42),
        ((1, 1), 1),
        ((1, 42), 1),  # not even when another process, which lost its peer, asks for it
        (("die", 42), 137),
        ((2, 42), 2),
    ],
)
def test_a_batch_script_goes_back_to_the_queue_after_42_alone(fake_slurm, ends, exit_code):
    plan = fake_slurm.checkout.plan(_0=[ends[0]], _1=[ends[1]])
    result = fake_slurm(TRAIN, "--a", exit_code=exit_code, **plan)
    again = exit_code == 42
    assert fake_slurm.requeued() == ["requeue 20007"] * again
    assert ("job 20007 goes back to the queue" in result.stderr) == again


def test_a_process_that_dies_of_sigterm_was_preempted(checkout):
    """It was not listening yet; the script around it gets the signal, too, and lives on."""
    python = checkout.record / "python"
    python.write_text("#!/bin/sh\nkill -TERM $PPID\nkill -TERM $$\n")
    python.chmod(0o755)
    task = checkout.folder / "launch" / "slurm" / "task.sh"
    assert run(task, "train", env=os.environ | {"PYTHON": str(python)}).returncode == 42


@pytest.mark.parametrize(
    ("tasks", "gpus", "devices"),
    [
        ("2", "0,1,2,3", ["0,1,2,3", "0,1,2,3"]),
        ("4", "0,1,2,3", ["0,1", "2,3", "0,1", "2,3"]),
        ("4", "0", None),
    ],
)
def test_the_processes_of_a_batch_script_share_the_gpus_of_a_node(fake_slurm, tasks, gpus, devices):
    checkout = fake_slurm.checkout
    plan = checkout.plan(**{f"_{k}": [0] for k in range(4)})
    environment = {"SLURM_STEP_NUM_TASKS": tasks, "CUDA_VISIBLE_DEVICES": gpus} | plan
    result = fake_slurm(TRAIN, exit_code=0 if devices else 2, **environment)
    if devices is None:
        assert "error: 2 processes cannot share 1 GPUs" in result.stderr
        assert checkout.starts() == []
    else:
        seen = [checkout.seen(k)["environment"] for k in range(len(devices))]
        assert [one["JAX_LOCAL_DEVICE_IDS"] for one in seen] == devices


def test_a_task_of_an_array_takes_a_line(fake_slurm):
    checkout = fake_slurm.checkout
    flags = checkout.record / "flags"
    flags.write_text("--workdir a --config.a='8 epochs'\n--workdir \"b c\" --config.b=$(date)\n")
    sweep = "launch/slurm/sweep.sbatch"
    plan = {"PLAN": json.dumps({f"2-{k}": [42] for k in (0, 1)})}
    array = {"SLURM_ARRAY_JOB_ID": "7"} | checkout.plan() | plan
    fake_slurm(sweep, "flags", "--config", "c.py", exit_code=42, SLURM_ARRAY_TASK_ID="2", **array)
    assert checkout.seen("2-0")["arguments"] == [
        "--workdir", "b c", "--config.b=$(date)", "--config", "c.py",
    ]  # fmt: skip
    assert fake_slurm.requeued() == ["requeue 7_2"]
    missing = fake_slurm(sweep, "flags", exit_code=2, SLURM_ARRAY_TASK_ID="3", **array)
    assert missing.stderr == "error: flags has no line 3\n"


# --- Slurm itself


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Slurm]:
    """A real Slurm of two nodes on this machine."""
    if slurm.missing():
        pytest.skip(f"not installed (tests/apt_soak.txt): {', '.join(slurm.missing())}")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")
    with slurm.running() as running:
        yield running


@pytest.mark.soak
@pytest.mark.parametrize("script", BATCH_SCRIPTS, ids=lambda path: path.name)
def test_slurm_takes_the_batch_scripts(cluster, checkout, script):
    cluster.command(
        "sbatch", "--test-only", "--nodes=2", script.relative_to(ROOT), cwd=checkout.folder
    )
    with pytest.raises(AssertionError, match="not available"):
        cluster.command("sbatch", "--test-only", "--nodes=3", script.relative_to(ROOT), cwd=ROOT)


@pytest.mark.soak
def test_slurm_starts_again_after_42(cluster, checkout):
    """Each process has the variables that JAX reads from Slurm."""
    plan = checkout.plan(_0=[42, 0], _1=[0, 0])
    job = cluster.submit(
        TRAIN, "--workdir", "a 'b' $HOME", cwd=checkout.folder, PYTHON=sys.executable, **plan
    )
    cluster.start_now(job)
    done = cluster.wait(job, "COMPLETED", "FAILED")
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "1"), cluster.output(job)
    assert checkout.starts() == ["0.0", "0.1", "1.0", "1.1"]
    for k in (0, 1):
        assert checkout.seen(k)["arguments"] == ["--workdir", "a 'b' $HOME"]
        environment = checkout.seen(k)["environment"]
        assert environment["SLURM_NTASKS"] == "2"
        assert environment["SLURMD_NODENAME"] == f"node{k}"
        port = 10000 + int(job) % 20000
        assert environment["JAX_COORDINATOR_ADDRESS"] == f"127.0.0.1:{port}"
    # The second start did not wipe out what the first one said.
    assert cluster.output(job).count("output of 0") == 2


@pytest.mark.soak
@pytest.mark.parametrize(
    ("ends", "exit_code"), [((1, 1), "1:0"), ((1, 42), "1:0"), (("die", 42), "137:0")]
)
def test_slurm_does_not_start_again_after_an_error(cluster, checkout, ends, exit_code):
    """Another process, which lost its peer, may ask for a restart: there is none."""
    plan = checkout.plan(_0=[ends[0]], _1=[ends[1]])
    job = cluster.submit(TRAIN, cwd=checkout.folder, PYTHON=sys.executable, **plan)
    done = cluster.wait(job, "COMPLETED", "FAILED")
    assert (done["JobState"], done["Restarts"], done["ExitCode"]) == ("FAILED", "0", exit_code)


@pytest.mark.soak
@pytest.mark.parametrize("limit", [1, 60], ids=["by the clock", "by hand"])
def test_slurm_warns_the_processes_before_the_time_is_up(cluster, checkout, limit):
    """They save, and the job goes on later. One minute is less than the warning's two."""
    plan = checkout.plan(_0=["wait", 0], _1=["wait", 0])
    job = cluster.submit(
        TRAIN, cwd=checkout.folder, options=("--nodes=2", f"--time={limit}"),
        PYTHON=sys.executable, **plan,
    )  # fmt: skip
    for k in (0, 1):
        checkout.seen(k)
    if limit == 60:
        cluster.signal(job, "TERM")
    eventually(lambda: all("signals" in checkout.seen(k) for k in (0, 1)), timeout=90)
    cluster.start_now(job)
    assert cluster.wait(job, "COMPLETED", "FAILED")["JobState"] == "COMPLETED"
    assert [checkout.seen(k)["signals"] for k in (0, 1)] == [["SIGTERM"], ["SIGTERM"]]


@pytest.mark.soak
def test_a_slurm_job_that_is_cancelled_saves_and_stays_away(cluster, checkout):
    plan = checkout.plan(_0=["wait", 0], _1=["wait", 0])
    job = cluster.submit(TRAIN, cwd=checkout.folder, PYTHON=sys.executable, **plan)
    for k in (0, 1):
        checkout.seen(k)
    cluster.cancel(job)
    eventually(lambda: all("signals" in checkout.seen(k) for k in (0, 1)))
    assert cluster.wait(job, "CANCELLED")["Restarts"] == "0"


@pytest.mark.soak
def test_a_slurm_sweep_takes_a_line_a_task(cluster, checkout):
    flags = checkout.folder / "flags"
    flags.write_text("--workdir a --config.a='8 epochs'\n--workdir \"b c\" --config.b=$(date)\n")
    plan = {"1-0": [0], "2-0": [42, 0]}
    environment = checkout.plan() | {"PLAN": json.dumps(plan)}
    job = cluster.submit(
        "launch/slurm/sweep.sbatch", "flags", "--config", "c.py", cwd=checkout.folder,
        options=("--array=1-3", "--nodes=1"), PYTHON=sys.executable, **environment,
    )  # fmt: skip
    assert cluster.wait(f"{job}_3", "FAILED")["ExitCode"] == "2:0"  # a line that is not there
    cluster.start_now(f"{job}_2")
    assert cluster.wait(f"{job}_2", "COMPLETED", "FAILED")["Restarts"] == "1"
    assert cluster.wait(f"{job}_1", "COMPLETED", "FAILED")["Restarts"] == "0"
    assert checkout.seen("1-0")["arguments"] == [
        "--workdir", "a", "--config.a=8 epochs", "--config", "c.py",
    ]  # fmt: skip
    assert checkout.seen("2-0", start=1)["arguments"] == [
        "--workdir", "b c", "--config.b=$(date)", "--config", "c.py",
    ]  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize(
    ("options", "devices"),
    [
        (("--ntasks-per-node=1",), ["0,1,2,3", "0,1,2,3"]),
        (("--ntasks-per-node=2",), ["0,1", "2,3", "0,1", "2,3"]),
    ],
)
def test_slurm_processes_share_the_gpus_of_a_node(cluster, checkout, options, devices):
    """With a list of GPUs as Slurm gives it; this machine has none."""
    plan = checkout.plan(**{f"_{k}": [0] for k in range(len(devices))})
    job = cluster.submit(
        TRAIN, cwd=checkout.folder, options=("--nodes=2", *options),
        PYTHON=sys.executable, CUDA_VISIBLE_DEVICES="0,1,2,3", **plan,
    )  # fmt: skip
    assert cluster.wait(job, "COMPLETED", "FAILED")["JobState"] == "COMPLETED"
    seen = [checkout.seen(k)["environment"]["JAX_LOCAL_DEVICE_IDS"] for k in range(len(devices))]
    assert seen == devices
