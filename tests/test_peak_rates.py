"""The share of the devices' peak that a run uses."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from conftest import Command

from inception_jax.config.load import load_config
from inception_jax.models.cost import network_cost
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.models.traced_cost import training_multiply_adds
from inception_jax.runtime import peak_rates
from inception_jax.runtime.peak_rates import peak_flops


def mesh(*kinds: str) -> Any:
    return SimpleNamespace(devices=np.array([SimpleNamespace(device_kind=kind) for kind in kinds]))


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
    ],
)
def test_all_devices_of_a_mesh_count(kind: str, teraflops: float):
    assert peak_flops(mesh(kind)) == teraflops * 1e12
    assert peak_flops(mesh(kind, kind, "TPU v4")) == (2 * teraflops + 275) * 1e12


@pytest.mark.parametrize("kind", ["cpu", "TPU v5e", "NVIDIA L40S", "NVIDIA A100X", "NVIDIA"])
def test_unknown_devices_have_none(kind: str):
    assert peak_flops(mesh(kind)) is None
    assert peak_flops(mesh("TPU v4", kind)) is None


def test_metrics_have_the_share_where_the_peak_is_known(
    command: Command,
    smoke_arguments: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(peak_rates.PEAK_FLOPS, "cpu", 1e12)
    command("train", *smoke_arguments(tmp_path, total=12, every=50))
    config = load_config("configs/smoke.py", ["--config.model.num_classes=10"])
    network = build(network_config(config))
    # Three times the forward pass, less the gradient to the images, and the auxiliary heads.
    assert training_multiply_adds(network) > 2.5 * network_cost(network.config).multiply_adds
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "split" not in line]
    assert len(steps) == 12
    for line in steps:
        done = 2 * training_multiply_adds(network) * cast(float, line["images_per_second"])
        assert line["model_flops_utilization"] == pytest.approx(done / 1e12)
