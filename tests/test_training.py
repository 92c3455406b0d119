"""Durations, schedules, optimiser, losses, averaging and real steps, against plain NumPy."""

import functools
import itertools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT

from inception_jax.config import durations
from inception_jax.config.load import load_config
from inception_jax.data.augmentation import mixup
from inception_jax.errors import UsageError
from inception_jax.models.googlenet import Outputs
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, processes
from inception_jax.storage import workdir
from inception_jax.tasks import make_task
from inception_jax.tasks.classification.losses import total_loss
from inception_jax.tools.doctor import data_checks as data_checks
from inception_jax.tools.doctor.check_result import Status
from inception_jax.tools.doctor.context import Context
from inception_jax.training import loop
from inception_jax.training.input import training_batches
from inception_jax.training.learning_rate import SCHEDULES, make_schedule
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import from_tree, initial_state, to_tree
from inception_jax.training.step import make_train_step
from inception_jax.training.timetable import make_timetable, not_reached
from inception_jax.training.weight_averaging import update_average


@pytest.mark.parametrize(
    ("text", "steps"),
    [("60 steps", 60), ("1 step", 1), ("8 epochs", 80), ("0.5 epochs", 5), ("1000 examples", 10),
     ("1001 examples", 11), ("1e3 examples", 10), ("0 steps", 0)],
)  # fmt: skip
def test_durations(text, steps):
    assert durations.to_steps("x", text, batch_size=100, examples=1000) == steps


@pytest.mark.parametrize("text", ["60", "8 weeks", "-1 steps", "", "steps"])
def test_wrong_durations_are_named(text):
    with pytest.raises(UsageError, match=r"training.total is .*'8 epochs'"):
        durations.to_steps("training.total", text, batch_size=1, examples=1)
    with pytest.raises(UsageError, match="at least one step"):
        durations.interval("log.every", "0 steps", batch_size=1, examples=1)


def schedule(name: str, warmup: int = 0, total: int = 1000, **fields):
    config = load_config("configs/googlenet.py").schedule
    config.update(name=name, **fields)
    return make_schedule(config, total_steps=total, warmup_steps=warmup, decay_every_steps=80)


