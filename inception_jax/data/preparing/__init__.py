"""Prepares data sets: ArrayRecord files in TFDS's layout.

One module a data set. Each has a docstring for the help, `add_flags(parser)`, `prepare(flags) ->
folder` and COMPLETE, the number of images in each split as far as it is known. The folder goes to
`flags.data_dir`.
"""

import os

# Where TensorFlow is needed, it would tell what it was compiled for.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
