"""The doctor: the result of each check where something is wrong, and the command's output."""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest
from conftest import ROOT
from faults.jobs import job

from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import make_description
from inception_jax.config import compatibility
from inception_jax.data.sources import FileSource
from inception_jax.errors import UserError
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, processes
from inception_jax.storage import json_files, locks
from inception_jax.tools.doctor import data_checks, job_checks, machine_checks, workdir_checks
from inception_jax.tools.doctor.check_result import CheckResult, Status, merge
from inception_jax.tools.doctor.context import Context
from inception_jax.tools.doctor.run_checks import Check, run_checks
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import initial_state

SMOKE = Context("configs/smoke.py")


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def results(checks, context: Context) -> dict[str, CheckResult]:
    return {row.name: row.result for row in run_checks(checks, context)}


def one(run, context: Context) -> CheckResult:
    """The result of a check that has something to check."""
    result = run(context)
    assert result is not None
    return result


# Results.


def test_an_error_in_a_check_is_its_result_and_the_others_go_on():
    def broken(_: Context) -> CheckResult:
        raise UserError("the thing\nis wrong")

    def bug(_: Context) -> CheckResult:
        return {"a": CheckResult(Status.OK, "")}["no such key"]

    def well(_: Context) -> CheckResult:
        return CheckResult(Status.OK, "well")

    checks = (
        Check("broken", broken),
        Check("after", well, needs=("broken",)),
        Check("after that", well, needs=("after",)),
        Check("bug", bug),
        Check("of a config", bug, given=("config",)),
        Check("other", well, needs=("of a config",)),
    )
    found = results(checks, Context())
    assert found["broken"] == CheckResult(Status.FAILED, "the thing is wrong")
    assert found["after"] == CheckResult(Status.NOT_CHECKED, "it needs: broken")
    assert found["after that"] == CheckResult(Status.NOT_CHECKED, "it needs: after")
    assert found["bug"].status == Status.FAILED
    assert found["bug"].found.startswith("KeyError: 'no such key'")
    assert found["other"].status == Status.OK
    assert "of a config" not in found


def test_a_merged_result_names_processes_and_hosts():
    well, ill = CheckResult(Status.OK, "well"), CheckResult(Status.FAILED, "ill", "rest")
    assert merge([well, well, None], "abc") == well
    assert merge([well, ill, ill], "abb") == CheckResult(
        Status.FAILED, "processes 1, 2 on b: ill", "rest"
    )
    warned = CheckResult(Status.WARNING, "tired")
    assert merge([warned, well, ill], "aab").found == "process 2 on b: ill"
    assert merge([None, well], "ab") == well
    many = merge([well] + [ill] * 99, [f"host{index}" for index in range(100)])
    assert many.found.startswith("processes 1, 2, 3, 4, 5, 6, 7, 8 and 91 more on host1, ")


def test_facts_that_differ_from_process_0_fail():
    first, same, other = (
        CheckResult(Status.OK, "well", facts={"jax": jax_version, "flax": "0.12"})
        for jax_version in ("0.10.2", "0.10.2", "0.11.0")
    )
    assert merge([first, same], "ab", "install") == first
    found = merge([first, same, other], "abc", "install")
    assert found.status == Status.FAILED
    assert found.found == "process 2 on c: differs from process 0 in jax (0.11.0, not 0.10.2)"
    assert found.remedy == "install"


# The machine.


def test_requirements_that_are_not_met():
    texts = ["numpy>=1", "numpy<1", "no-such-thing>=2", "nor-this; extra == 'tpu'"]
    assert machine_checks.unmet(texts) == [("numpy", "<1"), ("no-such-thing", ">=2")]
    assert machine_checks.unmet(texts[3:], "tpu") == [("nor-this", "")]


def test_the_requirements_are_those_of_the_package(monkeypatch):
    def no_package(name: str) -> list[str]:
        raise machine_checks.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine_checks.importlib.metadata, "requires", no_package)
    lines = machine_checks.requirements()
    assert "jax>=0.10.2,<0.13" in lines
    assert machine_checks.unmet(lines) == []


def test_another_version_is_a_warning_and_a_missing_library_a_failure(monkeypatch):
    for text, status, message in (
        ("numpy<1", Status.WARNING, f"numpy is {np.__version__}, outside of <1"),
        ("no-such-thing", Status.FAILED, "no-such-thing is not installed"),
    ):
        monkeypatch.setattr(machine_checks, "requirements", lambda text=text: ["jax", text])
        found = machine_checks.versions(Context())
        assert (found.status, found.found) == (status, message)
        assert found.remedy == f"python -m pip install '{text}'"