def test_the_papers_schedule():
    rate = schedule("staircase")
    for step in (0, 79, 80, 159, 160, 999):
        assert float(rate(step)) == pytest.approx(0.01 * 0.96 ** (step // 80), rel=1e-5)
    warm = schedule("staircase", warmup=100)
    assert float(warm(50)) == pytest.approx(0.005)
    assert float(warm(170)) == pytest.approx(0.01 * 0.96**2, rel=1e-5)


def test_cosine_and_polynomial_go_from_the_peak_to_the_end():
    cosine = schedule("cosine", warmup=100, final_learning_rate=0.001)
    assert float(cosine(0)) == 0
    assert float(cosine(100)) == pytest.approx(0.01)
    assert float(cosine(550)) == pytest.approx(0.0055)
    assert float(cosine(1000)) == pytest.approx(0.001)
    polynomial = schedule("polynomial", power=0.5)  # Caffe's: base x (1 - step / max)^power
    for step in (0, 360, 750, 1000):
        assert float(polynomial(step)) == pytest.approx(0.01 * (1 - step / 1000) ** 0.5, abs=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 20, 99, 100])
def test_a_run_that_ends_in_the_warmup_has_the_rates_of_a_longer_one(name, total):
    short, long = jax.jit(schedule(name, 100, total)), jax.jit(schedule(name, 100))
    rates = [float(short(step)) for step in range(total)]
    assert rates == [float(long(step)) for step in range(total)]
    assert rates == pytest.approx([0.01 * step / 100 for step in range(total)], rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_peak_is_the_last_step_of_a_run_one_longer_than_the_warmup(name):
    rate = schedule(name, warmup=60, total=61)
    assert float(rate(60)) == pytest.approx(0.01)
    assert max(float(rate(step)) for step in range(60)) < 0.0099


WARNINGS = [
    "schedule.warmup is 16 steps and training.total 16: the learning rate rises to the end and "
    "never reaches schedule.learning_rate",
    "training.average_start is 20 steps and training.total 16: no step is averaged, and the "
    "averaged weights are those of the last step",
]


def warnings(*overrides: str) -> list[str]:
    config = load_config("configs/digits.py", overrides)
    return not_reached(config, make_timetable(config, 1000))


@pytest.mark.parametrize(
    ("total", "warmup", "average_start", "fields"),
    [
        (20, 19, 19, []),
        (20, 20, 0, ["schedule.warmup"]),
        (20, 21, 0, ["schedule.warmup"]),
        (20, 0, 20, ["training.average_start"]),
        (20, 20, 20, ["schedule.warmup", "training.average_start"]),
        (1, 0, 0, []),
        (1, 1, 1, ["schedule.warmup", "training.average_start"]),
    ],
)
def test_what_a_short_run_never_comes_to_is_named(total, warmup, average_start, fields):
    found = warnings(
        f"--config.training.total={total} steps", f"--config.schedule.warmup={warmup} steps",
        f"--config.training.average_start={average_start} steps",
    )  # fmt: skip
    assert [line.split()[0] for line in found] == fields


def test_durations_in_epochs_are_named_in_steps():
    assert warnings(
        "--config.training.total=1 epochs", "--config.schedule.warmup=1000 examples",
        "--config.training.average_start=1.25 epochs",
    ) == WARNINGS  # fmt: skip


def test_without_averaging_nobody_misses_it():
    assert warnings("--config.training.total=17 steps", "--config.training.average_decay=0") == []


CONFIGS = sorted((ROOT / "configs").glob("*.py")) + sorted((ROOT / "configs/ablations").glob("*"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_can_be_tried_for_20_steps(file):
    config = load_config(str(file), ["--config.training.total=20 steps"])
    plan = make_timetable(config, 60_000)
    assert plan.total == 20
    rate = make_schedule(
        config.schedule,
        total_steps=plan.total,
        warmup_steps=plan.warmup,
        decay_every_steps=plan.decay_every,
    )
    assert all(0 <= float(rate(step)) < 1 for step in range(plan.total))
    for line in not_reached(config, plan):
        assert "training.total 20: " in line


def test_the_doctor_warns_too():
    overrides = ["--config.training.total=4 steps"]  # the average starts after 5
    found = data_checks.network(Context("configs/smoke.py", overrides))
    assert found.status == Status.WARNING
    assert "training.average_start is 5 steps and training.total 4: no step" in found.found
    assert "raise training.total" in found.remedy


class EnoughSeenError(Exception):
    pass


@pytest.mark.parametrize("first", [True, False])
def test_a_run_warns_once_and_in_its_log(monkeypatch, tmp_path, first):
    def stop(*arguments: Any) -> None:
        raise EnoughSeenError

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(loop, "resume", stop)
    monkeypatch.setattr(processes, "is_primary", lambda: first)
    log = logging.getLogger("inception_jax")
    monkeypatch.setattr(log, "handlers", [])  # and those of the run go with it
    config = load_config("configs/smoke.py", ["--config.training.total=4 steps"])
    with pytest.raises(EnoughSeenError):
        loop.train(config, tmp_path)
    for handler in log.handlers:
        handler.close()
    lines = (tmp_path / workdir.LOGS / "process_0.log").read_text().splitlines()
    found = [line for line in lines if " WARNING " in line]
    assert len(found) == first
    assert all("training.average_start is 5 steps" in line for line in found)


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_numpy(clip, nesterov):
    config = load_config("configs/googlenet.py").optimizer
    config.update(gradient_clip=clip, nesterov=nesterov, weight_decay=0.1)
    optimizer = make_optimizer(config, lambda step: 0.1 / (step + 1))
    rng = np.random.default_rng(0)

    def normal(size: int) -> np.ndarray:
        return rng.standard_normal(size).astype(np.float32)

    params: dict[str, Any] = {"conv": {"kernel": normal(3), "norm": {"scale": normal(2)}}}
    expected = {"kernel": params["conv"]["kernel"], "scale": params["conv"]["norm"]["scale"]}
    momentum = {"kernel": np.zeros(3), "scale": np.zeros(2)}
    state = optimizer.init(params)
    for step in range(4):
        gradient = {"kernel": normal(3), "scale": normal(2)}
        tree = {"conv": {"kernel": gradient["kernel"], "norm": {"scale": gradient["scale"]}}}
        updates, state = optimizer.update(tree, state, params)
        params = jax.tree.map(np.add, params, updates)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
        for name in expected:
            g = gradient[name] * (min(1, clip / norm) if clip else 1)
            g = g + (0.1 * expected[name] if name == "kernel" else 0)
            momentum[name] = g + 0.9 * momentum[name]
            direction = g + 0.9 * momentum[name] if nesterov else momentum[name]
            expected[name] = expected[name] - 0.1 / (step + 1) * direction
    np.testing.assert_allclose(params["conv"]["kernel"], expected["kernel"], rtol=1e-5)
    np.testing.assert_allclose(params["conv"]["norm"]["scale"], expected["scale"], rtol=1e-5)


def test_total_loss_equals_numpy():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 4, 5))
    labels = np.array([0, 4, 2, 2])

    def entropy(z: np.ndarray) -> float:
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(4), labels])

    heads = [jnp.asarray(z, jnp.float32) for z in logits]
    loss = total_loss(Outputs(heads[0], tuple(heads[1:])), jnp.asarray(labels), 0.3)
    expected = entropy(logits[0]) + 0.3 * (entropy(logits[1]) + entropy(logits[2]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(total_loss(Outputs(heads[0], ()), jnp.asarray(labels), 0.3)) == pytest.approx(
        entropy(logits[0]), rel=1e-5
    )


@pytest.mark.parametrize("decay", [1.0, 0.8])
def test_the_average_is_the_mean_and_then_exponential(decay):
    values = np.random.default_rng(0).standard_normal(20)
    average = {"x": jnp.float32(values[0])}
    start, history = 5, []
    for step, value in enumerate(values, 1):
        average = update_average(average, {"x": jnp.float32(value)}, jnp.int32(step), start, decay)
        history.append(float(average["x"]))
    np.testing.assert_allclose(history[:6], values[:6], rtol=1e-6)  # follows until it starts
    for step in range(7, 21):
        if decay == 1.0 or step - start <= 5:
            assert history[step - 1] == pytest.approx(values[start:step].mean(), abs=1e-5)
        else:
            expected = decay * history[step - 2] + (1 - decay) * values[step - 1]
            assert history[step - 1] == pytest.approx(expected, abs=1e-5)


def test_learning_rate_factors_scale_the_updates_of_layers():
    """Three steps with momentum and decay: each layer moves as with that learning rate alone."""
    config = load_config("configs/googlenet.py").optimizer
    config.learning_rate_factors = (("conv", 0.0), ("inception_3", 0.1))
    names = ("conv1", "inception_3a", "inception_4a", "loss3")
    start = {name: {"kernel": jnp.full((2,), 1.0 + i)} for i, name in enumerate(names)}

    def three_steps(optimizer):
        params, state = start, optimizer.init(start)
        for _ in range(3):
            gradients = jax.tree.map(lambda p: p**2, start)
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return params

    config.weight_decay = 0.0  # the decay would follow the parameters, which differ
    scaled = three_steps(make_optimizer(config, lambda step: 0.01))
    config.learning_rate_factors = ()
    plain = three_steps(make_optimizer(config, lambda step: 0.01))
    for name, factor in zip(names, (0.0, 0.1, 1.0, 1.0), strict=True):
        moved = scaled[name]["kernel"] - start[name]["kernel"]
        expected = factor * (plain[name]["kernel"] - start[name]["kernel"])
        np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-7)


def test_learning_rate_factors_of_no_layer_are_named():
    config = load_config("configs/googlenet.py").optimizer
    config.learning_rate_factors = (("inception3", 0.0),)
    with pytest.raises(UsageError, match="no layer begins with 'inception3'; there are conv1"):
        make_optimizer(config, lambda step: 0.01).init({"conv1": {"kernel": jnp.ones(2)}})


def test_label_smoothing_is_cross_entropy_with_smoothed_targets():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])
    targets = 0.9 * np.eye(5)[labels] + 0.1 / 5
    expected = -np.mean(np.sum(targets * (logits - np.log(np.exp(logits).sum(1))[:, None]), 1))
    outputs = Outputs(jnp.asarray(logits, jnp.float32), ())
    loss = total_loss(outputs, jnp.asarray(labels), 0.3, label_smoothing=0.1)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_shares_of_mixup_are_drawn_by_step_and_spread_as_beta():
    keys = [jax.random.fold_in(jax.random.key(0), step) for step in range(400)]
    shares = np.array([mixup.sample_lambda(key, 0.2) for key in keys])
    assert mixup.sample_lambda(keys[3], 0.2) == shares[3]
    assert shares.mean() == pytest.approx(0.5, abs=0.07)
    assert shares.var() == pytest.approx(0.25 / 1.4, abs=0.02)  # 1 / (4 (2 alpha + 1))


