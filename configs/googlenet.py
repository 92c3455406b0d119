"""GoogLeNet as "Going Deeper with Convolutions" prints it (arXiv 1409.4842), on ILSVRC2012.

Command: python -m inception_jax.train --config configs/googlenet.py --workdir runs/googlenet
Cost: 250 epochs of 1,281,167 images at 1.58 G multiply-adds, forward.
Expected: 10.07 % top-5 error with one crop (the paper's Table 3); Caffe's reference reaches 68.7 %
  top-1 and 88.9 % top-5 with its simpler crops. Not yet run here on ImageNet.

Arguments: `configs/googlenet.py:batch_size=256` scales the learning rate with the batch (linear
scaling is not in the paper); `:runlocal` tries the whole path on a laptop in a minute, without
files: random images, 8 steps of 4.

What the paper leaves open is taken from Caffe's bvlc_googlenet (BVLC/caffe,
models/bvlc_googlenet/{solver,train_val}.prototxt), whose schedule decays as the paper says.
Its values are the defaults of all fields: docs/reference/config.md lists them with units, choices,
sources and reasons. Every other config starts from this one and changes fields.
"""

from ml_collections import ConfigDict

from inception_jax.config.checking import default_config
from inception_jax.config.load import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the locked config; `argument` is the text after the colon."""
    arguments = parse_arguments(argument, batch_size=32, runlocal=False)
    config = default_config()
    config.data.batch_size = arguments.batch_size
    config.schedule.learning_rate = 0.01 * arguments.batch_size / 32
    if arguments.runlocal:
        config.data.update(source="fake", fake_examples=16, batch_size=4)
        config.training.update(total="8 steps", log_every="2 steps")
        config.evaluation.every = "8 steps"
        config.checkpoints.every = "4 steps"
    return config
