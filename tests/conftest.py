"""Fixtures that all tests share: strict JAX, the commands, small data and runs."""

import contextlib
import gc
import importlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxlib.version

# Tests are about results: programs that are not optimised are compiled in a third to two thirds of
# the time. It holds for the commands that tests start, too, and has to be there before JAX is.
# Code is generated sooner in the older of two ways; jaxlib 0.12 has the newer one alone, and a flag
# that it does not know ends the process.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    if jaxlib.version.__version_info__ < (0, 12)
    else "--xla_backend_optimization_level=0",
)

# Compiled programs are kept as a user's are, but apart: between runs, for all workers, and for the
# processes that tests start.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "home")
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)

import jax
import numpy as np
import pytest
from filelock import FileLock

from inception_jax import cli
from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import make_description
from inception_jax.config import compatibility
from inception_jax.config.load import load_config
from inception_jax.data import unreadable_images
from inception_jax.errors import ExitCode
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import compiled_programs
from inception_jax.tasks.classification import predictor
from inception_jax.training import setup

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "oracles"))

compiled_programs.keep()
jax.config.update("jax_numpy_rank_promotion", "raise")


def need(installed: bool, what: str) -> None:
    """Skips a test whose tool is not there; in CI it fails: there everything is to be there."""
    if not installed and os.environ.get("CI") == "true":
        pytest.fail(
            f"{what} is not installed (tests/apt.txt, tests/apt_soak.txt, or the test extra)"
        )
    if not installed:
        pytest.skip(f"{what} is not installed")


def tool(name: str) -> str:
    """The path of a program, which may have been installed beside the interpreter."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    need(path is not None, name)
    assert path is not None
    return path


class Command:
    """Calls the commands of the package, `python -m inception_jax.NAME ARGUMENTS`.

    In this process, where JAX has been imported and programs are compiled already; in one of their
    own with `process`, or with another number of devices. Warnings are errors in both.
    """

    def environment(self, devices: int = 1) -> dict[str, str]:
        """The environment of a process that runs as the tests do."""
        return os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_NUMPY_RANK_PROMOTION": "raise",
            "PYTHONWARNINGS": "error",
        }

    def start(self, name: str, *arguments: object, devices: int = 1) -> subprocess.Popen[str]:
        """Starts the command in a process of its own and returns that."""
        return subprocess.Popen(
            [sys.executable, "-m", f"inception_jax.{name}", *map(str, arguments)],
            cwd=ROOT,
            env=self.environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self,
        name: str,
        *arguments: object,
        devices: int = 1,
        exit_code: int = 0,
        process: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end and checks its exit code."""
        if process or devices > 1:
            started = self.start(name, *arguments, devices=devices)
            stdout, stderr = started.communicate(timeout=600)
            result = subprocess.CompletedProcess(started.args, started.returncode, stdout, stderr)
        else:
            result = call(name, *arguments)
        assert result.returncode == exit_code, f"exit {result.returncode}\n{result}"
        return result

    def fails(self, name: str, *arguments: object, **how: Any) -> str:
        """Runs a command that must end with one line saying what is wrong; returns the line."""
        result = self(name, *arguments, **how)
        assert "Traceback" not in result.stderr
        lines = result.stderr.splitlines()
        assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
        assert result.stdout == ""
        return lines[-1]