def test_a_step_with_mixup_has_the_loss_of_mixed_images_and_targets():
    """Without dropout and batch statistics: of a weighted sum of images, by hand."""
    off = ["--config.training.mixup=0.4", "--config.model.dropout=0.0"]
    config, mesh, network, initial, step = smoke_step(*off, "--config.model.auxiliary=False")
    (batch,) = batches(config, mesh, 1)
    _, metrics = step(devices.replicate(initial, mesh), batch)
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    share = float(mixup.sample_lambda(key, 0.4))
    images = (np.asarray(batch["image"], np.float64) - 127.5) / 127.5
    mixed = share * images + (1 - share) * images[::-1]
    forward = jax.jit(functools.partial(network.apply, train=False))
    outputs, _ = forward(initial.params, initial.batch_stats, jnp.asarray(mixed, jnp.float32))
    logits, labels = np.asarray(outputs.logits, np.float64), np.asarray(batch["label"])
    log_probabilities = logits - np.log(np.exp(logits).sum(1))[:, None]
    targets = share * np.eye(10)[labels] + (1 - share) * np.eye(10)[labels[::-1]]
    expected = -np.mean(np.sum(targets * log_probabilities, 1))
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)


@functools.cache
def smoke_step(*overrides: str):
    """A config, its state and step on one device."""
    config = load_config(
        "configs/smoke.py", ["--config.training.average_start=1 steps", *overrides]
    )
    mesh = devices.make_mesh()
    network = build(network_config(config))
    rate = schedule("staircase")
    optimizer = make_optimizer(config.optimizer, rate)
    state = initial_state(network, optimizer, config.seed, averaging=True)
    task = make_task(config)
    step = make_train_step(task, network, optimizer, rate, config, mesh, average_start=1)
    return config, mesh, network, state, step


