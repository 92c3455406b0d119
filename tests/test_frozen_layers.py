"""Layers with the learning rate factor 0: parameters and batch statistics stay as they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from inception_jax.checkpoints import description
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.models.network import Network, build
from inception_jax.models.options import GoogLeNetConfig, network_config
from inception_jax.runtime import devices
from inception_jax.tasks import make_task
from inception_jax.training import setup
from inception_jax.training.input import training_batches
from inception_jax.training.optimizer import frozen_layers
from inception_jax.training.timetable import make_timetable

# All convolutions before the modules, and one of those of 3a that are worked out as one.
FACTORS = (("conv", 0.0), ("inception_3a/1x1", 0.0), ("inception_3a", 0.1))


def names(arrays: Any) -> dict[str, Any]:
    return flatten_dict(jax.device_get(arrays), sep="/")


def test_a_step_leaves_frozen_layers_as_they_are():
    config = resolve(
        load_config(
            "configs/smoke.py",
            ["--config.model.norm=batch", f"--config.optimizer.learning_rate_factors={FACTORS}"],
        )
    )
    network, mesh = build(network_config(config)), devices.make_mesh()
    task = make_task(config)
    source = task.open(config.data.train_split)
    timetable = make_timetable(config, len(source))
    train_step, state = setup.make_step(task, config, network, timetable, mesh)
    before = {"params": names(state.params), "batch_stats": names(state.batch_stats)}
    state = devices.replicate(state, mesh)
    with training_batches(task, source, 0, 2, mesh) as batches:
        for batch in batches:
            state, _ = train_step(state, batch)
    for tree in ("params", "batch_stats"):
        for found in (names(getattr(state, tree)), names(state.average[tree])):
            kept = {name for name in found if np.array_equal(found[name], before[tree][name])}
            frozen = {name for name in found if name.startswith(("conv", "inception_3a/1x1"))}
            assert frozen <= kept
            # Where no gradient arrives, parameters of other layers are kept, too.
            assert len(kept - frozen) <= (0 if tree == "batch_stats" else len(found) // 4)


@pytest.fixture(scope="module")
def network() -> Network:
    return build(
        GoogLeNetConfig(
            num_classes=5, image_size=32, architecture="shallow", stem="medium", width=0.125,
            norm="batch", auxiliary=False, dropout=0.0, initialization="he",
        )
    )  # fmt: skip


def first_logits(network: Network, images: np.ndarray, frozen: frozenset[str], train: bool) -> Any:
    params, _ = network.initial(0)
    # Other statistics than the batch's.
    batch_stats = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.7), network.batch_stats)

    @jax.jit
    def run(images):
        return network.apply(params, batch_stats, images, train=train, frozen=frozen)

    outputs, new = run(images)
    unchanged = {
        n
        for n, values in names(new).items()
        if np.array_equal(values, np.float32(0.7) + 0 * values)
    }
    return np.asarray(outputs.logits[0]), unchanged


def test_a_frozen_norm_does_not_see_the_other_images(network):
    images = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3)).astype(np.float32)
    images[1, 0] = images[0, 0]
    every_layer = frozen_layers(network.params, (("", 0.0),))
    for frozen, independent in ((every_layer, True), (frozenset(), False)):
        (one, kept), (other, _) = (first_logits(network, some, frozen, True) for some in images)
        assert np.array_equal(one, other) == independent
        assert len(kept) == (len(names(network.batch_stats)) if independent else 0)
    at_inference, _ = first_logits(network, images[0], frozenset(), False)
    np.testing.assert_allclose(
        first_logits(network, images[0], every_layer, True)[0], at_inference, rtol=1e-5, atol=1e-6
    )


def test_frozen_layers_are_those_without_any_other_factor():
    params = {
        "conv1": {"7x7_s2": {"kernel": 1, "norm": {"scale": 1, "bias": 1}}},
        "inception_3a": {
            "1x1": {"kernel": 1, "norm": {"scale": 1, "bias": 1}},
            "3x3": {"kernel": 1, "norm": {"scale": 1, "bias": 1}},
        },
    }

    def frozen(*factors: tuple[str, float]) -> set[str]:
        return {name for name in frozen_layers(params, factors) if name.endswith("norm")}

    assert frozen() == set()
    assert frozen(("conv1", 0.0)) == {"conv1/7x7_s2/norm"}
    assert frozen(("inception_3a/3x3", 0.5), ("inception", 0)) == {"inception_3a/1x1/norm"}
    assert frozen(("conv1/7x7_s2/kernel", 0.0)) == set()
    assert frozen(("conv1/7x7_s2/norm/scale", 0.0)) == set()
    assert frozen(("conv1/7x7_s2/norm", 0.0)) == {"conv1/7x7_s2/norm"}


def test_a_run_in_which_frozen_statistics_moved_does_not_go_on(command, tmp_path, monkeypatch):
    """Checkpoints of format 1 are of versions in which the factor 0 froze parameters alone."""
    run = [
        "train", "--config", "configs/smoke.py", "--workdir", tmp_path / "run",
        "--config.training.total=2 steps", "--config.model.norm=batch",
    ]  # fmt: skip
    frozen = "--config.optimizer.learning_rate_factors=(('conv1', 0.0),)"
    with monkeypatch.context() as patch:
        patch.setattr(description, "FORMAT", 1)
        command(*run, frozen)
    line = command.fails(*run, frozen, exit_code=2)
    assert "layers with the factor 0 ('conv1') still moved their batch statistics" in line
    assert "start again in another --workdir" in line
