"""The jitted training step: prepare the batch, loss, gradients, update, average."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data.read_ahead import DeviceBatch
from inception_jax.models.network import Network
from inception_jax.runtime.devices import compiler_options, replicated
from inception_jax.tasks.base import Task
from inception_jax.training.optimizer import frozen_layers
from inception_jax.training.state import TrainState
from inception_jax.training.weight_averaging import update_average

Metrics = dict[str, jax.Array]
# Scopes, by which a compiled step's parts outside the layers are told apart.
DISTORTIONS, UPDATE = "distortions", "update"

TrainStep = Callable[[TrainState, DeviceBatch], tuple[TrainState, Metrics]]


def make_train_step(
    task: Task,
    network: Network,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    config: ConfigDict,
    mesh: Mesh,
    *,
    average_start: int,
) -> TrainStep:
    """Returns the step: (state, batch) -> (state, metrics). It consumes the state it is given.

    The metrics are float32 scalars of this batch, before the update: loss, learning_rate,
    gradient_norm, parameter_norm and those of the task; and int32 bad_images, those replaced.
    """
    frozen = frozen_layers(network.params, config.optimizer.learning_rate_factors)

    # Plain dictionaries in and out, the graph closed over: so a call costs Python least.
    @functools.partial(
        jax.jit,
        donate_argnums=0,
        out_shardings=replicated(mesh),
        compiler_options=compiler_options(mesh),
    )
    def train_step(state: TrainState, batch: DeviceBatch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        with jax.named_scope(DISTORTIONS):
            inputs = task.prepare(batch, key)

        def loss_fn(params):
            outputs, batch_stats = network.apply(
                params,
                state.batch_stats,
                inputs["image"],
                train=True,
                dropout_key=key,
                frozen=frozen,
            )
            loss, metrics = task.loss(outputs, inputs)
            return loss, (metrics, batch_stats)

        (loss, (task_metrics, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        step = state.step + 1
        average = state.average
        with jax.named_scope(UPDATE):
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            if average:
                new = {"params": params, "batch_stats": batch_stats}
                decay = config.training.average_decay
                average = update_average(average, new, step, average_start, decay)
        metrics = task_metrics | {
            "loss": loss,
            "learning_rate": jnp.asarray(learning_rate(state.step), jnp.float32),
            "gradient_norm": norm(gradients),
            "parameter_norm": norm(params),
            "bad_images": jnp.sum(batch["replaced"]),
        }
        return TrainState(step, params, batch_stats, opt_state, average), metrics

    return train_step


def norm(tree: Any) -> jax.Array:
    """Returns the square root of the sum of all squares.

    Optax's norm also adds the squares of imaginary parts: three times as long to trace.
    """
    return jnp.sqrt(sum(jnp.sum(jax.lax.square(leaf)) for leaf in jax.tree.leaves(tree)))