def batches(config, mesh, count: int):
    task = make_task(config)
    with training_batches(task, task.open("train"), 0, count, mesh) as found:
        return list(found)


def test_steps_are_deterministic_and_depend_on_the_step_number():
    config, mesh, _, initial, step = smoke_step()
    batch = batches(config, mesh, 1)[0]
    first, metrics = step(devices.replicate(initial, mesh), batch)
    again, same = step(devices.replicate(initial, mesh), batch)
    assert jax.device_get(metrics) == jax.device_get(same)
    jax.tree.map(np.testing.assert_array_equal, to_tree(first), to_tree(again))
    assert int(first.step) == 1
    # The same weights and batch at another step: other dropout, so another loss.
    later = devices.replicate(initial.replace(step=np.int32(5)), mesh)
    _, other = step(later, batch)
    assert float(other["loss"]) != float(metrics["loss"])


def test_a_step_updates_everything_once():
    config, mesh, _, initial, step = smoke_step()
    state = devices.replicate(initial, mesh)
    params = []
    for batch in batches(config, mesh, 3):
        state, metrics = step(state, batch)
        params.append(jax.device_get(state.params))
    kernels = [p["inception_5a"]["1x1"]["kernel"] for p in params]
    assert all(np.any(one != other) for one, other in itertools.pairwise(kernels))
    names = "loss top1 top5 learning_rate gradient_norm parameter_norm bad_images"
    assert set(metrics) == set(names.split())
    # Averaging starts after step 1: the mean of the parameters after steps 2 and 3.
    average = state.average["params"]["inception_5a"]["1x1"]["kernel"]
    np.testing.assert_allclose(average, (kernels[1] + kernels[2]) / 2, rtol=1e-5, atol=1e-7)
    norm = np.sqrt(sum(np.sum(leaf.astype(np.float64) ** 2) for leaf in jax.tree.leaves(params[2])))
    assert float(metrics["parameter_norm"]) == pytest.approx(norm, rel=1e-5)


def test_the_state_is_dictionaries_of_arrays_and_comes_back():
    *_, state, _ = smoke_step()
    tree = to_tree(state)

    def only_dictionaries(node) -> bool:
        if isinstance(node, dict):
            return all(isinstance(k, str) and only_dictionaries(v) for k, v in node.items())
        return isinstance(node, np.ndarray | np.generic)

    assert only_dictionaries(tree)
    assert "kernel" in tree["params"]["inception_3a"]["3x3_reduce"]
    back = from_tree(state, tree)
    assert str(jax.tree.structure(back)) == str(jax.tree.structure(state))
