"""Compiled programs that are kept between starts, in the cache folder of the user.

JAX keeps them where JAX_COMPILATION_CACHE_DIR says, and that setting wins. Its own store does not
suit a folder that nobody watches. It writes files in place, so that a process killed meanwhile
leaves half a program, which JAX never replaces (0.10.2 then keeps no other one either). It locks
the folder, which some network drives cannot do. And its errors are Python warnings, which end a run
where warnings are errors. So this module gives JAX a store with the same two methods, by
a private name, see `jax_internals.py`.
"""

import contextlib
import hashlib
import logging
import os
import platform
import re
import stat
import tempfile
import time
import warnings
from pathlib import Path

import jax
import platformdirs

from inception_jax.runtime import jax_internals

log = logging.getLogger(__name__)

MAX_BYTES = 2**30  # GoogLeNet's step takes 1 MB on a CPU

_OFF = "JAX_ENABLE_COMPILATION_CACHE=0"
_PROGRAM, _UNFINISHED = ".program", ".unfinished"
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_ABANDONED_SECONDS = 3600.0  # no process writes one file for that long


def keep() -> None:
    """Makes JAX keep compiled programs from now on, and logs where.

    Settings of JAX that name a folder or switch this off win. To be called when processes have met,
    and before anything large is compiled. A folder that cannot be used is a warning: then all is
    compiled at each start.
    """
    settings = jax.config.values
    if not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_dir"]:
        return
    limit = settings["jax_compilation_cache_max_size"]
    if limit == -1 and "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
        limit = MAX_BYTES
    try:
        folder = private_folder()
    except OSError as error:
        log.warning(
            f"compiled programs are not kept ({error.filename}: {error.strerror}): name a folder "
            f"of yours with JAX_COMPILATION_CACHE_DIR, or {_OFF}"
        )
        return
    jax_internals.keep_programs_in(Store(folder, limit))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # Small ones, too: reading one takes a tenth of the time of compiling it.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    # JAX compiles what it cannot read. The store says so itself.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    size = "without limit" if limit == -1 else f"at most {limit / 2**20:,.0f} MiB"
    log.info(f"compiled programs are kept in {folder}, {size} ({_OFF} keeps none)")


def private_folder() -> Path:
    """Makes the folder where it is missing; no other user may write there, since programs are code.

    Raises:
      OSError: the folder cannot be made or used; `filename` and `strerror` say why.
    """
    folder = platformdirs.user_cache_path("inception_jax") / "compiled"
    if not folder.is_absolute():
        raise OSError(0, "not an absolute path; is HOME set?", str(folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise OSError(0, "it belongs to somebody else", str(folder))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(0, "others can write there; chmod 700 makes it private", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(0, "it cannot be written", str(folder))
    return folder


class Store:
    """A folder of compiled programs, for any number of processes at a time, without locks.

    A file gets its name when it is complete, and has a checksum. The programs that were not used
    for longest are deleted when all together are too large.
    """

    def __init__(self, folder: Path, limit: int):
        """Opens the store in a folder that exists; `limit` is in bytes, and -1 keeps everything."""
        self._path = folder  # JAX names it in its log
        self._limit = limit
        self._given: set[str] = set()  # keys whose program JAX has got from here
        self._told = False

    def get(self, key: str) -> bytes | None:
        """The program of a key; None where there is none or it is damaged."""
        file = self._file(key)
        self._given.discard(key)
        try:
            kept = file.read_bytes()
        except OSError:
            return None
        checksum, program = kept[:_CHECKSUM_BYTES], kept[_CHECKSUM_BYTES:]
        if hashlib.sha256(program).digest() != checksum:
            self._tell(f"{file} is damaged: it is compiled again")
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        self._given.add(key)
        return program

    def put(self, key: str, value: bytes) -> None:
        """Keeps a program, in the place of one of the same key that could not be read."""
        if key in self._given:
            self._tell(f"JAX could not load {self._file(key)}: it was compiled again")
        if 0 <= self._limit < len(value):
            return
        try:
            self._write(self._file(key), hashlib.sha256(value).digest() + value)
            self._make_room()
        except OSError as error:
            self._tell(f"not all compiled programs are kept: {self._path}: {error.strerror}")

    def _file(self, key: str) -> Path:
        return self._path / f"{key}-{_PROCESSOR}{_PROGRAM}"

    def _write(self, file: Path, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(
            dir=self._path, suffix=_UNFINISHED, delete=False
        ) as unfinished:
            try:
                unfinished.write(content)
                unfinished.flush()
                os.replace(unfinished.name, file)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished.name)
                raise

    def _make_room(self) -> None:
        """Deletes programs not used for longest, and unfinished files of killed processes."""
        found = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process has removed it
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(_PROGRAM):
                        found.append((status.st_mtime, status.st_size, entry.path))
                    elif (
                        entry.name.endswith(_UNFINISHED)
                        and status.st_mtime < time.time() - _ABANDONED_SECONDS
                    ):
                        os.unlink(entry.path)
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if self._limit == -1 or total <= self._limit:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size

    def _tell(self, message: str) -> None:
        """Logs a warning, once in a process: one program's error is often that of all."""
        if not self._told:
            log.warning(message)
        self._told = True


def _processor() -> str:
    """A name for the kind of this processor: a program for another kind may not run here.

    Machines of several kinds may share a home folder, and JAX's keys do not tell them apart.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        kinds = re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)
    except OSError:  # not Linux
        kinds = [platform.processor()]
    return hashlib.sha256("\n".join(sorted(set(kinds))).encode()).hexdigest()[:8]


_PROCESSOR = _processor()
