"""Sweeps: runs put together from parts, and their shares of the GPUs."""

import subprocess

import pytest

from inception_jax.errors import UsageError
from inception_jax.launching import gpus, sweeps
from inception_jax.launching.sweeps import Run, config, grid, named, product, seeds


def test_grids_lists_and_seeds_are_nested():
    rates = grid({"schedule.learning_rate": (0.1, 0.2), "model.norm": ("lrn", "none")})
    assert [run.name for run in rates] == [
        "learning_rate=0.1_norm=lrn", "learning_rate=0.1_norm=none",
        "learning_rate=0.2_norm=lrn", "learning_rate=0.2_norm=none",
    ]  # fmt: skip
    wide = named({"base": {}, "wide": {"model.width": 2.0}})
    runs = product(config("configs/digits.py:batch_size=32"), [*wide, *rates[:1]], seeds(2))
    assert len(runs) == 6
    assert runs[3] == Run(
        "digits_wide_seed=1", "configs/digits.py:batch_size=32", {"model.width": 2.0, "seed": 1}
    )


def test_flags_come_back_from_a_shells_line(tmp_path):
    runs = product(config("configs/digits.py"), named({"long": {"training.total": "8 epochs"}}))
    (line,) = sweeps.flags_file(runs, tmp_path, ["--config.data.data_dir=/my data"]).splitlines()
    printed = subprocess.run(
        ["xargs", "printf", "%s\\n"], input=line, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == [
        "--config", "configs/digits.py", "--workdir", str(tmp_path / "digits_long"),
        "--config.training.total=8 epochs", "--config.data.data_dir=/my data",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "has no runs"),
        ("return [1]", "yields a int"),
        ("return config('configs/smoke.py') * 2", "two runs are called smoke"),
        ("return config('configs/smoke.py', 'a/b')", "'a/b' cannot be the name of a folder"),
        ("return seeds(1)", "seed=0 has no config"),
        ("return product(config('configs/smoke.py'), named({'x': {'model.widht': 1}}))", "widht"),
        ("return product(seeds(1), seeds(1))", "two parts of a run change seed"),
        ("return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_runs(tmp_path, body, message):
    file = tmp_path / "sweep.py"
    file.write_text(
        "from inception_jax.launching.sweeps import config, named, product, seeds\n"
        f"def sweep():\n    {body}\n"
    )
    with pytest.raises(UsageError, match=message):
        sweeps.read_sweep(str(file))


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_the_projects_own_sweeps_load(name):
    assert len(sweeps.read_sweep(f"configs/sweeps/{name}.py")) >= 9


@pytest.mark.parametrize(
    ("visible", "jobs", "shares"),
    [
        (None, 2, ["0,1", "2,3"]),
        ("4,5,6,7", 2, ["4,5", "6,7"]),
        ("4,5,6,7", 3, ["4", "5", "6"]),
        ("GPU-a,GPU-b,-1,GPU-c", 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_runs_at_a_time_have_their_shares_of_the_gpus(monkeypatch, visible, jobs, shares):
    count = 4
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setenv("JAX_PLATFORMS", "cuda")
        count = gpus.count_gpus()
    found = [gpus.for_job(slot, jobs, count) for slot in range(jobs)]
    assert found == [{"CUDA_VISIBLE_DEVICES": share} for share in shares]
    assert gpus.for_job(0, 1, 0) == {}  # on a CPU
