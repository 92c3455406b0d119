"""The paper's augmentation, or Caffe's?

Paper: crops of 8 to 100 % of the image with aspect ratios of 3/4 to 4/3 were "verified to work
  very well after the competition"; photometric distortions were "useful to combat overfitting to
  some extent" (section 6). Caffe's bvlc_googlenet squeezes the image to 256x256, cuts 224x224 of
  it, and distorts no colours: 68.7 % top-1.
Budget: 1.00 of the base's multiply-adds.
Command: python -m inception_jax.train --config configs/ablations/caffe_crops.py \\
             --workdir runs/caffe_crops
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_caffe_crops"
    config.data.crop = "caffe"
    config.photometric.update(
        brightness=(1.0, 1.0), contrast=(1.0, 1.0), saturation=(1.0, 1.0), lighting=0.0
    )
    return config
