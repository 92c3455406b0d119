"""What is looked at besides the machine: a config, its data, a workdir."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.data.sources import Source, open_source
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import processes
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.schedule import make_schedule
from inception_jax.training.state import TrainState
from inception_jax.training.timetable import Timetable, make_timetable


@dataclasses.dataclass(frozen=True)
class Subject:
    """Its parts are read when a check first wants them, and raise what is wrong with them."""

    config_file: str | None = None
    overrides: Sequence[str] = ()
    workdir: Path | None = None
    debug: bool = False  # whether tracebacks are shown

    @property
    def given(self) -> set[str]:
        """Which kinds of checks there are."""
        kinds = {
            "config": self.config_file,
            "workdir": self.workdir,
            "others": processes.is_multi_process(),
        }
        return {kind for kind, there in kinds.items() if there}

    @functools.cached_property
    def config(self) -> ConfigDict:
        """As it is written, with the overrides."""
        assert self.config_file is not None
        return load_config(self.config_file, self.overrides)

    @functools.cached_property
    def resolved(self) -> ConfigDict:
        """With what it leaves to the data."""
        return resolve(self.config)

    @functools.cached_property
    def sources(self) -> dict[str, Source]:
        """The training and the evaluation split, by their names."""
        config = self.resolved
        return {
            split: open_source(config.data, split, config.model.num_classes)
            for split in (config.data.train_split, config.evaluation.split)
        }

    @functools.cached_property
    def plan(self) -> Timetable:
        """The durations in steps."""
        return make_timetable(self.resolved, len(self.sources[self.resolved.data.train_split]))

    @functools.cached_property
    def state_bytes(self) -> int:
        """What a checkpoint holds, uncompressed: parameters, statistics, momentum, averages."""
        config = self.resolved
        network = build(network_config(config))
        learning_rate = make_schedule(
            config.schedule,
            total_steps=self.plan.total,
            warmup_steps=self.plan.warmup,
            decay_every_steps=self.plan.decay_every,
        )
        optimizer = make_optimizer(config.optimizer, learning_rate)
        weights = {"params": network.params, "batch_stats": network.batch_stats}
        state = TrainState(
            step=np.int32(0),
            **weights,
            opt_state=jax.eval_shape(optimizer.init, network.params),
            average=weights if config.training.average_decay > 0 else {},
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
