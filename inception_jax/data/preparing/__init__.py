"""Prepares data sets: ArrayRecord files in TFDS's layout.

One module a data set. Each has a docstring for the help, `add_flags(parser)`, `prepare(flags) ->
folder` and COMPLETE, the number of images in each split as far as it is known. The folder goes to
`flags.data_dir`.
"""

import os
from types import ModuleType

from inception_jax.data.preparing import digits, fashion_mnist, folder, ilsvrc2012, tfds_builder

# Where TensorFlow is needed, it would tell what it was compiled for.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The module that `prepare NAME` runs.
PREPARERS: dict[str, ModuleType] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "folder": folder,
    "ilsvrc2012": ilsvrc2012,
    "tfds": tfds_builder,
}