@pytest.mark.parametrize(
    ("file", "environment", "found"),
    [
        ("dev/nvidia0", {}, ("an NVIDIA GPU", "python -m pip install 'inception_jax[cuda]'")),
        ("dev/nvidia0", {"JAX_PLATFORMS": "cpu"}, ("an NVIDIA GPU", "JAX_PLATFORMS is cpu: unset")),
        ("proc/driver/nvidia/gpus/0000:01:00.0", {}, ("an NVIDIA GPU", "python")),
        ("dev/accel0", {}, ("a TPU", "python -m pip install 'inception_jax[tpu]'")),
        ("dev/vfio/0", {"TPU_WORKER_ID": "0"}, ("a TPU", "python")),
        ("dev/vfio/0", {}, None),
        ("dev/nvidiactl", {}, None),
    ],
)
def test_an_accelerator_that_is_not_used(tmp_path, file, environment, found):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    unused = machine_checks.unused_accelerator(tmp_path, environment)
    if unused is None:
        assert found is None
    else:
        what, remedy = unused
        assert what == found[0]
        assert remedy.startswith(found[1])


def test_an_unused_accelerator_is_a_warning(monkeypatch):
    assert machine_checks.devices(Context()).status == Status.OK
    monkeypatch.setattr(machine_checks, "unused_accelerator", lambda: ("a TPU", "use it"))
    found = machine_checks.devices(Context())
    assert (found.status, found.remedy) == (Status.WARNING, "use it")
    assert found.found.endswith("x cpu, although there is a TPU")


def test_devices_that_do_not_start(monkeypatch):
    def fail() -> None:
        raise AssertionError  # as JAX does

    monkeypatch.setattr(jax, "local_devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    found = results(machine_checks.CHECKS + job_checks.CHECKS, Context())
    assert found["devices"].status == Status.FAILED
    reported = "JAX cannot start them (JAX_PLATFORMS is cuda): it does not say why"
    assert found["devices"].found == reported
    assert found["collective"] == CheckResult(Status.NOT_CHECKED, "it needs: devices")


def test_few_open_files_are_a_warning():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (machine_checks.LEAST_OPEN_FILES - 1, hard))
        found = machine_checks.open_files(Context())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.status == Status.WARNING
    assert found.remedy == "ulimit -n 4096"


def test_the_compilation_cache(tmp_path, monkeypatch):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "inception_jax" / "compiled"
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        assert machine_checks.compilation_cache(Context()) == CheckResult(Status.OK, str(folder))
        folder.chmod(0o777)
        found = machine_checks.compilation_cache(Context())
        assert found.status == Status.WARNING
        assert "JAX_COMPILATION_CACHE_DIR" in found.remedy
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        assert machine_checks.compilation_cache(Context()) == CheckResult(Status.OK, str(tmp_path))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# The job.


def test_a_wrong_sum_is_found(monkeypatch):
    assert job_checks.sum_over_devices() > 0
    jit = jax.jit
    monkeypatch.setattr(
        jax, "jit", lambda function, **more: jit(lambda x: function(x).at[7].add(1), **more)
    )
    with pytest.raises(UserError, match=r"1 of 1,048,576 sums are wrong on \S+"):
        job_checks.sum_over_devices()


