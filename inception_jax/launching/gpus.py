"""The NVIDIA GPUs of this machine, counted and shared out without loading JAX."""

import os
import shutil
import subprocess


def count_gpus() -> int:
    """The number of GPUs that JAX would use; 0 where JAX runs on other devices."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = visible.split(",")
        # CUDA stops reading its list at the first invalid entry: "", "-1".
        return next((k for k, name in enumerate(names) if not name or name[0] == "-"), len(names))
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def for_process(process: int, processes: int, gpus: int) -> dict[str, str]:
    """Environment variables with the GPUs of one of `processes` of the same job.

    Not CUDA_VISIBLE_DEVICES: it hides the other GPUs from NCCL, which looks for the fastest way to
    them. These numbers are positions in CUDA_VISIBLE_DEVICES, where that is set.
    """
    share = gpus // processes
    numbers = range(process * share, (process + 1) * share)
    return {"JAX_LOCAL_DEVICE_IDS": ",".join(map(str, numbers))} if numbers else {}


def for_job(slot: int, jobs: int, gpus: int) -> dict[str, str]:
    """Environment variables with the GPUs of one of `jobs` that know nothing of one another."""
    if not gpus:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",")[:gpus] if visible else [str(gpu) for gpu in range(gpus)]
    share = gpus // jobs
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[slot * share : (slot + 1) * share])}
