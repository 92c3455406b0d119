"""The machine and what is installed on it: versions, devices, limits."""

import importlib.metadata
import os
import platform
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from packaging.requirements import Requirement

import inception_jax
from inception_jax.checkpoints.description import git_commit
from inception_jax.runtime import compiled_programs
from inception_jax.tools.doctor.examination import Check
from inception_jax.tools.doctor.subject import Subject
from inception_jax.tools.doctor.verdict import Finding, Verdict

# ILSVRC's training set alone has 1024 files, which stay open once they are read.
LEAST_OPEN_FILES = 2048

_SHOWN = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
_ACCELERATOR_EXTRAS = ("cuda12", "cuda13", "tpu")  # of jax


class Unmet(NamedTuple):
    """A requirement, and what is installed instead, if anything is."""

    requirement: Requirement
    version: str | None

    def __str__(self) -> str:
        name = self.requirement.name
        if self.version is None:
            return f"{name} is not installed"
        return f"{name} is {self.version}, outside of {self.requirement.specifier}"


def unmet(requirements: Iterable[str], extra: str = "") -> list[Unmet]:
    """Those of `requirements`, in pip's notation, that what is installed does not meet."""
    found = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(Unmet(requirement, version))
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements() -> list[str]:
    """What this package needs, by its own metadata; by requirements.txt where only that is."""
    try:
        return importlib.metadata.requires("inception_jax") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        file = Path(inception_jax.__file__).parent.parent / "requirements.txt"
        lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
        return list(filter(None, lines))


def versions(_: Subject) -> Finding:
    """Of Python and the libraries, against the ranges that this package and JAX ask for."""
    required = requirements()
    of_jax = importlib.metadata.requires("jax") or []
    problems = unmet(required) + unmet(of_jax)
    for extra in _ACCELERATOR_EXTRAS:  # plugins need not be there, but have to fit if they are
        problems += [one for one in unmet(of_jax, extra) if one.version is not None]
    names = [Requirement(text).name for text in required if "extra ==" not in text]
    facts = {name: _version(name) for name in ("jaxlib", *names)}
    facts["python"] = ".".join(platform.python_version_tuple()[:2])
    facts["commit"] = git_commit()
    if problems:
        missing = any(one.version is None for one in problems)
        wanted = " ".join(
            dict.fromkeys(
                f"'{one.requirement.name}{one.requirement.specifier}'" for one in problems
            )
        )
        return Finding(
            Verdict.FAILED if missing else Verdict.WARNING,
            "; ".join(dict.fromkeys(map(str, problems))),
            f"python -m pip install {wanted}",
            facts,
        )
    libraries = ", ".join(f"{name} {_version(name)}" for name in _SHOWN)
    commit = f", commit {_shortened(facts['commit'])}" if facts["commit"] else ""
    own = f"inception_jax {inception_jax.__version__}{commit}"
    return Finding(
        Verdict.OK, f"Python {platform.python_version()}, {libraries}; {own}", facts=facts
    )


def _shortened(commit: str) -> str:
    return commit[:10] + ", with changes that are not committed" * commit.endswith("+")


def devices(_: Subject) -> Finding:
    """Those of this process, as JAX sees them."""
    try:
        local = jax.local_devices()
    except Exception as error:  # each platform has its own, some without a word
        chosen = os.environ.get("JAX_PLATFORMS")
        asked = f" (JAX_PLATFORMS is {chosen})" if chosen else ""
        why = " ".join(str(error).split()) or "it does not say why"
        return Finding(
            Verdict.FAILED,
            f"JAX cannot start them{asked}: {why}",
            "see whether another process holds them; python -m pip install 'inception_jax[cuda]' "
            "or [tpu]; JAX_PLATFORMS=cpu does without",
        )
    kinds = ", ".join(dict.fromkeys(device.device_kind for device in local))
    found = f"{len(local)} x {local[0].platform}" + f" ({kinds})" * (kinds != local[0].platform)
    memory = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in local]
    if all(memory):
        found += f", {min(memory) / 2**30:,.1f} GiB of memory each"
    facts = {"platform": local[0].platform, "devices": len(local)}
    unused = unused_accelerator() if local[0].platform == "cpu" else None
    if unused:
        what, remedy = unused
        return Finding(Verdict.WARNING, f"{found}, although there is {what}", remedy, facts)
    return Finding(Verdict.OK, found, facts=facts)


class _Accelerator(NamedTuple):
    what: str
    extra: str  # of this package
    files: tuple[str, ...]  # that show it, below the root
    variables: tuple[str, ...] = ()  # one of which has to be set, too, where the files are common


_ACCELERATORS = (
    _Accelerator("an NVIDIA GPU", "cuda", ("dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*")),
    _Accelerator("a TPU", "tpu", ("dev/accel[0-9]*",)),
    _Accelerator(
        "a TPU", "tpu", ("dev/vfio/[0-9]*",), ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "TPU_NAME")
    ),
)


def unused_accelerator(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> tuple[str, str] | None:
    """What the system has that JAX on the CPU does not use, and how to use it; None if nothing."""
    for one in _ACCELERATORS:
        there = any(next(root.glob(pattern), None) for pattern in one.files)
        if not there or (one.variables and not environment.keys() & set(one.variables)):
            continue
        if chosen := environment.get("JAX_PLATFORMS"):
            return one.what, f"JAX_PLATFORMS is {chosen}: unset it"
        return one.what, f"python -m pip install 'inception_jax[{one.extra}]'"
    return None


def open_files(_: Subject) -> Finding:
    """How many this process may have."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return Finding(Verdict.OK, "no limit")
    if limit < LEAST_OPEN_FILES:
        return Finding(
            Verdict.WARNING,
            f"at most {limit:,}; ILSVRC's training set alone has 1,024",
            f"ulimit -n {2 * LEAST_OPEN_FILES}",
        )
    return Finding(Verdict.OK, f"at most {limit:,}")


def compilation_cache(_: Subject) -> Finding:
    """Where compiled programs are kept, if they are."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not jax.config.values["jax_enable_compilation_cache"]:
        hint = "to start faster: unset JAX_ENABLE_COMPILATION_CACHE"
        return Finding(Verdict.OK, "none, as JAX's settings ask for", hint)
    if not folder:
        try:
            return Finding(Verdict.OK, str(compiled_programs.private_folder()))
        except OSError as error:
            return Finding(
                Verdict.WARNING,
                f"{error.filename}: {error.strerror}",
                "set JAX_COMPILATION_CACHE_DIR to a folder of yours",
            )
    if "://" not in folder and Path(folder).exists() and not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            Verdict.WARNING,
            f"{folder} cannot be written",
            "set JAX_COMPILATION_CACHE_DIR to another",
        )
    return Finding(Verdict.OK, folder)


CHECKS = (
    Check("versions", versions, alike="install the same code and versions on all hosts"),
    Check("devices", devices, alike="give all processes the same kind and number of devices"),
    Check("open files", open_files),
    Check("compilation cache", compilation_cache),
)
