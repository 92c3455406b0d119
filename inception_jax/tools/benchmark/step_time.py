"""Speed of training steps and of forward passes, alone or beside other programs.

The training step is the one that `train` runs: distortions, the network with its auxiliary heads,
gradients, update, metrics. The forward pass is that of inference. Both run on one batch of random
images that lies on the devices: nothing is read. Weights are the initial ones.

A peer does the same work with the same batch size in a process of its own, on the CPU: forward,
loss with auxiliary heads, gradients, an update with momentum and weight decay. `torchvision` is its
GoogLeNet, with batch normalisation and without LRN (configs/torchvision.py is that network), in
channels_last, the faster of its layouts on a CPU. `plain` is the paper's network as a textbook
writes it in JAX, without this package's kernels: tests/benchmarks/plain_googlenet.py. Both sides
take turns within each repeat, and the one that is not measured rests.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.table import Table

from inception_jax.config.resolve import resolve
from inception_jax.data.read_ahead import HostBatch
from inception_jax.errors import UsageError
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, progress
from inception_jax.tasks import make_task
from inception_jax.tools.benchmark import environment, throughput
from inception_jax.tools.benchmark.peers import process
from inception_jax.tools.fake_batch import fake_batch
from inception_jax.tools.plan.compiled_step import EXAMPLES
from inception_jax.training.setup import make_step
from inception_jax.training.timetable import make_timetable

PEERS = ("plain", "torchvision")
WORK = ("train", "forward")
LIBRARIES = ("jax", "jaxlib", "flax", "optax")

WARM_UP_STEPS = 2  # the first one compiles

Result = dict[str, Any]
Clock = Callable[[], throughput.Speed]


def measure(config: ConfigDict, peer: str | None, seconds: float, repeats: int) -> Result:
    """Measures steps and forward passes by turns.

    Args:
      config: a training config.
      peer: one of PEERS, or None.
      seconds: the time of each measurement, with one step at least.
      repeats: measurements of each kind.

    Returns:
      The fields of --json. Speeds and ratios are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError: the peer cannot be run.
      UsageError: the config is wrong, or there is a peer and JAX uses an accelerator.
    """
    config, mesh = resolve(config), devices.make_mesh()
    devices.check_batch_size(config.data.batch_size, mesh)
    if peer and jax.default_backend() != "cpu":
        raise UsageError(f"{peer} is measured on the CPU: set JAX_PLATFORMS=cpu to compare with it")
    network, batch_size = build(network_config(config)), config.data.batch_size
    batch = fake_batch(config, slice(batch_size))

    def clock(steps: Iterator[None]) -> Clock:
        return lambda: throughput.measure(steps, batch_size, WARM_UP_STEPS, seconds)

    clocks = {
        "train": clock(_training_steps(config, network, batch, mesh)),
        "forward": clock(forward_passes(config, network, batch, mesh)),
    }
    version = None
    with contextlib.ExitStack() as stack:
        if peer:
            spec = {
                "batch_size": batch_size,
                "image_size": config.data.image_size,
                "num_classes": config.model.num_classes,
                "warm_up_batches": WARM_UP_STEPS,
                "seconds": seconds,
            }
            for work in WORK:
                started = stack.enter_context(process.start(peer, spec | {"work": work}))
                clocks[f"{peer} {work}"] = started.measure
                version = started.about["version"]
        speeds: dict[str, list[float]] = {name: [] for name in clocks}
        for _ in progress.track(range(repeats), "repeat", repeats):
            for name, measured in clocks.items():
                speeds[name].append(measured().images_per_second)
    result = {
        "machine": environment.environment_of(LIBRARIES),
        "peer": {"name": peer, "version": version} if peer else None,
        "config_name": config.name,
        "dtype": config.model.dtype,
        "batch_size": batch_size,
        "image_size": config.data.image_size,
        "seconds": seconds,
    }
    for work in WORK:
        result[f"{work}_images_per_second"] = throughput.spread(speeds[work])
        if peer:
            of_peer = speeds[f"{peer} {work}"]
            result[f"peer_{work}_images_per_second"] = throughput.spread(of_peer)
            result[f"{work}_ratio"] = throughput.spread(
                [speed / other for speed, other in zip(speeds[work], of_peer, strict=True)]
            )
    return result


def _training_steps(
    config: ConfigDict, network: Network, batch: HostBatch, mesh: Mesh
) -> Iterator[None]:
    """Yields once a step without end; the step before it is done then."""
    step, state = make_step(
        make_task(config), config, network, make_timetable(config, EXAMPLES), mesh
    )
    state = devices.replicate(state, mesh)
    on_devices = devices.to_devices(batch, mesh)
    metrics: dict[str, jax.Array] = {}
    while True:
        before = metrics
        state, metrics = step(state, on_devices)
        jax.block_until_ready(before)
        yield


def forward_passes(
    config: ConfigDict, network: Network, batch: HostBatch, mesh: Mesh
) -> Iterator[None]:
    """Yields once a forward pass without end; the pass before it is done then."""
    params, batch_stats = devices.replicate(network.initial(config.seed), mesh)
    image = batch["image"]
    images = devices.to_devices(image.astype("float32") - image.mean(), mesh)

    @functools.partial(jax.jit, compiler_options=devices.compiler_options(mesh))
    def forward(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        return network.apply(params, batch_stats, images, train=False)[0].logits

    logits = jnp.zeros(())
    while True:
        before = logits
        logits = forward(params, batch_stats, images)
        jax.block_until_ready(before)
        yield


def result_table(result: Result) -> Table:
    """A table of speeds, with a peer also of its speeds and the ratios."""
    lines = Table(
        title=f"{result['config_name']}, {result['image_size']} pixels, {result['dtype']}, batches "
        f"of {result['batch_size']}"
    )
    lines.add_column("what")
    for heading in ("median", "min..max"):
        lines.add_column(heading, justify="right", no_wrap=True)
    for work, words in zip(WORK, ("training", "forward"), strict=True):
        lines.add_row(
            f"images/s, {words}", *throughput.cells(result[f"{work}_images_per_second"], 2)
        )
        if result["peer"]:
            name = result["peer"]["name"]
            of_peer, ratio = result[f"peer_{work}_images_per_second"], result[f"{work}_ratio"]
            lines.add_row(f"  {name}", *throughput.cells(of_peer, 2))
            lines.add_row(f"  ratio to {name}", *throughput.cells(ratio, 3))
    return lines


def summary(result: Result) -> list[str]:
    """The machine and the versions with which it was measured."""
    machine, peer = result["machine"], result["peer"]
    of_peer = {peer["name"]: peer["version"]} if peer else {}
    return environment.summary(machine | {"versions": machine["versions"] | of_peer})
