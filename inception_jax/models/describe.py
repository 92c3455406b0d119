"""What a network costs: parameters and multiply-adds, read off the computation itself."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from inception_jax.models.googlenet import AUXILIARY_HEADS
from inception_jax.models.network import Network


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row: its output shape without the batch, its parameters, multiply-adds for one image."""

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclasses.dataclass(frozen=True)
class Description:
    """Costs at inference for one image; `training_parameters` includes the auxiliary heads.

    Multiply-adds are those of convolutions and linear layers, as the paper counts them.
    """

    parameters: int
    training_parameters: int
    multiply_adds: int
    convolutions: int
    layers: tuple[Layer, ...]


def describe(network: Network) -> Description:
    """Describes a network, without allocating it."""
    config = network.config
    names = [row.name for row in config.rows()]
    names += ["loss3/pool" if config.head == "average_pool" else "loss3/fc", "loss3/classifier"]
    shapes: dict[str, tuple[int, ...]] = {}  # of what each computes last
    multiply_adds: Counter[str] = Counter()
    for scope, equation in _equations(_forward(network, train=False), ""):
        name = next((n for n in names if f"{scope}/".startswith(f"{n}/")), None)
        if name is None:
            continue
        shapes[name] = equation.outvars[0].aval.shape[1:]
        multiply_adds[name] += _multiply_adds(equation)
    shapes |= network.output_shapes()  # with a pool after it, a row's last computation is smaller

    params = {
        "/".join(str(key.key) for key in path): leaf
        for path, leaf in jax.tree.leaves_with_path(network.params)
    }
    sizes = {path: math.prod(leaf.shape) for path, leaf in params.items()}
    training_parameters = sum(sizes.values())
    heads = tuple(f"{head}/" for head in AUXILIARY_HEADS.values())
    auxiliary = sum(_size_under(sizes, head) for head in AUXILIARY_HEADS.values())
    kernels = [path for path, leaf in params.items() if leaf.ndim == 4]
    return Description(
        parameters=training_parameters - auxiliary,
        training_parameters=training_parameters,
        multiply_adds=multiply_adds.total(),
        convolutions=sum(not path.startswith(heads) for path in kernels),
        layers=tuple(
            Layer(name, shapes[name], _size_under(sizes, name), multiply_adds[name])
            for name in names
        ),
    )


def training_multiply_adds(network: Network) -> int:
    """Of one image in a training step: forward, then back to parameters and to inputs.

    Auxiliary heads count. Back from the first layer to the images does not: nobody asks for that.
    """
    forward = [
        _multiply_adds(equation) for _, equation in _equations(_forward(network, train=True), "")
    ]
    first = next(count for count in forward if count)
    return 3 * sum(forward) - first


def activation_bytes(network: Network, batch_size: int) -> int:
    """What a training step keeps of the forward pass for the gradient: bytes, of the whole batch.

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


def _forward(network: Network, *, train: bool) -> Any:
    """The computation for one image, as equations."""
    size = network.config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    forward = functools.partial(network.apply, train=train, dropout_key=jax.random.key(0))
    return jax.make_jaxpr(forward)(network.params, network.batch_stats, images).jaxpr


def _size_under(sizes: dict[str, int], name: str) -> int:
    return sum(size for path, size in sizes.items() if path.startswith(f"{name}/"))


def _equations(jaxpr: Any, scope: str) -> Iterator[tuple[str, Any]]:
    """All equations with their full scope; calls (relu, reductions) are entered, then given too.

    Of forms that depend on the platform, the last: the default.
    """
    for equation in jaxpr.eqns:
        inner = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
        for parameter in equation.params.values():
            called = parameter[-1] if isinstance(parameter, tuple) and parameter else parameter
            if isinstance(called, jax.extend.core.ClosedJaxpr):
                yield from _equations(called.jaxpr, inner)
        yield inner, equation


def _multiply_adds(equation: Any) -> int:
    """Of a convolution or a matrix product: outputs x the length of the sum behind each."""
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
