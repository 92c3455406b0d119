"""Any image classification data set that TFDS knows: --name cifar10. Needs a network."""

import argparse
import contextlib
import difflib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from inception_jax import cli
from inception_jax.data.preparing import records
from inception_jax.data.tfds_source import check_features
from inception_jax.errors import UsageError, UserError
from inception_jax.storage import locks

COMPLETE: Mapping[str, int] = {}  # TFDS checks its downloads itself


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --name, of the data set, and --manual_dir, for files that one downloads by hand."""
    parser.add_argument("--name", required=True, help="as TFDS calls it: name, or name/config")
    parser.add_argument("--manual_dir", type=cli.path, help="what the data set wants by hand")


def prepare(flags: argparse.Namespace) -> Path:
    """Downloads and writes the records. Many builders need TensorFlow: the extra `prepare`."""
    try:
        builder = tfds.builder(
            flags.name, data_dir=str(flags.data_dir), file_format=records.FILE_FORMAT
        )
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(flags.name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see tensorflow.org/datasets"
        raise UsageError(f"TFDS knows no data set {flags.name!r}; {hint}") from None
    except (ValueError, AssertionError) as error:  # of TFDS: an unknown config or version
        raise UsageError(f"{flags.name}: {error}") from None
    check_features(builder)
    folder = Path(builder.data_dir)
    with locks.hold(folder.parent, "preparing data"):
        records.remove_unfinished(folder)
        config = tfds.download.DownloadConfig(
            manual_dir=str(flags.manual_dir) if flags.manual_dir else None
        )
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns at each new try
        try:
            with contextlib.redirect_stdout(sys.stderr):  # TFDS talks of downloads
                builder.download_and_prepare(download_config=config)
        except ImportError:
            raise
        except Exception as error:  # each builder has errors of its own
            raise UserError(
                f"{flags.name} could not be prepared (is there a network? does --manual_dir have "
                f"what it wants?): {error}"
            ) from error
    return folder