def test_work_that_hangs_is_given_up():
    assert job_checks.within(10, "one", lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        job_checks.within(10, "a division", lambda: 1 // 0)
    with pytest.raises(UserError, match="sleep did not end within 0 s: devices hang"):
        job_checks.within(0.01, "sleep", lambda: time.sleep(1))


def test_the_processes_and_the_slowest_way_to_the_first(monkeypatch):
    """With a job of three that is made up; the last test here has a real one of two."""
    monkeypatch.setattr(processes, "hosts", lambda: ("a", "a", "b"))
    monkeypatch.setattr(processes, "coordinator", lambda: "a:1")
    monkeypatch.setattr(processes, "round_trip_seconds", lambda: 0.01)
    assert job_checks.processes_and_hosts(Context()) == CheckResult(Status.OK, "3, on a (2), b (1)")
    for slowest, verdict in ((0.02, Status.OK), (0.2, Status.WARNING)):
        monkeypatch.setattr(processes, "gather", lambda here, there=slowest: [here, here, there])
        found = job_checks.coordinator(Context())
        assert found.status == verdict
        reported = f"a:1 answers process 2 on b, the slowest, in {1000 * slowest:.1f} ms"
        assert found.found == reported


@pytest.mark.parametrize("difference", [-61.0, 3600.0])
def test_clocks(difference):
    assert job_checks.compare_clocks(1e9 + 1, 1e9).status == Status.OK
    found = job_checks.compare_clocks(1e9 + difference, 1e9)
    assert found.status == Status.WARNING
    assert f"{difference:+,.0f} s" in found.found


# The config and its data.


def test_a_good_config():
    found = results(data_checks.CHECKS, SMOKE)
    assert {result.status for result in found.values()} == {Status.OK}
    assert "64 images in train, 64 images in test, 10 classes" in found["data"].found


def test_a_config_that_cannot_be_read():
    found = results(data_checks.CHECKS, Context("configs/smoke.py", ["--config.data.batch_sise=1"]))
    assert found["config"].found.endswith("did you mean 'data.batch_size'?")
    assert [result.status for result in found.values()] == [
        Status.FAILED,
        Status.NOT_CHECKED,
        Status.NOT_CHECKED,
        Status.NOT_CHECKED,
    ]


@pytest.mark.parametrize(
    ("field", "row", "words"),
    [
        ("data.source=tfds", "data", "make it with: python -m inception_jax.prepare digits"),
        ("data.crop=round", "config", "data.crop is 'round'"),
        ("training.total=0 steps", "network", "at least one step"),
        ("evaluation.every=0 steps", "network", "evaluation.every is '0 steps'"),
        ("model.stem=imagenet", "network", "data.image_size 16"),
    ],
)
def test_a_config_that_cannot_be_trained(tmp_path, field, row, words):
    overrides = [f"--config.{field}", f"--config.data.data_dir={tmp_path}"]
    if field == "data.source=tfds":
        overrides.append("--config.data.name=digits")
    found = results(data_checks.CHECKS, Context("configs/smoke.py", overrides))
    assert found[row].status == Status.FAILED
    assert words in found[row].found
    assert row == "config" or found["config"].status == Status.OK


FURTHER = """
from configs import digits

def get_config(argument=None):
    config = digits.get_config(argument).unlock()
    config.evaluations = {"seen": {"split": "train[:20]"}}
    return config
"""


@pytest.mark.parametrize(
    ("field", "row", "words"),
    [
        ("split=train[:30]", "data", "360 images in test, 30 images in train[:30], 10 classes"),
        ("split=nowhere", "data", "nowhere"),
        ("every=0 steps", "network", "evaluations.seen.every is '0 steps'"),
    ],
)
def test_further_evaluations_are_checked(tmp_path, data_dir, field, row, words):
    file = tmp_path / "further.py"
    file.write_text(FURTHER)
    overrides = [f"--config.data.data_dir={data_dir}", f"--config.evaluations.seen.{field}"]
    found = results(data_checks.CHECKS, Context(str(file), overrides))
    well = field == "split=train[:30]"
    assert found[row].status == (Status.OK if well else Status.FAILED)
    assert words in found[row].found


def test_a_batch_that_the_devices_cannot_share(monkeypatch):
    monkeypatch.setattr(devices, "make_mesh", lambda: SimpleNamespace(size=3))
    found = results(data_checks.CHECKS[:2], SMOKE)["batch size"]
    assert found.status == Status.FAILED
    assert "use a multiple of 3" in found.found


def test_the_last_image_is_decoded(tmp_path):
    files = [tmp_path / "first.jpg", tmp_path / "last.jpg"]
    for file in files:
        cv2.imwrite(str(file), np.zeros((40, 40, 3), np.uint8))
    files[1].write_bytes(files[1].read_bytes()[:-200])
    context = Context("configs/smoke.py")
    context.__dict__["sources"] = {"train": FileSource(files)}
    found = results(data_checks.CHECKS, context)["data"]
    assert found.status == Status.FAILED
    assert "last.jpg is not a readable image" in found.found


@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_the_size_of_the_state_is_that_of_a_real_one(decay):
    overrides = [f"--config.training.average_decay={decay}"]
    context = Context("configs/smoke.py", overrides)
    config = context.resolved
    optimizer = make_optimizer(config.optimizer, lambda step: 0.1)
    state = initial_state(build(network_config(config)), optimizer, 0, averaging=decay > 0)
    real = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    assert context.state_bytes == real


# The workdir.


def test_a_workdir_is_tried_and_left_as_it_was(tmp_path):
    for workdir in (tmp_path / "not" / "there", tmp_path):
        found = workdir_checks.access(Context(workdir=workdir))
        assert found.status == Status.OK, found
        assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_workdir(tmp_path):
    (tmp_path / "file").touch()
    found = results(workdir_checks.CHECKS, Context(workdir=tmp_path / "file" / "run"))
    assert found["workdir"].status == Status.FAILED
    assert found["workdir"].found.startswith(f"{tmp_path}/file is not a folder")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux has a folder for nobody")
def test_a_workdir_where_nobody_may_write():
    found = results(workdir_checks.CHECKS, Context(workdir=Path("/proc/run")))["workdir"]
    assert found.status == Status.FAILED
    assert found.found.startswith("/proc/")


def test_a_disk_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_checks.fcntl, "flock", lambda *_: None)
    with pytest.raises(UserError, match="can be locked twice"):
        workdir_checks.write_rename_and_lock(tmp_path)

    def refuse(*_):
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(workdir_checks.fcntl, "flock", refuse)
    with pytest.raises(UserError, match="cannot be locked there"):
        workdir_checks.write_rename_and_lock(tmp_path)


def test_the_run_in_the_workdir(tmp_path):
    context = Context("configs/smoke.py", workdir=tmp_path)
    assert one(workdir_checks.run, context) == CheckResult(Status.OK, "none yet")
    config = compatibility.to_dict(context.resolved)
    json_files.replace(tmp_path / "config.json", json.dumps(config))
    assert one(workdir_checks.run, context).found == "no good checkpoint: training would start over"
    description = make_description(context.resolved, [str(label) for label in range(10)], None)
    store.write(tmp_path / "checkpoints" / "0", {"x": np.zeros(3)}, description)
    good = "step 0 of ? is its newest good checkpoint"
    assert one(workdir_checks.run, context) == CheckResult(Status.OK, good)
    with locks.hold(tmp_path, "training"):
        busy = one(workdir_checks.run, context)
    assert busy == CheckResult(Status.OK, f"{good}; another process is training in it now")
    assert not locks.is_held(tmp_path)
    (tmp_path / "checkpoints" / "7").mkdir()
    damaged = one(workdir_checks.run, context)
    assert damaged.status == Status.WARNING
    assert damaged.found == f"{good}; damaged: checkpoint 7 (it has no description)"
    other = Context("configs/smoke.py", ["--config.seed=5"], tmp_path)
    found = results(workdir_checks.CHECKS, other)
    assert found["run"].status == Status.FAILED
    assert "seed was 0, is 5" in found["run"].found
    assert found["room"].status == Status.OK


def test_room_for_the_checkpoints(tmp_path, monkeypatch):
    context = Context("configs/smoke.py", workdir=tmp_path)
    assert one(workdir_checks.room, context).status == Status.OK
    size = context.state_bytes
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5 * size - 1))
    assert (
        one(workdir_checks.room, context).status == Status.FAILED
    )  # three, the best, the one being written
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "part").write_bytes(bytes(1))
    assert one(workdir_checks.room, context).status == Status.OK