def call(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, from the root of the repository."""
    module = importlib.import_module(f"inception_jax.{name}")
    argv = [str(argument) for argument in arguments]
    exit_code: Any
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(ROOT),
        process_state_kept(),
    ):
        try:
            exit_code, _ = cli.invoke(module.main, module.make_parser(), argv)
        except SystemExit as end:  # --help
            exit_code = end.code
        if exit_code == ExitCode.ERROR:
            # What Orbax leaves behind where it fails complains when it goes: to the command's
            # hooks, and not in the middle of another test.
            gc.collect()
    return subprocess.CompletedProcess([name, *argv], exit_code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def process_state_kept() -> Iterator[None]:
    """Gives back what a command sets for its whole process, and names bad images anew."""
    unreadable_images.warn_once.cache_clear()
    logs = [logging.getLogger(name) for name in ("inception_jax", "absl", "asyncio")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in logs]
    hooks = sys.unraisablehook, threading.excepthook
    options = {
        name: jax.config.values[name] for name in ("jax_platforms", "jax_enable_compilation_cache")
    }
    try:
        yield
    finally:
        for name, value in options.items():
            jax.config.update(name, value)
        for log, (level, propagate, handlers) in zip(logs, before, strict=True):
            for handler in set(log.handlers) - set(handlers):
                handler.close()
            log.setLevel(level)
            log.propagate, log.handlers[:] = propagate, handlers
        sys.unraisablehook, threading.excepthook = hooks


@pytest.fixture(scope="session", autouse=True)
def reads_that_orbax_leaves_behind() -> Iterator[None]:
    """Where Orbax fails at one array, its reads of others end later, in the middle of any test."""
    hook = sys.unraisablehook

    def pass_others(ignored: Any) -> None:
        if str(ignored.exc_value) != "Event loop is closed":
            hook(ignored)

    sys.unraisablehook = pass_others
    yield
    sys.unraisablehook = hook


@pytest.fixture(scope="session")
def command() -> Command:
    """The commands of the package."""
    return Command()


@pytest.fixture(scope="session", autouse=True)
def programs_made_once() -> Iterator[None]:
    """Each training step and each network's forward pass is traced once for its config.

    Both are functions of config, network and devices alone, so runs that share them stay exact.
    """

    def once(make: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
        made: dict[Any, Any] = {}

        def cached(*arguments: Any) -> Any:
            chosen = key(*arguments)
            if chosen not in made:
                made[chosen] = make(*arguments)
            return made[chosen]

        return cached

    def step_key(task: Any, config: Any, network: Any, plan: Any, mesh: Any) -> Any:
        deciding = compatibility.to_dict(config)
        for section in ("evaluation", "checkpoints"):
            del deciding[section]
        for field in (
            "source", "name", "data_dir", "train_split", "threads", "fake_examples",
            "max_bad_fraction",
        ):  # fmt: skip
            del deciding["data"][field]
        durations = plan.total, plan.warmup, plan.decay_every, plan.average_start
        return json.dumps(deciding, sort_keys=True), network.config, durations, mesh

    def logits_key(network: Any, data: Any, mesh: Any) -> Any:
        return network.config, tuple(data.mean), tuple(data.std), mesh

    make_step = once(setup.make_step, step_key)

    def make_step_and_state(*arguments: Any) -> Any:
        train_step, state = make_step(*arguments)
        return train_step, jax.tree.map(np.copy, state)  # a step may take the arrays it is given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_step", make_step_and_state)
        patch.setattr(predictor, "make_logits", once(predictor.make_logits, logits_key))
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder once for all workers of pytest-xdist; whoever comes later waits for it."""
    together = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        together = together.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        with FileLock(together / f"{name}.lock"):
            if not (together / f"{name}.done").exists():
                fill(together / name)
                (together / f"{name}.done").touch()
        return together / name

    return make


@pytest.fixture(scope="session")
def data_dir(command: Command, made_once: Callable[..., Path]) -> Path:
    """A folder with the prepared digits, to be read only."""
    return made_once("data", lambda folder: command("prepare", "digits", "--data_dir", folder))


# What the network of `digits_run` has else than that of configs/digits.py.
DIGITS_NETWORK = ["--config.model.architecture=shallow", "--config.model.width=0.125"]


@pytest.fixture(scope="session")
def digits_run(
    command: Command,
    data_dir: Path,
    made_once: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The workdir of three epochs on the digits, three modules: enough to be far above chance."""

    def train(workdir: Path) -> None:
        command(
            "train", "--config", "configs/digits.py", "--workdir", workdir,
            f"--config.data.data_dir={data_dir}", "--config.training.total=3 epochs",
            "--config.training.average_start=2 epochs", *DIGITS_NETWORK,
        )  # fmt: skip

    # A copy: tests write results into it.
    return Path(
        shutil.copytree(made_once("digits", train), tmp_path_factory.mktemp("runs") / "digits")
    )


@pytest.fixture(scope="session")
def second_network(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of no run, for the same classes: untrained, narrower, and shown other crops."""
    config = load_config(
        "configs/digits.py",
        ["--config.model.architecture=shallow", "--config.model.width=0.0625",
         "--config.data.image_size=14",
         "--config.data.mean=(100.0, 110.0, 120.0)", "--config.data.std=(50.0, 60.0, 70.0)",
         "--config.training.average_decay=0.0"],
    )  # fmt: skip
    (newest,) = (digits_run / "checkpoints").iterdir()
    config.data.data_dir = store.read_description(newest)["config"]["data"]["data_dir"]
    params, batch_stats = build(network_config(config)).initial(seed=1)
    params["loss3"]["classifier"]["kernel"] *= 1000  # opinions, though of nothing
    directory = tmp_path_factory.mktemp("second") / "network"
    description = make_description(config, [str(digit) for digit in range(10)], None)
    store.write(directory, {"params": params, "batch_stats": batch_stats}, description)
    return directory


@pytest.fixture(scope="session")
def smoke_arguments() -> Callable[..., list[str]]:
    """Arguments of a run on random images: total steps, a checkpoint every few."""

    def arguments(workdir: Path, total: int, every: int) -> list[str]:
        return [
            "--config", "configs/smoke.py", "--workdir", str(workdir),
            f"--config.training.total={total} steps",
            f"--config.checkpoints.every={every} steps",
            f"--config.evaluation.every={2 * every} steps",
        ]  # fmt: skip

    return arguments


@pytest.fixture(scope="session")
def straight(
    command: Command, smoke_arguments: Callable[..., list[str]], made_once: Callable[..., Path]
) -> Path:
    """The workdir of twelve steps in one go, a checkpoint every two; to be read only."""
    return made_once(
        "straight", lambda folder: command("train", *smoke_arguments(folder, total=12, every=2))
    )


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = {"images_per_second", "input_wait"}
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]
