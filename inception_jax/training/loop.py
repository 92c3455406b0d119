"""The training loop: data in, steps, metrics, evaluations, checkpoints."""

import collections
import contextlib
import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax import paths
from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import run_description
from inception_jax.config import configuration, durations
from inception_jax.config.resolve import resolve
from inception_jax.data import order
from inception_jax.data.decode import UnreadableImageError
from inception_jax.data.sources import open_source
from inception_jax.errors import PreemptedError, UsageError, UserError
from inception_jax.models.cost import network_cost
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.models.traced_cost import training_multiply_adds
from inception_jax.runtime import (
    console,
    devices,
    peak_rates,
    preemption,
    processes,
    progress,
    watchdog,
)
from inception_jax.storage import json_files, workdir
from inception_jax.tasks.classification.batches import (
    check_data,
    read_ahead_bytes,
    training_batches,
)
from inception_jax.tasks.classification.predictor import make_evaluate
from inception_jax.training import warm_start
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.record import open_record
from inception_jax.training.schedule import make_schedule
from inception_jax.training.state import TrainState, from_tree, initial_state, to_tree
from inception_jax.training.step import TrainStep, make_train_step
from inception_jax.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

# Steps in flight: enough to keep the devices busy while Python reads older metrics.
DISPATCHED_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """The config's durations, in steps."""

    total: int
    warmup: int
    decay_every: int
    average_start: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int


def make_plan(config: ConfigDict, examples: int) -> Plan:
    """Reads the durations; `examples` is the number of training examples.

    Raises:
      UsageError: one of them is none.
    """
    unit = {"batch_size": config.data.batch_size, "examples": examples}

    def once(field: str) -> int:
        section, name = field.split(".")
        return durations.to_steps(field, config[section][name], **unit)

    def every(field: str) -> int:
        section, name = field.split(".")
        return durations.interval(field, config[section][name], **unit)

    return Plan(
        total=every("training.total"),
        warmup=once("schedule.warmup"),
        decay_every=every("schedule.decay_every"),
        average_start=once("training.average_start"),
        log_every=every("training.log_every"),
        evaluate_every=every("evaluation.every"),
        checkpoint_every=every("checkpoints.every"),
    )


def not_reached(config: ConfigDict, plan: Plan) -> list[str]:
    """Lists what the run is too short for, so that it is not what the config says: a line each.

    Logging, evaluations and checkpoints are not among it: at the end there is one of each.
    """
    found = []
    if plan.warmup >= plan.total:
        found.append(
            f"schedule.warmup is {plan.warmup:,} steps and training.total {plan.total:,}: the "
            "learning rate rises to the end and never reaches schedule.learning_rate"
        )
    if config.training.average_decay > 0 and plan.average_start >= plan.total:
        found.append(
            f"training.average_start is {plan.average_start:,} steps and training.total "
            f"{plan.total:,}: no step is averaged, and the averaged weights are those of the last "
            "step"
        )
    return found


def make_step(
    config: ConfigDict, network: Network, plan: Plan, mesh: Mesh
) -> tuple[TrainStep, TrainState]:
    """The training step, and the state before the first one, on the host."""
    learning_rate = make_schedule(
        config.schedule,
        total_steps=plan.total,
        warmup_steps=plan.warmup,
        decay_every_steps=plan.decay_every,
    )
    optimizer = make_optimizer(config.optimizer, learning_rate)
    train_step = make_train_step(
        network, optimizer, learning_rate, config, mesh, average_start=plan.average_start
    )
    averaging = config.training.average_decay > 0
    return train_step, initial_state(network, optimizer, config.seed, averaging=averaging)


