"""Caffe's bvlc_googlenet and its preprocessing, on ILSVRC2012: the config of its weights.

Command: python -m inception_jax.convert --from onnx --weights googlenet-12.onnx \\
             --output checkpoints/caffe
         python -m inception_jax.evaluate --checkpoint checkpoints/caffe
Cost: 1.58 G multiply-adds an image, forward.
Expected: 68.7 % top-1, 88.9 % top-5, published by BVLC/caffe; 67.78 % and 88.34 % by the ONNX model
  zoo for the same network in ONNX; not measured by us.

The network is the paper's. Caffe squeezes an image to 256x256, whatever its shape, and cuts the
centre; its resizing does not smooth where it shrinks, ours averages. Training it from scratch with
this file has Caffe's crops and no photometric distortions
(BVLC/caffe, models/bvlc_googlenet/readme.md).
"""

from ml_collections import ConfigDict

from configs import googlenet


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; takes the base's arguments."""
    config = googlenet.get_config(argument)
    config.name = "caffe"
    config.data.crop = "caffe"
    config.photometric.update(
        brightness=(1.0, 1.0), contrast=(1.0, 1.0), saturation=(1.0, 1.0), lighting=0.0
    )
    config.evaluation.resize = "squeeze"
    return config
