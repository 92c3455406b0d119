"""Help and mistakes in the command line wait for nothing large to be imported."""

import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = """
import runpy, sys
name = sys.argv.pop(1)
code = 0
try:
    runpy.run_module(f"inception_jax.{name}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code or 0
large = {"jax", "flax", "orbax", "tensorflow_datasets", "matplotlib"} & sys.modules.keys()
assert not large, large
sys.exit(code)
"""
WORKDIR = ("--workdir", "/nonexistent/run")


@pytest.mark.parametrize(
    ("exit_code", "arguments"),
    [
        (0, ("train", "--help")),
        (0, ("evaluate", "--help")),
        (0, ("predict", "--help")),
        (2, ("train", "--nonsense")),
        (2, ("train", "--config", "configs/smoke.py", "--config.seeed=1", *WORKDIR)),
        (2, ("evaluate", *WORKDIR, "--crops", "7")),
        (2, ("predict", *WORKDIR, "--images", "x.jpg", "--grid", "x.txt")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_no_jax_for_help_and_usage_errors(exit_code, arguments):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == exit_code, result.stderr


def test_random_images_need_no_tfds():
    script = (
        "import sys\nimport inception_jax.training.loop\n"
        "assert 'tensorflow_datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