def train(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Trains to the end, from the newest good checkpoint in `folder` if there is one.

    Returns:
      The last evaluation: `step`, `top1`, `top5`, `loss`, `examples`.

    Raises:
      UsageError: the config is wrong, or `folder` belongs to another one.
      UserError: data is missing, or the loss is not finite.
    """
    mesh = devices.make_mesh()
    config = resolve(config)
    check_data(config)
    devices.check_batch_size(config.data.batch_size, mesh)
    network = build(network_config(config))
    source = open_source(config.data, config.data.train_split, network.config.num_classes)
    test = open_source(config.data, config.evaluation.split, network.config.num_classes)
    plan = make_plan(config, len(source))
    train_step, state = make_step(config, network, plan, mesh)
    evaluate = make_evaluate(network, config, test, mesh)
    description = run_description(config, source) | {"total_steps": plan.total}
    _check_same_job(description, test.fingerprint)

    peak_flops = peak_rates.peak_flops(mesh)
    flops_per_image = 2 * training_multiply_adds(network) if peak_flops else 0

    footprint = read_ahead_bytes(config.data, len(source))
    log.info(
        f"{len(source):,} training images; reading ahead takes at most {footprint / 1e6:,.1f} MB "
        f"and the images being decoded, one in each of {config.data.threads} threads"
    )

    with contextlib.ExitStack() as until_saved, contextlib.ExitStack() as stack:
        if processes.is_primary():
            stack.enter_context(workdir.claim(folder, description["config"]))
            costs = dataclasses.asdict(network_cost(network.config))
            json_files.replace(folder / workdir.MODEL, json_files.to_text(costs, indent=2) + "\n")
        log_file = folder / workdir.LOGS / f"process_{jax.process_index()}.log"
        console.add_file(logging.getLogger("inception_jax"), log_file)
        if processes.is_primary():
            for line in not_reached(config, plan):
                log.warning(line)
        stack.enter_context(watchdog.watch(config.training.watchdog))
        state, found = _resume(state, folder, config, description, mesh)
        start = saved = int(state.step)
        bad_images = found.get("bad_images", 0)
        evaluation_pending = found.get("evaluation_pending", False)
        record = stack.enter_context(
            open_record(folder, config.checkpoints, start, evaluated=not evaluation_pending)
        )
        batches = stack.enter_context(
            training_batches(source, config.data, config.seed, start, plan.total, mesh)
        )
        show = stack.enter_context(progress.show("step", plan.total, start))
        watch = Stopwatch(config.data.batch_size, plan.total, start)
        pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()

        def finish_oldest() -> None:
            nonlocal bad_images
            step, metrics = pending.popleft()
            values = {name: value.item() for name, value in jax.device_get(metrics).items()}
            _check_finite(step, values, config, len(source))
            bad_images += values["bad_images"]
            _check_bad_images(step, bad_images, config, len(source))
            values["bad_images"] = bad_images  # of the run so far
            if step % plan.log_every and step != plan.total:
                return
            rates = watch.read(step)
            if peak_flops:
                done = rates["images_per_second"] * flops_per_image
                rates["model_flops_utilization"] = done / peak_flops
            epoch = step * config.data.batch_size / len(source)
            record.write(step, {"epoch": epoch, **values, **rates})
            show(
                step,
                f"loss {values['loss']:.4f}, {rates['images_per_second']:.0f} images/s, "
                f"{rates['input_wait']:.0%} input wait",
                watch.seconds_left(step),
            )

        def finish_all() -> None:  # nothing is saved before its loss is known to be finite
            while pending:
                finish_oldest()

        def save(step: int, top1: float | None = None, **more: Any) -> None:
            nonlocal saved
            record.save(step, state, description | {"bad_images": bad_images} | more, top1)
            saved = step

        def evaluate_and_save(step: int) -> dict[str, Any]:
            """What was evaluated is saved: else the best state could be gone."""
            log.debug(f"evaluating at step {step}")
            with watch.paused():
                evaluation = evaluate(*inference_weights(state))
                record.write(step, evaluation, split=config.evaluation.split)
                log.info(
                    f"step {step}: {config.evaluation.split} top-1 {evaluation['top1']:.4f}, "
                    f"top-5 {evaluation['top5']:.4f}, loss {evaluation['loss']:.4f} "
                    f"({evaluation['examples']} examples)"
                )
                save(step, evaluation["top1"])
            return evaluation

        evaluation: dict[str, Any] = {}
        if evaluation_pending:
            until_saved.enter_context(preemption.stopping_at_checks())
            evaluation = evaluate_and_save(start)
        for step in range(start + 1, plan.total + 1):
            with watch.waiting():
                batch = next(batches)
            if step == start + 1:
                log.info("compiling the training step")
                with watch.paused():
                    state, metrics = train_step(state, batch)
                until_saved.enter_context(preemption.stopping_at_checks())
            else:
                state, metrics = train_step(state, batch)
            pending.append((step, metrics))
            if len(pending) > DISPATCHED_AHEAD:
                finish_oldest()
            evaluating = step == plan.total or step % plan.evaluate_every == 0
            watchdog.beat()
            try:
                preemption.check()
                if evaluating:
                    finish_all()
                    evaluation = evaluate_and_save(step)
                elif step % plan.checkpoint_every == 0:
                    finish_all()
                    with watch.paused():
                        save(step)
            except (PreemptedError, UnreadableImageError):  # not to cost the steps so far
                if step > saved:
                    finish_all()
                    save(step, evaluation_pending=evaluating)
                raise
    if start == plan.total and not evaluation:
        log.info(f"already trained for {plan.total} steps")
        evaluation = evaluate(*inference_weights(state))
    return {"step": plan.total, **evaluation}


def inference_weights(state: TrainState) -> tuple[Any, Any]:
    """Parameters and batch statistics to test with: the averaged ones where there are any."""
    if state.average:
        return state.average["params"], state.average["batch_stats"]
    return state.params, state.batch_stats


def _resume(
    state: TrainState,
    folder: Path,
    config: ConfigDict,
    description: dict[str, Any],
    mesh: Mesh,
) -> tuple[TrainState, dict[str, Any]]:
    """The newest good checkpoint of this run, else `model.init_from`, else `state`.

    Process 0 reads it and gives it to the others: all start from the same, wherever their disks.

    Returns:
      The state on the devices, and what its checkpoint says of itself.
    """
    found: dict[str, Any] = {}
    if processes.is_primary():
        state, found = _read_newest(state, folder, config, description, mesh)
    if processes.is_multi_process():
        processes.barrier("process 0 has the state")
        state, found = devices.broadcast_arrays(state), processes.broadcast_json(found)
    return devices.replicate(state, mesh), found


def _read_newest(
    state: TrainState,
    folder: Path,
    config: ConfigDict,
    description: dict[str, Any],
    mesh: Mesh,
) -> tuple[TrainState, dict[str, Any]]:
    restored = store.repair_and_restore(
        folder / workdir.CHECKPOINTS, to_tree(state), folder / workdir.DAMAGED_CHECKPOINTS
    )
    if restored is None:
        if config.model.init_from:
            checkpoint = paths.to_path(config.model.init_from, "model.init_from")
            class_names = tuple(description["class_names"])
            state = warm_start.start_from(state, checkpoint, class_names, mesh)
        return state, {}
    workdir.check_same(folder, restored.description["config"], description["config"])
    if restored.description["data_fingerprint"] != description["data_fingerprint"]:
        raise UsageError(
            f"the training data is not what {folder} was trained on (its fingerprint differs): "
            "use the same data, or another --workdir"
        )
    return from_tree(state, restored.tree), restored.description


def _check_same_job(description: dict[str, Any], test_fingerprint: str) -> None:
    """Raises UsageError in a process that would train something else than process 0."""
    mine = [description["config"], description["data_fingerprint"], test_fingerprint]
    of_first = processes.broadcast_json(mine)
    if changed := configuration.differences(of_first[0], mine[0]):
        raise UsageError(f"its config differs from process 0's in {', '.join(changed)}")
    if mine[1:] != of_first[1:]:
        raise UsageError(
            "its data differs from process 0's (another fingerprint): prepare it on one machine "
            "and copy it, or use a common disk"
        )


def _check_bad_images(step: int, bad_images: int, config: ConfigDict, examples: int) -> None:
    """Raises UserError when there were more than `data.max_bad_fraction` allows.

    Of the images so far, and in the first epoch of all there are.
    """
    images = max(step * config.data.batch_size, examples)
    if bad_images > config.data.max_bad_fraction * images:
        raise UserError(
            f"{bad_images} unreadable training images up to step {step}, more than "
            f"data.max_bad_fraction={config.data.max_bad_fraction} of {images}: they are named "
            "above and in the log; delete the prepared data, mend or remove them and prepare "
            "again, or allow more"
        )


def _check_finite(step: int, values: dict[str, float], config: ConfigDict, examples: int) -> None:
    """Raises UserError if a loss, gradient or parameter is not finite after update `step`."""
    for name in ("loss", "gradient_norm", "parameter_norm"):
        if not math.isfinite(values[name]):
            batch_size = config.data.batch_size
            _, indices = order.batch_order(config.seed, step - 1, batch_size, examples)
            raise UserError(
                f"{name} is {values[name]} at step {step}, on the training examples "
                f"{indices.tolist()}; no checkpoint has this step. Lower schedule.learning_rate, "
                "warm it up or set optimizer.gradient_clip, in a new --workdir"
            )
