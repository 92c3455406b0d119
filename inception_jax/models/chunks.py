"""A batch a few examples at a time, so that on a CPU they stay in the cache."""

import math
from collections.abc import Callable

import jax

# Of the largest array in one go: about what a core keeps in its own cache.
CACHED_BYTES = 2**20


def map_chunks(function: Callable[..., jax.Array], *batches: jax.Array) -> jax.Array:
    """`function` of a few examples at a time; the same as of the whole batch.

    A chunk has every n-th example, and as many of each device as of any other: a batch that lies on
    several devices does not move between them.
    """
    batch = batches[0].shape[0]
    devices = math.gcd(jax.device_count(), batch)
    example = max(array.nbytes for array in batches) // batch
    size = max(
        size
        for size in range(devices, batch + 1, devices)
        if batch % size == 0 and (size == devices or size // devices * example <= CACHED_BYTES)
    )
    chunks = batch // size
    folded = [array.reshape(size, chunks, *array.shape[1:]) for array in batches]
    shape = jax.eval_shape(function, *batches)
    outputs = shape.shape[1:]

    def fill(number: int, results: jax.Array) -> jax.Array:
        some = [jax.lax.dynamic_index_in_dim(array, number, 1, keepdims=False) for array in folded]
        return jax.lax.dynamic_update_index_in_dim(results, function(*some), number, axis=1)

    results = jax.lax.empty((size, chunks, *outputs), shape.dtype)
    return jax.lax.fori_loop(0, chunks, fill, results).reshape(batch, *outputs)
