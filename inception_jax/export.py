"""Write a trained network for other programs: ONNX, StableHLO, safetensors or torchvision.

onnx         one file: uint8 images [batch, 3, size, size] to logits and probabilities
stablehlo    one file: uint8 images [batch, size, size, 3] to logits, run by jax.export
safetensors  a folder as the Hugging Face Hub has it: weights, configs and a model card
torchvision  one file: a state_dict of torchvision's GoogLeNet
"""

import argparse
import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from inception_jax import cli
from inception_jax.checkpoints.ensemble import WEIGHTS, check_task
from inception_jax.errors import UsageError
from inception_jax.storage import disk
from inception_jax.tools import extras
from inception_jax.tools.interop.formats import EXPORTED


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Writes --output and logs the files."""
    with written_whole(flags.output) as unfinished:
        chosen = load_format(flags.to)
        from inception_jax.checkpoints import loaded_model
        from inception_jax.runtime import compiled_programs, devices

        compiled_programs.keep()
        checkpoint = flags.checkpoint or loaded_model.newest_in(flags.workdir)
        model = loaded_model.load(checkpoint, devices.make_mesh(), weights=flags.weights)
        check_task(model, "classification")
        chosen.write(model, unfinished)
    cli.log.info(
        f"{model.weights} weights of {model.checkpoint}, step {model.step}, as {flags.to}:"
    )
    files = sorted(flags.output.iterdir()) if flags.output.is_dir() else [flags.output]
    for file in files:
        cli.log.info(f"wrote {file} ({file.stat().st_size:,} bytes)")


def load_format(name: str) -> ModuleType:
    """The module that writes a format.

    Raises:
      UserError: a package that it needs is not installed.
    """
    with extras.needed("interop", f"--to {name}"):
        return importlib.import_module(EXPORTED[name])


@contextlib.contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """Yields a path to write to, which becomes `output` when the block ends without an error.

    Raises:
      UsageError: `output` exists, or its folder does not.
    """
    if output.exists() or output.is_symlink():
        raise UsageError(f"{output} exists: move it away, or choose another --output")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {str(output.parent)!r} for --output")
    with (
        disk.writing(output.parent),
        tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder,
    ):
        unfinished = Path(folder) / output.name
        yield unfinished
        unfinished.rename(output)


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", type=cli.path, help="a checkpoint: WORKDIR/checkpoints/STEP")
    which.add_argument("--workdir", type=cli.path, help="a run: its newest good checkpoint")
    parser.add_argument("--to", choices=EXPORTED, required=True, help="the format, see above")
    parser.add_argument("--output", type=cli.path, required=True, help="a new file or folder")
    parser.add_argument("--weights", choices=WEIGHTS, help="default: average if kept")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
