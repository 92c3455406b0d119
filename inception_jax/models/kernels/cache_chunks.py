"""Maps a function over cache-sized pieces of a batch (CPU)."""

import math
from collections.abc import Callable

import jax

CACHED_BYTES = 2**20  # of a piece; about what a core keeps in its own cache


def map_chunks(function: Callable[[jax.Array], jax.Array], batch: jax.Array) -> jax.Array:
    """Applies `function` to a few examples at a time; it must treat each example by itself.

    A chunk has every n-th example, and as many of each device as of any other: a batch that lies on
    several devices does not move between them.

    Args:
      function: [examples of a chunk, ...] to [examples of a chunk, ...].
      batch: [examples, ...].

    Returns:
      The result for the whole batch.
    """
    folded = _fold(batch, _size(batch))
    chunk = jax.eval_shape(lambda: function(_chunk(folded, 0)))
    results = jax.lax.empty((len(folded), folded.shape[1], *chunk.shape[1:]), chunk.dtype)

    def fill(number: int, results: jax.Array) -> jax.Array:
        return _set_chunk(results, number, function(_chunk(folded, number)))

    return _unfold(jax.lax.fori_loop(0, folded.shape[1], fill, results))


def map_chunks_in_place(
    function: Callable[[jax.Array, jax.Array], jax.Array], batch: jax.Array, other: jax.Array
) -> jax.Array:
    """Applies a function of two arrays to a few examples at a time, as `map_chunks` does.

    Results have the shape and dtype of `batch` and take its place, chunk by chunk: no memory has to
    be taken, filled with zeros and given back.
    """
    size = _size(batch)
    folded, other = _fold(batch, size), _fold(other, size)

    def fill(number: int, results: jax.Array) -> jax.Array:
        result = function(_chunk(results, number), _chunk(other, number))
        return _set_chunk(results, number, result)

    return _unfold(jax.lax.fori_loop(0, folded.shape[1], fill, folded))


def _size(batch: jax.Array) -> int:
    """The number of examples of a chunk: as many as the cache holds."""
    devices = math.gcd(jax.device_count(), len(batch))
    example = batch.nbytes // len(batch)
    return max(
        size
        for size in range(devices, len(batch) + 1, devices)
        if len(batch) % size == 0 and (size == devices or size // devices * example <= CACHED_BYTES)
    )


def _fold(batch: jax.Array, size: int) -> jax.Array:
    """Turns [examples, ...] into [examples of a chunk, chunks, ...]."""
    return batch.reshape(size, -1, *batch.shape[1:])


def _unfold(folded: jax.Array) -> jax.Array:
    return folded.reshape(-1, *folded.shape[2:])


def _chunk(folded: jax.Array, number: int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(folded, number, axis=1, keepdims=False)


def _set_chunk(folded: jax.Array, number: int, chunk: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(folded, chunk, number, axis=1)
