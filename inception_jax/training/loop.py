"""The training loop: batches in, steps, and what a session does beside them."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from inception_jax.checkpoints.description import make_description
from inception_jax.config.resolve import resolve
from inception_jax.data.decode import UnreadableImageError
from inception_jax.errors import PreemptedError
from inception_jax.models.cost import network_cost
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import console, devices, preemption, processes, progress, watchdog
from inception_jax.storage import json_files, workdir
from inception_jax.tasks import make_task
from inception_jax.training import setup
from inception_jax.training.evaluations import open_evaluations
from inception_jax.training.input import memory_needed, training_batches
from inception_jax.training.resume import check_same_job, resume
from inception_jax.training.run_writer import open_run_writer
from inception_jax.training.session import Session, model_flops_utilization
from inception_jax.training.timetable import make_timetable, not_reached

log = logging.getLogger(__name__)


def train(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Trains to the end, from the newest good checkpoint in `folder` if there is one.

    Args:
      config: as loaded; what it leaves open is taken from the data and the machine.
      folder: of the run.

    Returns:
      `step` and the task's metrics of the last evaluation.

    Raises:
      UsageError: the config is wrong, or `folder` belongs to another one.
      UserError: data is missing, or the loss is not finite.
      PreemptedError: SIGTERM came; the last finished step is saved.
    """
    mesh = devices.make_mesh()
    config = resolve(config)
    devices.check_batch_size(config.data.batch_size, mesh)
    task, network = make_task(config), build(network_config(config))
    source = task.open(config.data.train_split)
    timetable = make_timetable(config, len(source))
    evaluations = open_evaluations(task, network, config, len(source), mesh)
    train_step, state = setup.make_step(task, config, network, timetable, mesh)
    own = task.description(source) | {"total_steps": timetable.total}
    description = own | make_description(config, own.get("class_names", ()), source.fingerprint)
    check_same_job(description, [one.evaluator.fingerprint for one in evaluations])
    log.info(
        f"{len(source):,} training images; reading ahead takes at most "
        f"{memory_needed(config.data, len(source)) / 1e6:,.1f} MB and the images being decoded, "
        f"one in each of {config.data.threads} threads"
    )

    # The order of these blocks counts: the last checkpoint is complete before SIGTERM ends the
    # process at once again.
    with contextlib.ExitStack() as until_saved, contextlib.ExitStack() as stack:
        primary = processes.is_primary()
        if primary:
            stack.enter_context(workdir.claim(folder, description["config"]))
            _write_costs(network, folder)
        log_file = folder / workdir.LOGS / f"process_{jax.process_index()}.log"
        console.add_file(logging.getLogger("inception_jax"), log_file)
        for line in not_reached(config, timetable) if primary else ():
            log.warning(line)
        stack.enter_context(watchdog.watch(config.training.watchdog))
        state, resumed = resume(state, folder, config, description, mesh)
        start, pending = int(state.step), resumed.get("evaluation_pending", False)
        writer = None
        if primary:
            writer = stack.enter_context(
                open_run_writer(
                    folder,
                    config.checkpoints,
                    start,
                    evaluated=not pending,
                    ranked_by=task.primary_metric,
                )
            )
        batches = stack.enter_context(training_batches(task, source, start, timetable.total, mesh))
        session = Session(
            task=task,
            source=source,
            timetable=timetable,
            evaluations=evaluations,
            writer=writer,
            description=description,
            resumed=resumed,
            start=start,
            utilization=model_flops_utilization(network, mesh),
            show=stack.enter_context(progress.show("step", timetable.total, start)),
        )

        if pending:
            until_saved.enter_context(preemption.stopping_at_checks())
            session.evaluate(start, state)
        for step in range(start + 1, timetable.total + 1):
            with session.stopwatch.waiting():
                batch = next(batches)
            if step == start + 1:
                log.info("compiling the training step")
                with session.stopwatch.paused():
                    state, metrics = train_step(state, batch)
                until_saved.enter_context(preemption.stopping_at_checks())
            else:
                state, metrics = train_step(state, batch)
            session.add(step, metrics)
            watchdog.beat()
            try:
                preemption.check()
                session.evaluate_or_save(step, state)
            except (PreemptedError, UnreadableImageError):
                session.save_unsaved(step, state)
                raise
    if start == timetable.total and not session.last_evaluation:
        log.info(f"already trained for {timetable.total} steps")
        session.last_evaluation = evaluations[0].run(state)
    result = session.last_evaluation
    log.info(
        f"trained {config.name} for {timetable.total} steps: {config.evaluation.split} "
        f"{task.in_words(result)}"
    )
    return {"step": timetable.total, **result}


def _write_costs(network: Network, folder: Path) -> None:
    """Writes what the network costs, as `describe --json` prints it."""
    costs = dataclasses.asdict(network_cost(network.config))
    json_files.replace(folder / workdir.MODEL, json_files.to_text(costs, indent=2) + "\n")
