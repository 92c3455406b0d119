"""How fast training steps and forward passes are, and next to other programs.

The training step is the one that `train` runs: distortions, the network with its auxiliary heads,
back, update, metrics. The forward pass is that of inference. Both on one batch of random images
that lies on the devices, over and over: nothing is read. Weights are the initial ones.

A peer does the same work with the same batch size in a process of its own, on the CPU: forward,
loss with auxiliary heads, back, an update with momentum and weight decay. torchvision is its
GoogLeNet, which has batch normalisation and no LRN (configs/torchvision.py is that network),
channels_last, the faster of its layouts on a CPU. plain is the paper's network as a textbook writes
it in JAX, without any of our special forms: tests/benchmarks/plain_googlenet.py. We and the peer
take turns within each repeat, and who is not measured rests.
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
from inception_jax.errors import UsageError
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, progress
from inception_jax.tasks.classification.batches import HostBatch, check_data, read_fake_batch
from inception_jax.tools.benchmark import environment, throughput
from inception_jax.tools.benchmark.peers import process
from inception_jax.tools.plan.compiled_step import EXAMPLES
from inception_jax.training.loop import make_plan, make_step

PEERS = ("plain", "torchvision")
WORK = ("train", "forward")
LIBRARIES = ("jax", "jaxlib", "flax", "optax")

WARM_UP_STEPS = 2  # the first one compiles

Result = dict[str, Any]
Clock = Callable[[], throughput.Speed]


def measure(config: ConfigDict, peer: str | None, seconds: float, repeats: int) -> Result:
    """Measures by turns.

    Args:
      config: of a training.
      peer: one of PEERS, or None.
      seconds: of each measurement; one step at least.
      repeats: of each.

    Returns:
      What --json prints. Speeds and ratios are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError: the peer cannot be run.
      UsageError: the config is wrong, or the peer is to run beside an accelerator.
    """
    config, mesh = resolve(config), devices.make_mesh()
    check_data(config)
    devices.check_batch_size(config.data.batch_size, mesh)
    if peer and jax.default_backend() != "cpu":
        raise UsageError(f"{peer} is measured on the CPU: JAX_PLATFORMS=cpu puts us there, too")
    network, batch_size = build(network_config(config)), config.data.batch_size
    batch = read_fake_batch(config, slice(batch_size))

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
            theirs = speeds[f"{peer} {work}"]
            result[f"peer_{work}_images_per_second"] = throughput.spread(theirs)
            result[f"{work}_ratio"] = throughput.spread(
                [our / their for our, their in zip(speeds[work], theirs, strict=True)]
            )
    return result


def _training_steps(
    config: ConfigDict, network: Network, batch: HostBatch, mesh: Mesh
) -> Iterator[None]:
    """Endless steps; when one is given out, the one before it is done."""
    step, state = make_step(config, network, make_plan(config, EXAMPLES), mesh)
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
    """Endless; when one is given out, the one before it is done."""
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


def table(result: Result) -> Table:
    """Speeds, and with a peer its own and the ratios."""
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
            theirs, ratio = result[f"peer_{work}_images_per_second"], result[f"{work}_ratio"]
            lines.add_row(f"  {name}", *throughput.cells(theirs, 2))
            lines.add_row(f"  ratio to {name}", *throughput.cells(ratio, 3))
    return lines


def summary(result: Result) -> list[str]:
    """On what machine it was measured."""
    about, peer = result["machine"], result["peer"]
    theirs = {peer["name"]: peer["version"]} if peer else {}
    return environment.summary(about | {"versions": about["versions"] | theirs})