# The command.


def test_json_is_one_object_and_nothing_stays_behind(command, tmp_path):
    result = command(
        "doctor", "--config", "configs/smoke.py", "--workdir", tmp_path / "run", "--json", devices=2
    )
    assert result.stderr == ""
    found = json.loads(result.stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert found["verdict"] in ("ok", "warning")
    assert found["hosts"] == [socket.gethostname()]
    assert checks["devices"]["found"].startswith("2 x cpu")
    assert checks["batch size"]["found"] == "16, 8 a device"
    assert checks["room"]["verdict"] == "ok"
    assert {"coordinator", "clocks"}.isdisjoint(checks)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_reported_and_ends_with_1(command, tmp_path):
    result = command(
        "doctor", "--config", "configs/digits.py", f"--config.data.data_dir={tmp_path}", exit_code=1
    )
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == "error: failed: data"
    rows = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    reported = {row[1]: row[2] for row in rows if len(row) > 3 and row[1]}
    assert reported["data"] == "failed"
    assert reported["network"] == "not checked"
    assert reported["collective"] == "ok"
    assert result.stdout.splitlines()[-1].endswith("1 failed; --workdir would check more")


def test_a_broken_jax_is_one_line(tmp_path):
    (tmp_path / "jax.py").write_text("raise RuntimeError('jaxlib is of another version')")
    result = subprocess.run(
        [sys.executable, "-m", "inception_jax.doctor"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr == (
        "error: jaxlib is of another version: python -m pip install -r requirements.txt\n"
    )


@pytest.mark.slow
def test_two_processes_of_which_one_has_no_data(command, data_dir, tmp_path):
    own = {0: [f"--config.data.data_dir={data_dir}"], 1: [f"--config.data.data_dir={tmp_path}"]}
    with contextlib.ExitStack() as stack:
        two = stack.enter_context(job(command.environment(), tmp_path / "job", 2))
        two.start("doctor", "--config", "configs/digits.py", "--json", own=own)
        assert two.wait() == [1, 1], two.said(0) + two.said(1)
    found = json.loads((two.folder / "stdout_0").read_text())
    assert (two.folder / "stdout_1").read_text() == ""
    checks = {check["name"]: check for check in found["checks"]}
    host = socket.gethostname()
    assert checks["processes"]["found"] == f"2, on {host} (2)"
    assert {checks[name]["verdict"] for name in ("coordinator", "clocks", "collective")} == {"ok"}
    assert checks["data"]["verdict"] == "failed"
    assert checks["data"]["found"].startswith(f"process 1 on {host}: no prepared data 'digits'")
    assert [one["verdict"] for one in checks["data"]["processes"]] == ["ok", "failed"]
    assert checks["network"]["verdict"] == "not checked"
    assert two.said(0).splitlines()[-1] == "error: failed: data"
