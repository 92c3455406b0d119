"""Images that excite a unit most, found by gradient ascent (activation maximisation).

An image is described by its Fourier coefficients, scaled so that all frequencies are as easy to
change as in photographs, and shifted at random at each step: without both, ascent finds fine
noise. After Olah, Mordvintsev & Schubert, "Feature Visualization" (Distill, 2017,
doi:10.23915/distill.00007).
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.normalization import normalize
from inception_jax.runtime import devices

STEPS = 128
STEPS_AT_ONCE = 16  # between two reports of progress
LEARNING_RATE = 0.05  # of Adam; the coefficients are about 1
SHIFT = 16  # the largest shift is a sixteenth of the image
_START = 0.3  # scale of the first coefficients: with less, too many units have zero gradient


class Unit(NamedTuple):
    """A class, or a channel of a module's output, of which the mean over all places counts."""

    row: str  # inception_4a, or "" for the logits
    channel: int


def maximize(model: LoadedModel, units: Sequence[Unit], seed: int = 0) -> Iterator[np.ndarray]:
    """Improves one image for each unit, STEPS in all.

    Args:
      model: the network.
      units: all of one row.
      seed: for the first images and the shifts.

    Yields:
      After every STEPS_AT_ONCE steps the images, uint8 [units, size, size, 3].
    """
    (row,) = {unit.row for unit in units}
    channels = jnp.array([unit.channel for unit in units])
    data, size = model.config.data, model.config.data.image_size
    limit = max(1, size // SHIFT)
    optimizer = optax.adam(LEARNING_RATE)
    frequencies = jnp.hypot(jnp.fft.fftfreq(size)[:, None], jnp.fft.rfftfreq(size)[None, :])
    scale = size / jnp.maximum(frequencies, 1 / size)  # as amplitudes fall in photographs

    def paint(coefficients):
        """[units, size, size // 2 + 1, 3, 2] to images in 0..255."""
        spectrum = jax.lax.complex(coefficients[..., 0], coefficients[..., 1])
        plane = jnp.fft.irfft2(spectrum * scale[None, :, :, None], s=(size, size), axes=(1, 2))
        return 255 * jax.nn.sigmoid(plane)

    def excitement(coefficients, key, channels, params, batch_stats):
        shift = jax.random.randint(key, (2,), -limit, limit + 1)
        images = jnp.roll(paint(coefficients), shift, axis=(1, 2))
        images = normalize(images, data.mean, data.std)
        if row:
            output = model.network.activations(params, batch_stats, images, row)
            of_each = jnp.mean(output.astype(jnp.float32), axis=(1, 2))
        else:
            outputs, _ = model.network.apply(params, batch_stats, images, train=False)
            of_each = outputs.logits
        return jnp.sum(jnp.take_along_axis(of_each, channels[:, None], axis=1))

    @functools.partial(jax.jit, compiler_options=devices.compiler_options())
    def climb(coefficients, state, keys, channels, params, batch_stats):
        def step(carry, key):
            coefficients, state = carry
            uphill = jax.grad(excitement)(coefficients, key, channels, params, batch_stats)
            downhill = jax.tree.map(jnp.negative, uphill)
            updates, state = optimizer.update(downhill, state)
            return (optax.apply_updates(coefficients, updates), state), None

        carry, _ = jax.lax.scan(step, (coefficients, state), keys)
        return *carry, paint(carry[0])

    start_key, shift_key = jax.random.split(jax.random.key(seed))
    shape = len(units), size, size // 2 + 1, 3, 2
    coefficients = _START * jax.random.normal(start_key, shape)
    state = optimizer.init(coefficients)
    keys = jax.random.split(shift_key, STEPS)
    for first in range(0, STEPS, STEPS_AT_ONCE):
        some = keys[first : first + STEPS_AT_ONCE]
        coefficients, state, images = climb(
            coefficients, state, some, channels, model.params, model.batch_stats
        )
        yield np.round(np.asarray(images)).astype(np.uint8)
