"""What the tests share: strict JAX, the real commands in subprocesses, small data and runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Tests are about results: programs that are optimised less are compiled in two thirds of the time.
# It holds for the commands that tests start, too, and has to be there before JAX is.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
)

import jax
import pytest
from filelock import FileLock

from inception_jax import configuration
from inception_jax.checkpoints import store
from inception_jax.checkpoints.describe import describe
from inception_jax.models.network import build, network_config

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "oracles"))

jax.config.update("jax_numpy_rank_promotion", "raise")


def need(installed: bool, what: str) -> None:
    """Skips a test whose tool is not there; in CI it fails: there everything is to be there."""
    if not installed and os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed (tests/apt.txt, or the test extra)")
    if not installed:
        pytest.skip(f"{what} is not installed")


def tool(name: str) -> str:
    """The path of a program, which may have been installed beside the interpreter."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    need(path is not None, name)
    assert path is not None
    return path


class Command:
    """Runs `python -m inception_jax.NAME ARGUMENTS` as a user does; warnings are errors."""

    def __init__(self, compilation_cache: Path):
        self._cache = compilation_cache

    def environment(self, devices: int = 1) -> dict[str, str]:
        """Compiled code is shared between the tests: most of their time would go there."""
        return os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_NUMPY_RANK_PROMOTION": "raise",
            "JAX_COMPILATION_CACHE_DIR": str(self._cache),
            "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**34),  # with a limit, JAX locks the folder
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONWARNINGS": "error",
        }

    def start(self, name: str, *arguments: object, devices: int = 1) -> subprocess.Popen[str]:
        """Starts the command and returns the process."""
        return subprocess.Popen(
            [sys.executable, "-m", f"inception_jax.{name}", *map(str, arguments)],
            cwd=ROOT,
            env=self.environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, name: str, *arguments: object, devices: int = 1, exit_code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end and checks its exit code."""
        process = self.start(name, *arguments, devices=devices)
        stdout, stderr = process.communicate(timeout=600)
        assert process.returncode == exit_code, f"exit {process.returncode}\n{stdout}\n{stderr}"
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def fails(self, name: str, *arguments: object, exit_code: int, devices: int = 1) -> str:
        """Runs a command that must end with one line saying what is wrong; returns the line."""
        result = self(name, *arguments, exit_code=exit_code, devices=devices)
        assert "Traceback" not in result.stderr
        lines = result.stderr.splitlines()
        assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
        assert result.stdout == ""
        return lines[-1]


@pytest.fixture(scope="session")
def command(request: pytest.FixtureRequest) -> Command:
    """The commands of the package."""
    # Kept between runs (--cache-clear forgets it): half of the tests' time is compilation.
    return Command(Path(request.config.cache.mkdir("compiled")))


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


@pytest.fixture(scope="session")
def digits_run(
    command: Command,
    data_dir: Path,
    made_once: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The workdir of three epochs on the digits: enough to be far above chance."""

    def train(workdir: Path) -> None:
        command(
            "train", "--config", "configs/digits.py", "--workdir", workdir,
            f"--config.data.data_dir={data_dir}", "--config.training.total=3 epochs",
            "--config.training.average_start=2 epochs", "--config.model.width=0.125",
        )  # fmt: skip

    # A copy: tests write results into it.
    return Path(
        shutil.copytree(made_once("digits", train), tmp_path_factory.mktemp("runs") / "digits")
    )


@pytest.fixture(scope="session")
def second_network(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of no run, for the same classes: untrained, narrower, and shown other crops."""
    config = configuration.load(
        "configs/digits.py",
        ["--config.model.width=0.0625", "--config.data.image_size=14",
         "--config.data.mean=(100.0, 110.0, 120.0)", "--config.data.std=(50.0, 60.0, 70.0)",
         "--config.training.average_decay=0.0"],
    )  # fmt: skip
    (newest,) = (digits_run / "checkpoints").iterdir()
    config.data.data_dir = store.read_description(newest)["config"]["data"]["data_dir"]
    params, batch_stats = build(network_config(config)).initial(seed=1)
    params["loss3"]["classifier"]["kernel"] *= 1000  # opinions, though of nothing
    directory = tmp_path_factory.mktemp("second") / "network"
    description = describe(config, [str(digit) for digit in range(10)], None)
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


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = {"images_per_second", "input_wait"}
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]
