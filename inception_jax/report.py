"""Compare runs, finished or not, on one page: tables, curves, differences, pictures of networks.

It computes on the CPU, so that runs in progress keep their devices; JAX_PLATFORMS names others.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported

import argparse
import datetime
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import inception_jax
from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.storage import json_files, workdir
from inception_jax.tools import extras

if TYPE_CHECKING:
    from inception_jax.checkpoints.loaded_model import LoadedModel
    from inception_jax.checkpoints.store import Checkpoint
    from inception_jax.tools.report.page import Gallery
    from inception_jax.tools.report.runs import Run

MODULE = "inception_4a"  # its activations are drawn by default

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Writes the page, or tables as Markdown or CSV."""
    if not flags.runs and not flags.checkpoint:
        raise UsageError("name folders of runs, or a --checkpoint (see --help)")
    if flags.output is None and flags.format == "html":
        raise UsageError("an HTML page needs --output FILE.html (see --help)")
    if flags.format != "html" and _asked_for_pictures(flags):
        raise UsageError("--checkpoint, --module, --images and --features are for an HTML page")
    with extras.needed("report", "report"):
        from inception_jax.tools.report import comparison, page, runs, selection, tables

    found = runs.read(selection.find(flags.runs), flags.base)
    match flags.format:
        case "html":
            text = page.render(found, list(_galleries(found, flags)), _written())
        case "markdown":
            of_runs = tables.of_runs(found)
            of_groups = tables.of_groups(comparison.compare(of_runs.values))
            text = f"{of_groups.markdown()}\n{of_runs.markdown()}"
        case "csv":
            text = tables.of_runs(found).csv()
    text = text.encode(errors="backslashreplace").decode()  # names of files need not be UTF-8
    if flags.output is None:
        sys.stdout.write(text)
    else:
        json_files.replace(flags.output, text)
        log.info(f"wrote {flags.output}")


def _asked_for_pictures(flags: argparse.Namespace) -> bool:
    return bool(flags.checkpoint or flags.module or flags.images or flags.features)


def _galleries(found: "Sequence[Run]", flags: argparse.Namespace) -> "Iterator[Gallery]":
    """Yields pictures of one network; if they fail and were optional, the page says why."""
    from inception_jax.data import image_files
    from inception_jax.tools.features import galleries
    from inception_jax.tools.report.page import Gallery

    try:
        model = _network(found, flags.checkpoint)
        yield galleries.filters(model)
        images = galleries.shown_images(model, list(image_files.find(flags.images or [])))
        module = flags.module or MODULE
        yield galleries.activations(model, module, images[0])
        if flags.features:
            yield galleries.occlusions(model, images)
            yield galleries.favorites(model, module, images[0])
    except Exception as error:  # checkpoint, data and device can all be bad
        if _asked_for_pictures(flags):
            raise
        reason = cli.in_one_line(error)
        log.warning(f"pictures of a network are missing: {reason}")
        yield Gallery("More pictures", f"They cannot be drawn: {reason}", ())


def _network(found: "Sequence[Run]", checkpoint: Path | None) -> "LoadedModel":
    """Loads the checkpoint, or the newest good one of the first classifier that has one."""
    from inception_jax.checkpoints import ensemble, loaded_model
    from inception_jax.runtime import compiled_programs, devices

    compiled_programs.keep()

    def load(one: "Path | Checkpoint") -> "LoadedModel":
        model = loaded_model.load(one, devices.make_mesh())
        ensemble.check_task(model, "classification")
        return model

    if checkpoint:
        return load(checkpoint)
    for run in found:
        if (run.folder.folder / workdir.CHECKPOINTS).is_dir():
            try:
                return load(loaded_model.newest_in(run.folder.folder))
            except UserError as error:
                log.warning(f"the network of {run.name} cannot be shown: {error}")
    raise UserError(
        "none of the runs has a good checkpoint of a classifier: name one with --checkpoint"
    )


def _written() -> str:
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    return f"Written {now} by inception_jax {inception_jax.__version__}."


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "runs", nargs="*", type=cli.path, metavar="RUN_DIR", help="folders of runs, or of sweeps"
    )
    parser.add_argument(
        "--output", type=cli.file_to_write, metavar="FILE", help="replaced if it is there"
    )
    parser.add_argument(
        "--format", choices=("html", "markdown", "csv"), default="html", help="default: html"
    )
    parser.add_argument(
        "--base", type=cli.path, metavar="RUN_DIR", help="what to compare with; default: the first"
    )
    parser.add_argument(
        "--checkpoint",
        type=cli.path,
        metavar="DIR",
        help="whose pictures to draw; default: the newest of the first run",
    )
    parser.add_argument("--module", help=f"whose activations to draw; default: {MODULE}")
    parser.add_argument(
        "--images",
        type=cli.path,
        nargs="+",
        metavar="PATH",
        help="files, folders; default: some test images",
    )
    parser.add_argument(
        "--features",
        action="store_true",
        help="also what answers depend on, and images that excite units most",
    )
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
