"""On what machine something was measured."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax


def environment_of(libraries: Sequence[str]) -> dict[str, Any]:
    """System, processor, devices, and versions of Python and of `libraries`; plain JSON."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }


def summary(described: dict[str, Any]) -> list[str]:
    """`described` for a person, in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    return [
        f"{described['cpus']} CPUs ({described['processor']}), devices: "
        f"{', '.join(described['devices'])}; Python {described['python']}, {libraries}"
    ]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()
