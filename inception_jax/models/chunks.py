"""A batch a few examples at a time, so that on a CPU they stay in the cache."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

# Of the largest array in one go: about what a core keeps in its own cache.
CACHED_BYTES = 2**20


def map_chunks(function: Callable[..., jax.Array], *batches: jax.Array) -> jax.Array:
    """`function` of a few examples at a time; the same as of the whole batch."""
    chunks, folded = _fold(*batches)
    shape = jax.eval_shape(function, *batches)
    example = shape.shape[1:]

    def fill(number: int, results: jax.Array) -> jax.Array:
        result = function(*_chunk(folded, number))
        return jax.lax.dynamic_update_index_in_dim(results, result, number, axis=1)

    results = jax.lax.empty((shape.shape[0] // chunks, chunks, *example), shape.dtype)
    return jax.lax.fori_loop(0, chunks, fill, results).reshape(-1, *example)


def sum_chunks(function: Callable[..., jax.Array], *batches: jax.Array) -> jax.Array:
    """The sum of `function` over chunks; of a sum over examples it is the whole batch's."""
    chunks, folded = _fold(*batches)
    shape = jax.eval_shape(function, *batches)
    return jax.lax.fori_loop(
        0,
        chunks,
        lambda number, total: total + function(*_chunk(folded, number)),
        jnp.zeros(shape.shape, shape.dtype),
    )


def _fold(*batches: jax.Array) -> tuple[int, tuple[jax.Array, ...]]:
    """The number of chunks that the cache takes, and arrays [examples of a chunk, chunks, ...].

    A chunk has every n-th example: where a batch lies on several devices, so does each chunk.
    """
    batch = batches[0].shape[0]
    example = max(array.nbytes for array in batches) // batch
    size = max(
        size
        for size in range(1, batch + 1)
        if batch % size == 0 and (size == 1 or size * example <= CACHED_BYTES)
    )
    chunks = batch // size
    return chunks, tuple(array.reshape(size, chunks, *array.shape[1:]) for array in batches)


def _chunk(folded: Sequence[jax.Array], number: int) -> list[jax.Array]:
    return [jax.lax.dynamic_index_in_dim(array, number, axis=1, keepdims=False) for array in folded]
