"""Checks of a machine and of what is installed on it: versions, devices, limits."""

import importlib.metadata
import os
import platform
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
from packaging.requirements import Requirement

import inception_jax
from inception_jax.checkpoints.description import git_commit
from inception_jax.runtime import compiled_programs
from inception_jax.tools.doctor.check_result import CheckResult, Status
from inception_jax.tools.doctor.context import Context
from inception_jax.tools.doctor.run_checks import Check

# ILSVRC's training set alone has 1024 files, which stay open once they are read.
LEAST_OPEN_FILES = 2048

SHOWN_LIBRARIES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
JAX_PLUGINS = ("cuda12", "cuda13", "tpu")  # extras of jax
TPU_VARIABLES = {"TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "TPU_NAME"}


def versions(_: Context) -> CheckResult:
    """Compares installed versions with the ranges that this package and JAX ask for."""
    required = requirements()
    of_jax = importlib.metadata.requires("jax") or []
    problems = unmet(required) + unmet(of_jax)
    for extra in JAX_PLUGINS:  # they need not be installed, but have to fit if they are
        problems += [problem for problem in unmet(of_jax, extra) if installed(problem[0])]
    names = [Requirement(text).name for text in required if "extra ==" not in text]
    commit = git_commit()
    facts = {name: installed(name) for name in ("jaxlib", *names)}
    facts |= {"python": ".".join(platform.python_version_tuple()[:2]), "commit": commit}
    if problems:
        problems = list(dict.fromkeys(problems))
        missing = [name for name, _ in problems if not installed(name)]
        found = "; ".join(
            f"{name} is not installed"
            if name in missing
            else f"{name} is {installed(name)}, outside of {specifier}"
            for name, specifier in problems
        )
        wanted = " ".join(f"'{name}{specifier}'" for name, specifier in problems)
        status = Status.FAILED if missing else Status.WARNING
        return CheckResult(status, found, f"python -m pip install {wanted}", facts)
    libraries = ", ".join(f"{name} {installed(name)}" for name in SHOWN_LIBRARIES)
    own = f"inception_jax {inception_jax.__version__}"
    if commit:
        changed = ", with changes that are not committed" * commit.endswith("+")
        own += f", commit {commit[:10]}{changed}"
    found = f"Python {platform.python_version()}, {libraries}; {own}"
    return CheckResult(Status.OK, found, facts=facts)


def unmet(texts: Iterable[str], extra: str = "") -> list[tuple[str, str]]:
    """Finds requirements that the installed packages do not meet.

    Args:
      texts: requirements in pip's notation.
      extra: the extra whose requirements count, too.

    Returns:
      Names and wanted versions, as ("numpy", "<1").
    """
    found = []
    for requirement in map(Requirement, texts):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append((requirement.name, str(requirement.specifier)))
    return found


def installed(name: str) -> str | None:
    """The installed version of a package; None if there is no such package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements() -> list[str]:
    """The requirements in this package's metadata; in requirements.txt if it is not installed."""
    try:
        return importlib.metadata.requires("inception_jax") or []
    except importlib.metadata.PackageNotFoundError:
        file = Path(inception_jax.__file__).parent.parent / "requirements.txt"
        lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
        return list(filter(None, lines))


def devices(_: Context) -> CheckResult:
    """Checks that JAX starts its devices, and that it uses an accelerator that is there."""
    try:
        local = jax.local_devices()
    except Exception as error:  # each platform has its own, some without a message
        chosen = os.environ.get("JAX_PLATFORMS")
        asked = f" (JAX_PLATFORMS is {chosen})" if chosen else ""
        why = " ".join(str(error).split()) or "it does not say why"
        return CheckResult(
            Status.FAILED,
            f"JAX cannot start them{asked}: {why}",
            "see whether another process holds them; python -m pip install 'inception_jax[cuda]' "
            "or [tpu]; JAX_PLATFORMS=cpu does without",
        )
    platform_name = local[0].platform
    kinds = ", ".join(dict.fromkeys(device.device_kind for device in local))
    found = f"{len(local)} x {platform_name}" + f" ({kinds})" * (kinds != platform_name)
    memory = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in local]
    if all(memory):
        found += f", {min(memory) / 2**30:,.1f} GiB of memory each"
    facts = {"platform": platform_name, "devices": len(local)}
    if platform_name == "cpu" and (unused := unused_accelerator()):
        name, remedy = unused
        return CheckResult(Status.WARNING, f"{found}, although there is {name}", remedy, facts)
    return CheckResult(Status.OK, found, facts=facts)


def unused_accelerator(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> tuple[str, str] | None:
    """Looks for an accelerator that JAX does not use while it runs on the CPU.

    Returns:
      Its name and how to use it; None if there is no accelerator.
    """

    def exists(pattern: str) -> bool:
        return next(root.glob(pattern), None) is not None

    if exists("dev/nvidia[0-9]*") or exists("proc/driver/nvidia/gpus/*"):
        name, extra = "an NVIDIA GPU", "cuda"
    elif exists("dev/accel[0-9]*") or (
        exists("dev/vfio/[0-9]*") and environment.keys() & TPU_VARIABLES  # others use vfio, too
    ):
        name, extra = "a TPU", "tpu"
    else:
        return None
    if chosen := environment.get("JAX_PLATFORMS"):
        return name, f"JAX_PLATFORMS is {chosen}: unset it"
    return name, f"python -m pip install 'inception_jax[{extra}]'"


def open_files(_: Context) -> CheckResult:
    """Checks how many files this process may open."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return CheckResult(Status.OK, "no limit")
    if limit < LEAST_OPEN_FILES:
        found = f"at most {limit:,}; ILSVRC's training set alone has 1,024"
        return CheckResult(Status.WARNING, found, f"ulimit -n {2 * LEAST_OPEN_FILES}")
    return CheckResult(Status.OK, f"at most {limit:,}")


def compilation_cache(_: Context) -> CheckResult:
    """Checks that compiled programs can be kept."""
    if not jax.config.values["jax_enable_compilation_cache"]:
        hint = "to start faster: unset JAX_ENABLE_COMPILATION_CACHE"
        return CheckResult(Status.OK, "off, as JAX's settings ask for", hint)
    remedy = "set JAX_COMPILATION_CACHE_DIR to a folder of yours"
    try:
        folder = jax.config.values["jax_compilation_cache_dir"]
        folder = folder or str(compiled_programs.private_folder())
    except OSError as error:
        return CheckResult(Status.WARNING, f"{error.filename}: {error.strerror}", remedy)
    if "://" not in folder and Path(folder).exists() and not os.access(folder, os.W_OK | os.X_OK):
        return CheckResult(Status.WARNING, f"{folder} cannot be written", remedy)
    return CheckResult(Status.OK, folder)


SAME_VERSIONS = "install the same code and versions on all hosts"
SAME_DEVICES = "give all processes the same kind and number of devices"

CHECKS = (
    Check("versions", versions, mismatch_hint=SAME_VERSIONS),
    Check("devices", devices, mismatch_hint=SAME_DEVICES),
    Check("open files", open_files),
    Check("compilation cache", compilation_cache),
)
