"""Checks of a config: its fields, its data, its network."""

import jax

from inception_jax.config import compatibility
from inception_jax.data.decode import decode
from inception_jax.runtime import devices
from inception_jax.storage import disk
from inception_jax.tools.doctor.check_result import CheckResult, Status
from inception_jax.tools.doctor.context import Context
from inception_jax.tools.doctor.run_checks import Check
from inception_jax.training.evaluations import open_evaluations
from inception_jax.training.timetable import not_reached


def config(context: Context) -> CheckResult:
    """Checks that the config can be read."""
    fields = compatibility.flatten(compatibility.to_dict(context.config))
    facts = {
        name: fields[name]
        for name in fields
        if not compatibility.is_resume_safe(name, context.config.task)
    }
    found = f"{context.config.name}, of {context.config_file}"
    return CheckResult(Status.OK, found, facts=facts)


def batch_size(context: Context) -> CheckResult:
    """Checks that the devices can share a batch evenly."""
    size, count = context.config.data.batch_size, jax.device_count()
    devices.check_batch_size(size, devices.make_mesh())
    return CheckResult(Status.OK, f"{size:,}, {size // count:,} a device")


def data(context: Context) -> CheckResult:
    """Checks that all splits open, and that their first and last images can be decoded."""
    config = context.resolved
    splits = []
    for split, source in context.sources.items():
        for example in source.read(sorted({0, len(source) - 1})):
            decode(example.encoded, example.name)
        splits.append(f"{len(source):,} images in {split}")
    fake = config.data.source == "fake"
    name = "random images" if fake else f"{config.data.name} in {config.data.data_dir}"
    found = (
        f"{name}: {', '.join(splits)}, {config.model.num_classes:,} classes; first and last decode"
    )
    facts = {f"fingerprint of {name}": one.fingerprint for name, one in context.sources.items()}
    return CheckResult(Status.OK, found, facts=facts)


def network(context: Context) -> CheckResult:
    """Checks that the network, the optimizer, the durations and the evaluations can be made."""
    size = disk.megabytes(context.state_bytes)
    found = f"{context.timetable.total:,} steps; the state takes {size} of each device"
    mesh = devices.make_mesh()
    open_evaluations(context.task, context.network, context.resolved, context.examples, mesh)
    if lines := not_reached(context.resolved, context.timetable):
        remedy = "none needed for a trial; else raise training.total or lower these"
        return CheckResult(Status.WARNING, "; ".join([found, *lines]), remedy)
    return CheckResult(Status.OK, found)


SAME_COMMAND = "give all processes the same command"
SAME_DATA = "prepare the data on one machine and copy it, or use a common disk"

CHECKS = (
    Check("config", config, given=("config",), mismatch_hint=SAME_COMMAND),
    Check("batch size", batch_size, needs=("devices", "config"), given=("config",)),
    Check("data", data, needs=("config",), given=("config",), mismatch_hint=SAME_DATA),
    Check("network", network, needs=("devices", "data"), given=("config",)),
)
