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

from inception_jax import workdir
from inception_jax.checkpoints import store
from inception_jax.checkpoints.describe import describe_run
from inception_jax.data import from_data, order
from inception_jax.data.pipeline import check_data, read_ahead_bytes, training_batches
from inception_jax.data.sources import open_source
from inception_jax.distributed import devices
from inception_jax.errors import UsageError, UserError
from inception_jax.evaluation.protocol import make_evaluate
from inception_jax.models.network import build, network_config
from inception_jax.reporting import console, progress
from inception_jax.reporting.metrics_log import MetricsLog
from inception_jax.reporting.stopwatch import Stopwatch
from inception_jax.training import durations, warm_start
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.schedule import make_schedule
from inception_jax.training.state import TrainState, from_tree, initial_state, to_tree
from inception_jax.training.steps import make_train_step

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


def train(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Trains to the end, from the newest good checkpoint in `folder` if there is one.

    Returns:
      The last evaluation: `step`, `top1`, `top5`, `loss`, `examples`.

    Raises:
      UsageError: the config is wrong, or `folder` belongs to another one.
      UserError: data is missing, or the loss is not finite.
    """
    mesh = devices.make_mesh()
    config = from_data.resolve(config)
    check_data(config)
    devices.check_batch_size(config.data.batch_size, mesh)
    network = build(network_config(config))
    source = open_source(config.data, config.data.train_split, network.config.num_classes)
    test = open_source(config.data, config.evaluation.split, network.config.num_classes)
    plan = make_plan(config, len(source))
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
    evaluate = make_evaluate(network, config, test, mesh)
    description = describe_run(config, source) | {"total_steps": plan.total}

    averaging = config.training.average_decay > 0
    state = initial_state(network, optimizer, config.seed, averaging=averaging)
    footprint = read_ahead_bytes(config.data, len(source))
    log.info(
        f"{len(source):,} training images; reading ahead takes at most {footprint / 1e6:,.1f} MB "
        f"and the images being decoded, one in each of {config.data.threads} threads"
    )

    with contextlib.ExitStack() as stack:
        stack.enter_context(workdir.claim(folder, description["config"]))
        log_file = folder / workdir.LOGS / f"process_{jax.process_index()}.log"
        console.add_file(logging.getLogger("inception_jax"), log_file)
        state, bad_images = _resume(state, folder, config, description, mesh)
        start = int(state.step)
        metrics_log = stack.enter_context(MetricsLog(folder, resume_step=start))
        checkpoints = stack.enter_context(
            store.CheckpointWriter(
                folder / workdir.CHECKPOINTS,
                keep_last=config.checkpoints.keep_last,
                keep_best=config.checkpoints.keep_best,
            )
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
            epoch = step * config.data.batch_size / len(source)
            metrics_log.write(step, {"epoch": epoch, **values, **rates})
            show(
                step,
                f"loss {values['loss']:.4f}, {rates['images_per_second']:.0f} images/s, "
                f"{rates['input_wait']:.0%} input wait",
                watch.seconds_left(step),
            )

        evaluation: dict[str, Any] = {}
        for step in range(start + 1, plan.total + 1):
            with watch.waiting():
                batch = next(batches)
            state, metrics = train_step(state, batch)
            pending.append((step, metrics))
            if len(pending) > DISPATCHED_AHEAD:
                finish_oldest()
            last = step == plan.total
            evaluating = last or step % plan.evaluate_every == 0
            # What was evaluated is saved: else the best state could be gone.
            saving = evaluating or step % plan.checkpoint_every == 0
            if not saving:
                continue
            while pending:  # nothing is saved before its loss is known to be finite
                finish_oldest()
            counted = description | {"bad_images": bad_images}
            with watch.paused():
                if evaluating:
                    try:
                        evaluation = evaluate(*inference_weights(state))
                    except UserError:  # an unreadable image: not to cost the steps so far
                        checkpoints.save(step, to_tree(state), counted)
                        raise
                    metrics_log.write(step, evaluation, split=config.evaluation.split)
                    log.info(
                        f"step {step}: {config.evaluation.split} top-1 {evaluation['top1']:.4f}, "
                        f"top-5 {evaluation['top5']:.4f}, loss {evaluation['loss']:.4f} "
                        f"({evaluation['examples']} examples)"
                    )
                top1 = evaluation["top1"] if evaluating else None
                checkpoints.save(step, to_tree(state), counted, top1)
    if start == plan.total:
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
) -> tuple[TrainState, int]:
    """The newest good checkpoint of this run, else `model.init_from`, else `state`.

    Returns:
      The state on the devices, and how many unreadable images the run has met.
    """
    restored = store.restore_newest(
        folder / workdir.CHECKPOINTS,
        to_tree(state),
        devices.replicated(mesh),
        folder / workdir.DAMAGED_CHECKPOINTS,
    )
    if restored is None:
        if config.model.init_from:
            checkpoint = Path(config.model.init_from).expanduser()
            class_names = tuple(description["class_names"])
            state = warm_start.start_from(state, checkpoint, class_names, mesh)
        return devices.replicate(state, mesh), 0
    workdir.check_same(folder, restored.description["config"], description["config"])
    if restored.description["data_fingerprint"] != description["data_fingerprint"]:
        raise UsageError(
            f"the training data is not what {folder} was trained on (its fingerprint differs): "
            "use the same data, or another --workdir"
        )
    return from_tree(state, restored.tree), restored.description.get("bad_images", 0)


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
