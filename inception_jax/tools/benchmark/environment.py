"""The machine and the versions with which something was measured."""

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


def summary(machine: dict[str, Any]) -> list[str]:
    """The machine in one line, for a person."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"{machine['cpus']} CPUs ({machine['processor']}), devices: "
        f"{', '.join(machine['devices'])}; Python {machine['python']}, {libraries}"
    ]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()
