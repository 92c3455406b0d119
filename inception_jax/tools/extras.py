"""Says which extra to install where a package that a tool needs is missing."""

import contextlib
from collections.abc import Iterator

from inception_jax.errors import UserError


@contextlib.contextmanager
def needed(extra: str, purpose: str) -> Iterator[None]:
    """Reports a package that cannot be imported in this block, as `purpose` and how to install it.

    Args:
      extra: of pyproject.toml, which brings the package.
      purpose: the beginning of the message; "needs the package ..." follows.

    Raises:
      UserError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "inception_jax":
            raise
        raise UserError(
            f"{purpose} needs the package {package}: pip install 'inception_jax[{extra}]'"
        ) from error
