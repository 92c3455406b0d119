"""The switch between the plain form of an operation and its faster forms.

Each module of this folder has one operation: first its plain form, a few lines of JAX, then the
forms that platforms run faster, or a gradient written by hand. All forms compute the same but for
rounding; the tests compare them. The environment variable INCEPTION_JAX_KERNELS=plain runs the
plain forms alone, with JAX's own gradients, on every platform. It shows whether a strange result
comes from a kernel.
"""

import os
from collections.abc import Callable
from typing import Any

from jax import lax

from inception_jax.errors import UsageError

VARIABLE = "INCEPTION_JAX_KERNELS"


def choose(
    *arguments: Any,
    plain: Callable[..., Any],
    default: Callable[..., Any] | None = None,
    static: tuple[Any, ...] = (),
    **forms: Callable[..., Any],
) -> Any:
    """Runs the form of an operation for the platform that the program is compiled for.

    The environment is read when a program is traced: a compiled one keeps its forms.

    Args:
      *arguments: arrays, which each form takes first.
      plain: the plain form.
      default: the form for platforms that have none of their own; the plain one if left out.
      static: what each form takes after the arrays: values that are not traced.
      **forms: by JAX's name of the platform: cpu, cuda, rocm, tpu.

    Raises:
      UsageError: INCEPTION_JAX_KERNELS has another value than plain.
    """
    match os.environ.get(VARIABLE, ""):
        case "plain":
            return plain(*arguments, *static)
        case "":
            default = default or plain
        case value:
            raise UsageError(f"{VARIABLE} is {value!r}; it may be 'plain', or not set")
    if not forms:
        return default(*arguments, *static)

    def of_arrays(form: Callable[..., Any]) -> Callable[..., Any]:
        # JAX traces a function that it knows once: only where need be it gets a new one.
        return (lambda *arguments: form(*arguments, *static)) if static else form

    by_platform = {name: of_arrays(form) for name, form in forms.items()}
    return lax.platform_dependent(*arguments, default=of_arrays(default), **by_platform)
