"""Reads multiply-adds and activations of a training step off its traced computation."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from inception_jax.models.network import Network


def training_multiply_adds(network: Network) -> int:
    """Counts the multiply-adds of a training step for one image, forward and backward.

    Auxiliary heads count. The gradient to the images does not: a step does not compute it.
    """
    forward = [count for _, _, count in equations(network, train=True)]
    first = next(count for count in forward if count)
    return 3 * sum(forward) - first


def activation_bytes(network: Network, batch_size: int) -> int:
    """Counts the bytes that a training step keeps of the forward pass for its whole batch.

    As JAX differentiates the network, before a compiler drops or recomputes some of it.
    """
    size = network.config.image_size
    images = jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.float32)

    def residuals(params: Any, batch_stats: Any, images: jax.Array) -> list[jax.Array]:
        def logits(params: Any) -> Any:
            key = jax.random.key(0)
            outputs, _ = network.apply(params, batch_stats, images, train=True, dropout_key=key)
            return outputs

        _, backward = jax.vjp(logits, params)
        return [leaf for leaf in jax.tree.leaves(backward) if isinstance(leaf, jax.Array)]

    jaxpr = jax.make_jaxpr(residuals)(network.params, network.batch_stats, images).jaxpr
    given = set(jaxpr.invars) | set(jaxpr.constvars)
    kept = {variable for variable in jaxpr.outvars if isinstance(variable, jax.extend.core.Var)}
    shapes: list[Any] = [variable.aval for variable in kept - given]
    return sum(shape.size * shape.dtype.itemsize for shape in shapes)


def equations(network: Network, *, train: bool) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Traces the forward pass of one image.

    Yields:
      For each equation, in order: its scope (`inception_3a/3x3`), the shape of its output, and its
      multiply-adds, which only convolutions and matrix products have.
    """
    size = network.config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    forward = functools.partial(network.apply, train=train, dropout_key=jax.random.key(0))
    jaxpr = jax.make_jaxpr(forward)(network.params, network.batch_stats, images).jaxpr
    for scope, equation in _with_scopes(jaxpr, ""):
        yield scope, equation.outvars[0].aval.shape, _multiply_adds(equation)


def _with_scopes(jaxpr: Any, scope: str) -> Iterator[tuple[str, Any]]:
    """Yields all equations with their full scope: those inside a call first, then the call.

    Of forms that depend on the platform it takes the last, which is the default.
    """
    for equation in jaxpr.eqns:
        inner = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
        for parameter in equation.params.values():
            called = parameter[-1] if isinstance(parameter, tuple) and parameter else parameter
            if isinstance(called, jax.extend.core.ClosedJaxpr):
                yield from _with_scopes(called.jaxpr, inner)
        yield inner, equation


def _multiply_adds(equation: Any) -> int:
    """Counts a convolution or matrix product: outputs x the length of the sum behind each."""
    outputs = math.prod(equation.outvars[0].aval.shape)
    match equation.primitive.name:
        case "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            spec = equation.params["dimension_numbers"].rhs_spec
            return outputs * math.prod(kernel) // kernel[spec[0]]
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            return outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        case _:
            return 0
