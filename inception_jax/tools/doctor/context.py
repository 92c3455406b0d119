"""The config, data and workdir that the doctor checks beside the machine."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from inception_jax.config.load import load_config
from inception_jax.config.resolve import evaluation_sections, resolve
from inception_jax.data.sources import Source
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, processes
from inception_jax.tasks import make_task
from inception_jax.tasks.base import Task
from inception_jax.training.setup import make_step
from inception_jax.training.timetable import Timetable, make_timetable


@dataclasses.dataclass(frozen=True)
class Context:
    """The inputs of checks: each is read when a check first uses it, and raises its errors then.

    `overrides` are changed fields of the config. With `debug` tracebacks are shown.
    """

    config_file: str | None = None
    overrides: Sequence[str] = ()
    workdir: Path | None = None
    debug: bool = False

    @property
    def given(self) -> set[str]:
        """The parts that exist: config, workdir, other_processes."""
        parts = {
            "config": self.config_file,
            "workdir": self.workdir,
            "other_processes": processes.is_multi_process(),
        }
        return {name for name, part in parts.items() if part}

    @functools.cached_property
    def config(self) -> ConfigDict:
        """The config file with the overrides."""
        assert self.config_file is not None
        return load_config(self.config_file, self.overrides)

    @functools.cached_property
    def resolved(self) -> ConfigDict:
        """The config, with the fields that it leaves to the data filled in."""
        return resolve(self.config)

    @functools.cached_property
    def sources(self) -> dict[str, Source]:
        """The training split and those of all evaluations, by their names."""
        config = self.resolved
        tested = [section.split for section in evaluation_sections(config).values()]
        return {split: self.task.open(split) for split in (config.data.train_split, *tested)}

    @functools.cached_property
    def task(self) -> Task:
        """The config's task."""
        return make_task(self.resolved)

    @property
    def examples(self) -> int:
        """The number of training examples."""
        return len(self.sources[self.resolved.data.train_split])

    @functools.cached_property
    def timetable(self) -> Timetable:
        """The config's durations in steps."""
        return make_timetable(self.resolved, self.examples)

    @functools.cached_property
    def network(self) -> Network:
        """The config's network, without weights."""
        return build(network_config(self.resolved))

    @functools.cached_property
    def state_bytes(self) -> int:
        """Bytes of a training state: parameters, statistics, momentum, averages."""
        mesh = devices.make_mesh()
        _, state = make_step(self.task, self.resolved, self.network, self.timetable, mesh)
        return sum(leaf.nbytes for leaf in jax.tree.leaves(state))
