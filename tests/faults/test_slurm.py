"""Under a real Slurm with two nodes: preempted, requeued, and the same parameters at the end."""

import os
import sys

import pytest
from conftest import read_metrics

from faults import slurm
from faults.jobs import ROOT
from inception_jax.checkpoints import store

pytestmark = pytest.mark.soak


def test_a_preempted_job_ends_with_the_same_parameters(command, smoke_arguments, tmp_path):
    if slurm.missing():
        pytest.skip(f"not installed (tests/apt_soak.txt): {', '.join(slurm.missing())}")
    added = {k: v for k, v in command.environment().items() if os.environ.get(k) != v}
    added["PYTHON"] = sys.executable

    with slurm.running() as cluster:

        def submit(name: str) -> str:
            output = tmp_path / f"{name}.out"
            return cluster.submit(
                "launch/slurm/train.sbatch", *smoke_arguments(tmp_path / name, 24, 10), cwd=ROOT,
                options=("--nodes=2", f"--output={output}"), **added,
            )  # fmt: skip

        straight = submit("straight")
        assert cluster.wait(straight, "COMPLETED", "FAILED", timeout=900)["JobState"] == "COMPLETED"

        disturbed = submit("disturbed")
        slurm.wait_for(lambda: "step 13/24" in cluster.output(disturbed), "no step 13", 900)
        cluster.signal(disturbed, "TERM")
        cluster.start_now(disturbed)
        fields = cluster.wait(disturbed, "COMPLETED", "FAILED", timeout=900)
        output = cluster.output(disturbed)
    assert fields["JobState"] == "COMPLETED", output
    assert fields["Restarts"] == "1"
    assert "goes back to the queue" in output
    assert "resuming from" in output
    arrays = [
        store.read_description(tmp_path / name / "checkpoints" / "24")["arrays"]
        for name in ("straight", "disturbed")
    ]
    assert arrays[0] == arrays[1]
    assert read_metrics(tmp_path / "straight") == read_metrics(tmp_path / "disturbed")
    assert (tmp_path / "disturbed" / "logs" / "process_1.log").exists()
