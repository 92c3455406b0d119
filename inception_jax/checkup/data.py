"""What a config asks for: its fields, its data, its network."""

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax import configuration, disk
from inception_jax.checkup.examination import Check, Subject
from inception_jax.checkup.verdict import Finding, Verdict
from inception_jax.data.decode import decode
from inception_jax.data.pipeline import check_data
from inception_jax.distributed import devices
from inception_jax.models.network import build, network_config
from inception_jax.training.loop import make_plan
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.schedule import make_schedule
from inception_jax.training.state import TrainState


def config(subject: Subject) -> Finding:
    """Whether it can be read."""
    fields = configuration.flatten(configuration.to_dict(subject.config))
    facts = {name: fields[name] for name in fields if name not in configuration.FREE_FIELDS}
    return Finding(Verdict.OK, f"{subject.config.name}, of {subject.config_file}", facts=facts)


def batch_size(subject: Subject) -> Finding:
    """Whether the devices can share a batch."""
    size, count = subject.config.data.batch_size, jax.device_count()
    devices.check_batch_size(size, devices.make_mesh())
    return Finding(Verdict.OK, f"{size:,}, {size // count:,} a device")


def data(subject: Subject) -> Finding:
    """Whether both splits open, and their first and last images can be decoded."""
    config = subject.resolved
    check_data(config)
    splits = []
    for split, source in subject.sources.items():
        for example in source.read(sorted({0, len(source) - 1})):
            decode(example.encoded, example.name)
        splits.append(f"{len(source):,} images in {split}")
    fake = config.data.source == "fake"
    what = "random images" if fake else f"{config.data.name} in {config.data.data_dir}"
    found = (
        f"{what}: {', '.join(splits)}, {config.model.num_classes:,} classes; first and last "
        "decode"
    )
    facts = {f"fingerprint of {name}": one.fingerprint for name, one in subject.sources.items()}
    return Finding(Verdict.OK, found, facts=facts)


def network(subject: Subject) -> Finding:
    """Whether the network, the schedule and the durations can be built."""
    config = subject.resolved
    examples = len(subject.sources[config.data.train_split])
    steps = make_plan(config, examples).total
    size = state_bytes(config, examples)
    return Finding(
        Verdict.OK, f"{steps:,} steps; the state takes {disk.megabytes(size)} of each device"
    )


def state_bytes(config: ConfigDict, examples: int) -> int:
    """What a checkpoint has to hold, uncompressed: parameters, statistics, momentum, averages.

    Args:
      config: resolved.
      examples: of training.

    Raises:
      UsageError: it makes no network or no schedule.
    """
    plan = make_plan(config, examples)
    model = build(network_config(config))
    learning_rate = make_schedule(
        config.schedule,
        total_steps=plan.total,
        warmup_steps=plan.warmup,
        decay_every_steps=plan.decay_every,
    )
    weights = {"params": model.params, "batch_stats": model.batch_stats}
    state = TrainState(
        step=np.int32(0),
        **weights,
        opt_state=jax.eval_shape(
            make_optimizer(config.optimizer, learning_rate).init, model.params
        ),
        average=weights if config.training.average_decay > 0 else {},
    )
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


CHECKS = (
    Check("config", config, given=("config",), alike="give all processes the same command"),
    Check("batch size", batch_size, needs=("devices", "config"), given=("config",)),
    Check(
        "data",
        data,
        needs=("config",),
        given=("config",),
        alike="prepare the data on one machine and copy it, or use a common disk",
    ),
    Check("network", network, needs=("data",), given=("config",)),
)
