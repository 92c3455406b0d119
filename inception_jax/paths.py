"""Paths from text that a user gave."""

import re
from pathlib import Path

from inception_jax.errors import UsageError

_WEB = ("http", "https", "ftp")
_STORES = ("gs", "gcs", "s3", "s3a", "s3n", "az", "adl", "abfs", "abfss", "wasb", "wasbs", "hdfs")

_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]+):(//?)", re.IGNORECASE)


def to_path(text: str, name: str = "") -> Path:
    """Makes a path of text that a user gave: ~ is the home folder.

    Args:
      text: as it was given.
      name: of the config field that has it, for the message.

    Raises:
      UsageError: it is empty, a URL, or in the home folder of a user who is not there.
    """
    check(text, name)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise _error(
            name, f"{text!r} names a user who has no home folder here; ./~ begins a name with ~"
        ) from None


def check(text: str, name: str = "") -> None:
    """Refuses an empty text and a URL, also gs:/x, which pathlib makes of gs://x.

    Raises:
      UsageError: see `to_path`.
    """
    if not text:
        raise _error(name, "an empty path")
    match = _SCHEME.match(text)
    if match is None:
        return
    scheme, slashes = match[1].lower(), match[2]
    if slashes == "/" and scheme not in (*_WEB, *_STORES, "file"):
        return
    if scheme == "file":
        remedy = f"give {'/' + text[match.end() :].lstrip('/')!r}"
    elif scheme in _WEB:
        remedy = "download it and give the file"
    else:
        remedy = "mount it (a bucket: with gcsfuse or mount-s3) and give the path of its folder"
    raise _error(
        name, f"{text!r} is a URL, and only paths on this machine are read and written: {remedy}"
    )


def _error(name: str, message: str) -> UsageError:
    return UsageError(f"{name}: {message}" if name else message)
