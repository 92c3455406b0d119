"""Peak rates of devices, to tell how much of them a run uses."""

from jax.sharding import Mesh

# Products of bfloat16 matrices, dense, as the vendors publish them: Google Cloud's pages on each
# TPU, NVIDIA's data sheets. FLOP/s of what JAX calls a device, by its `device_kind`: half a chip of
# TPU v2, v3 and 7x. Where only longer names are in use, their beginning.
PEAK_FLOPS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU7x": 1153.5e12,
    "Tesla V100": 125e12,  # of float16, which it has instead
    "Tesla T4": 65e12,  # the same
    "NVIDIA A10G": 70e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


def peak_flops(mesh: Mesh) -> float | None:
    """FLOP/s of all devices together; None where a device is not in the table."""
    peaks = [_peak(device.device_kind) for device in mesh.devices.flat]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def _peak(kind: str) -> float | None:
    names = [name for name in PEAK_FLOPS if f"{kind} ".startswith((f"{name} ", f"{name}-"))]
    return PEAK_FLOPS[max(names, key=len)] if names else None
