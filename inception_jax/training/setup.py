"""Makes the training step and the state before the first one, from a config."""

from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.models.network import Network
from inception_jax.tasks.base import Task
from inception_jax.training.learning_rate import make_schedule
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import TrainState, initial_state
from inception_jax.training.step import TrainStep, make_train_step
from inception_jax.training.timetable import Timetable


def make_step(
    task: Task, config: ConfigDict, network: Network, timetable: Timetable, mesh: Mesh
) -> tuple[TrainStep, TrainState]:
    """Makes the training step, and the state before the first one, on the host."""
    learning_rate = make_schedule(
        config.schedule,
        total_steps=timetable.total,
        warmup_steps=timetable.warmup,
        decay_every_steps=timetable.decay_every,
    )
    optimizer = make_optimizer(config.optimizer, learning_rate)
    train_step = make_train_step(
        task, network, optimizer, learning_rate, config, mesh, average_start=timetable.average_start
    )
    averaging = config.training.average_decay > 0
    return train_step, initial_state(network, optimizer, config.seed, averaging=averaging)
