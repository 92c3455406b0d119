"""Tables and notes of a plan, for a person."""

from rich.table import Table

from inception_jax.tools.plan.estimate import Estimate
from inception_jax.tools.plan.largest_batch import COMPILATIONS

DIRECTIONS = ("forward", "backward")
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}


def memory_table(found: Estimate) -> Table:
    """Memory, work and transfers of a step on one device."""
    table = Table(
        title=f"{found['config_name']}, {found['dtype']}, {found['batch_size']:,} images a step on "
        f"{found['topology']}",
        show_header=False,
    )
    table.add_column("what", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    table.add_row("chips, devices, hosts", "{chips:,}, {devices:,}, {hosts:,}".format(**found))
    table.add_row("images a device", f"{found['batch_size_per_device']:,}")
    table.add_row(f"memory of a device ({found['device_kind']})", size(found["device_bytes"]))
    table.add_row("memory needed at the peak", size(found["peak_bytes"]))
    table.add_row("fits", "yes" if found["fits"] else "NO")
    table.add_row("largest batch", largest(found))
    if found["fits"]:
        table.add_row("FLOPs", f"{found['flops']:,.0f}")
        table.add_row("  relative to describe's", f"{found['flops_ratio']:.3f}")
        table.add_row("bytes accessed", f"{found['bytes_accessed']:,.0f}")
        for one in found["collectives"]:
            table.add_row(
                f"{one['kind']}, {one['dtype']}", f"{one['arrays']:,} arrays, {size(one['bytes'])}"
            )
    return table


def cycles_table(found: Estimate) -> Table:
    """Estimated cycles of each layer on one device."""
    table = Table(title="estimated cycles of one device, a step (experimental)")
    table.add_column("layer", overflow="fold")
    for heading in ("forward", "backward", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = found["estimated_cycles"]
    for row in found["cycles_by_layer"]:
        forward, backward = (row[way] for way in DIRECTIONS)
        share = (forward + backward) / max(total, 1)
        name = row["name"] + (" +" if row["unestimated"] else "")
        table.add_row(name, f"{forward:,}", f"{backward:,}", f"{share:.1%}")
    table.add_section()
    forward, backward = (sum(row[way] for row in found["cycles_by_layer"]) for way in DIRECTIONS)
    table.add_row("all", f"{forward:,}", f"{backward:,}", f"{total:,}")
    return table


def largest(found: Estimate) -> str:
    """The largest batch, and how it is known."""
    batch_size, refused = found["largest_batch_size"], found["smallest_batch_size_refused"]
    if batch_size is None:
        return "unknown: these images need no more memory than the state alone"
    if found["largest_batch_size_known"] == "extrapolated":
        return f"about {batch_size:,}, extrapolated"
    more = f"{refused:,} does not fit" if refused else f"stopped after {COMPILATIONS} more"
    return f"{batch_size:,}, compiled; {more}"


def summary(found: Estimate) -> list[str]:
    """Notes on the kind and the limits of these numbers."""
    libraries = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [f"All of this is the TPU compiler's estimate for one device; nothing ran. {libraries}"]
    if found["fits"]:
        missing = ", ".join(f"{count} {name}" for name, count in found["without_estimate"].items())
        lines += [
            "Cycles are experimental: read from the compiler's text, never compared with a TPU.",
            f"  + marks layers with work that has no estimate ({missing or 'none here'});",
            "  transfers between chips have none either: a real step takes longer. A fusion counts",
            "  for the layer that its result is named after.",
            "FLOPs of describe: 2 x multiply-adds, forward and back to parameters and inputs, with",
            "  auxiliary heads, not back to images; the compiler leaves out those with padding.",
        ]
    return lines


def size(count: int) -> str:
    """Formats bytes in the largest unit that is not larger than they are."""
    for unit, least in UNITS.items():
        if count >= least:
            return f"{count / least:,.2f} {unit}"
    return f"{count} B"
