"""Reads a batch of random images of a config's shapes, for tools that need none of its data."""

from ml_collections import ConfigDict

from inception_jax.data.read_ahead import HostBatch
from inception_jax.tasks import make_task


def fake_batch(config: ConfigDict, part: slice) -> HostBatch:
    """Reads rows `part` of a batch of random images, of the config's shapes, without its data."""
    fake = config.copy_and_resolve_references().unlock()
    fake.data.source = "fake"
    task = make_task(fake.lock())
    return task.read(task.open(fake.data.train_split), 0, part)
