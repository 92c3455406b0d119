"""The TPU compiler's estimate of the plain network's training step, to compare `plan` with.

Run: python tests/benchmarks/plain_plan.py [--topology v5e:2x4] [--batch_size 2048]

The same images, uint8 as they come from the host, and parameters in float32, computation in
bfloat16; XLA's own pools, windows for LRN, operation by operation. Prints one JSON line with the
names of `plan --json`. Needs libtpu, as `plan` does: pip install '.[plan]'.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import plain_googlenet  # type: ignore[import-not-found]  # beside this file

sys.path.insert(0, str(Path(__file__).parents[2]))

from inception_jax.runtime import devices
from inception_jax.tools.plan import hlo_text, topology
from inception_jax.tools.plan.compiler import OutOfMemory, compile_within_memory

CLASSES, IMAGE_SIZE = 1000, 224


def loss_of(params: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    images = (images.astype(jnp.float32) - 118).astype(jnp.bfloat16)
    first, second, main = (
        -jnp.mean(
            jnp.take_along_axis(
                jax.nn.log_softmax(logits.astype(jnp.float32)), labels[:, None], axis=1
            )
        )
        for logits in plain_googlenet.googlenet(params, images, key)
    )
    return main + 0.3 * (first + second)


def train_step(params: Any, momentum: Any, images: jax.Array, labels: jax.Array, key: jax.Array):
    gradients = jax.grad(loss_of)(params, images, labels, key)
    momentum = jax.tree.map(lambda m, g, p: 0.9 * m + g + 2e-4 * p, momentum, gradients, params)
    return jax.tree.map(lambda p, m: p - 0.01 * m, params, momentum), momentum


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--topology", default="v5e:2x4")
    parser.add_argument("--batch_size", type=int, default=2048)
    flags = parser.parse_args()
    mesh = devices.make_mesh(topology.find_slice(flags.topology).devices)
    same, split = devices.replicated(mesh), devices.split_batch(mesh)

    def described(shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    params = jax.tree.map(
        lambda leaf: described(leaf.shape, leaf.dtype, same),
        plain_googlenet.initial_params(CLASSES, IMAGE_SIZE),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = jax.jit(train_step, donate_argnums=(0, 1), out_shardings=same)
    program = compile_within_memory(
        step.lower(
            params,
            params,
            described((flags.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.uint8, split),
            described((flags.batch_size,), jnp.int32, split),
            described(key.shape, key.dtype, same),
        )
    )
    if isinstance(program, OutOfMemory):
        sys.exit(f"it takes {program.needed:,} bytes of {program.available:,}")
    memory = program.memory_analysis()
    assert memory is not None
    lines = hlo_text.instructions(program.as_text() or "")
    found = {
        "estimated_cycles": hlo_text.total_cycles(lines),
        "peak_bytes": memory.peak_memory_in_bytes,
        "without_estimate": hlo_text.unestimated(lines),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
