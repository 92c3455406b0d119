"""What a config asks for: its fields, its data, its network."""

import jax

from inception_jax.config import compatibility
from inception_jax.data.decode import decode
from inception_jax.runtime import devices
from inception_jax.storage import disk
from inception_jax.tools.doctor.examination import Check
from inception_jax.tools.doctor.subject import Subject
from inception_jax.tools.doctor.verdict import Finding, Verdict
from inception_jax.training.timetable import not_reached


def config(subject: Subject) -> Finding:
    """Whether it can be read."""
    fields = compatibility.flatten(compatibility.to_dict(subject.config))
    facts = {
        name: fields[name]
        for name in fields
        if name
        if not compatibility.is_resume_safe(name, subject.config.task)
    }
    return Finding(Verdict.OK, f"{subject.config.name}, of {subject.config_file}", facts=facts)


def batch_size(subject: Subject) -> Finding:
    """Whether the devices can share a batch."""
    size, count = subject.config.data.batch_size, jax.device_count()
    devices.check_batch_size(size, devices.make_mesh())
    return Finding(Verdict.OK, f"{size:,}, {size // count:,} a device")


def data(subject: Subject) -> Finding:
    """Whether both splits open, and their first and last images can be decoded."""
    config = subject.resolved
    splits = []
    for split, source in subject.sources.items():
        for example in source.read(sorted({0, len(source) - 1})):
            decode(example.encoded, example.name)
        splits.append(f"{len(source):,} images in {split}")
    fake = config.data.source == "fake"
    what = "random images" if fake else f"{config.data.name} in {config.data.data_dir}"
    found = (
        f"{what}: {', '.join(splits)}, {config.model.num_classes:,} classes; first and last decode"
    )
    facts = {f"fingerprint of {name}": one.fingerprint for name, one in subject.sources.items()}
    return Finding(Verdict.OK, found, facts=facts)


def network(subject: Subject) -> Finding:
    """Whether the network, the schedule and the durations can be built."""
    size = disk.megabytes(subject.state_bytes)
    found = f"{subject.plan.total:,} steps; the state takes {size} of each device"
    if lines := not_reached(subject.resolved, subject.plan):
        remedy = "none needed for a trial; else raise training.total or lower these"
        return Finding(Verdict.WARNING, "; ".join([found, *lines]), remedy)
    return Finding(Verdict.OK, found)


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
