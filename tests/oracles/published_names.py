"""The 57 convolutions of GoogLeNet as the three published sets of weights name them.

Written down from BVLC/caffe models/bvlc_googlenet/train_val.prototxt, pytorch/vision
torchvision/models/googlenet.py and google-research/tf-slim tf_slim/nets/inception_v1.py, row by
row: nothing here is computed, so that what computes names can be tested with it.
"""

from typing import NamedTuple


class Convolution(NamedTuple):
    """Names, and Caffe's filters, channels and pixels; the other two have 3x3 kernels for 5x5."""

    caffe: str
    filters: int
    channels: int
    kernel: int
    torchvision: str
    tf_slim: str


TABLE = """
conv1/7x7_s2              64   3 7 conv1                 Conv2d_1a_7x7
conv2/3x3_reduce          64  64 1 conv2                 Conv2d_2b_1x1
conv2/3x3                192  64 3 conv3                 Conv2d_2c_3x3
inception_3a/1x1          64 192 1 inception3a.branch1   Mixed_3b/Branch_0/Conv2d_0a_1x1
inception_3a/3x3_reduce   96 192 1 inception3a.branch2.0 Mixed_3b/Branch_1/Conv2d_0a_1x1
inception_3a/3x3         128  96 3 inception3a.branch2.1 Mixed_3b/Branch_1/Conv2d_0b_3x3
inception_3a/5x5_reduce   16 192 1 inception3a.branch3.0 Mixed_3b/Branch_2/Conv2d_0a_1x1
inception_3a/5x5          32  16 5 inception3a.branch3.1 Mixed_3b/Branch_2/Conv2d_0b_3x3
inception_3a/pool_proj    32 192 1 inception3a.branch4.1 Mixed_3b/Branch_3/Conv2d_0b_1x1
inception_3b/1x1         128 256 1 inception3b.branch1   Mixed_3c/Branch_0/Conv2d_0a_1x1
inception_3b/3x3_reduce  128 256 1 inception3b.branch2.0 Mixed_3c/Branch_1/Conv2d_0a_1x1
inception_3b/3x3         192 128 3 inception3b.branch2.1 Mixed_3c/Branch_1/Conv2d_0b_3x3
inception_3b/5x5_reduce   32 256 1 inception3b.branch3.0 Mixed_3c/Branch_2/Conv2d_0a_1x1
inception_3b/5x5          96  32 5 inception3b.branch3.1 Mixed_3c/Branch_2/Conv2d_0b_3x3
inception_3b/pool_proj    64 256 1 inception3b.branch4.1 Mixed_3c/Branch_3/Conv2d_0b_1x1
inception_4a/1x1         192 480 1 inception4a.branch1   Mixed_4b/Branch_0/Conv2d_0a_1x1
inception_4a/3x3_reduce   96 480 1 inception4a.branch2.0 Mixed_4b/Branch_1/Conv2d_0a_1x1
inception_4a/3x3         208  96 3 inception4a.branch2.1 Mixed_4b/Branch_1/Conv2d_0b_3x3
inception_4a/5x5_reduce   16 480 1 inception4a.branch3.0 Mixed_4b/Branch_2/Conv2d_0a_1x1
inception_4a/5x5          48  16 5 inception4a.branch3.1 Mixed_4b/Branch_2/Conv2d_0b_3x3
inception_4a/pool_proj    64 480 1 inception4a.branch4.1 Mixed_4b/Branch_3/Conv2d_0b_1x1
inception_4b/1x1         160 512 1 inception4b.branch1   Mixed_4c/Branch_0/Conv2d_0a_1x1
inception_4b/3x3_reduce  112 512 1 inception4b.branch2.0 Mixed_4c/Branch_1/Conv2d_0a_1x1
inception_4b/3x3         224 112 3 inception4b.branch2.1 Mixed_4c/Branch_1/Conv2d_0b_3x3
inception_4b/5x5_reduce   24 512 1 inception4b.branch3.0 Mixed_4c/Branch_2/Conv2d_0a_1x1
inception_4b/5x5          64  24 5 inception4b.branch3.1 Mixed_4c/Branch_2/Conv2d_0b_3x3
inception_4b/pool_proj    64 512 1 inception4b.branch4.1 Mixed_4c/Branch_3/Conv2d_0b_1x1
inception_4c/1x1         128 512 1 inception4c.branch1   Mixed_4d/Branch_0/Conv2d_0a_1x1
inception_4c/3x3_reduce  128 512 1 inception4c.branch2.0 Mixed_4d/Branch_1/Conv2d_0a_1x1
inception_4c/3x3         256 128 3 inception4c.branch2.1 Mixed_4d/Branch_1/Conv2d_0b_3x3
inception_4c/5x5_reduce   24 512 1 inception4c.branch3.0 Mixed_4d/Branch_2/Conv2d_0a_1x1
inception_4c/5x5          64  24 5 inception4c.branch3.1 Mixed_4d/Branch_2/Conv2d_0b_3x3
inception_4c/pool_proj    64 512 1 inception4c.branch4.1 Mixed_4d/Branch_3/Conv2d_0b_1x1
inception_4d/1x1         112 512 1 inception4d.branch1   Mixed_4e/Branch_0/Conv2d_0a_1x1
inception_4d/3x3_reduce  144 512 1 inception4d.branch2.0 Mixed_4e/Branch_1/Conv2d_0a_1x1
inception_4d/3x3         288 144 3 inception4d.branch2.1 Mixed_4e/Branch_1/Conv2d_0b_3x3
inception_4d/5x5_reduce   32 512 1 inception4d.branch3.0 Mixed_4e/Branch_2/Conv2d_0a_1x1
inception_4d/5x5          64  32 5 inception4d.branch3.1 Mixed_4e/Branch_2/Conv2d_0b_3x3
inception_4d/pool_proj    64 512 1 inception4d.branch4.1 Mixed_4e/Branch_3/Conv2d_0b_1x1
inception_4e/1x1         256 528 1 inception4e.branch1   Mixed_4f/Branch_0/Conv2d_0a_1x1
inception_4e/3x3_reduce  160 528 1 inception4e.branch2.0 Mixed_4f/Branch_1/Conv2d_0a_1x1
inception_4e/3x3         320 160 3 inception4e.branch2.1 Mixed_4f/Branch_1/Conv2d_0b_3x3
inception_4e/5x5_reduce   32 528 1 inception4e.branch3.0 Mixed_4f/Branch_2/Conv2d_0a_1x1
inception_4e/5x5         128  32 5 inception4e.branch3.1 Mixed_4f/Branch_2/Conv2d_0b_3x3
inception_4e/pool_proj   128 528 1 inception4e.branch4.1 Mixed_4f/Branch_3/Conv2d_0b_1x1
inception_5a/1x1         256 832 1 inception5a.branch1   Mixed_5b/Branch_0/Conv2d_0a_1x1
inception_5a/3x3_reduce  160 832 1 inception5a.branch2.0 Mixed_5b/Branch_1/Conv2d_0a_1x1
inception_5a/3x3         320 160 3 inception5a.branch2.1 Mixed_5b/Branch_1/Conv2d_0b_3x3
inception_5a/5x5_reduce   32 832 1 inception5a.branch3.0 Mixed_5b/Branch_2/Conv2d_0a_1x1
inception_5a/5x5         128  32 5 inception5a.branch3.1 Mixed_5b/Branch_2/Conv2d_0a_3x3
inception_5a/pool_proj   128 832 1 inception5a.branch4.1 Mixed_5b/Branch_3/Conv2d_0b_1x1
inception_5b/1x1         384 832 1 inception5b.branch1   Mixed_5c/Branch_0/Conv2d_0a_1x1
inception_5b/3x3_reduce  192 832 1 inception5b.branch2.0 Mixed_5c/Branch_1/Conv2d_0a_1x1
inception_5b/3x3         384 192 3 inception5b.branch2.1 Mixed_5c/Branch_1/Conv2d_0b_3x3
inception_5b/5x5_reduce   48 832 1 inception5b.branch3.0 Mixed_5c/Branch_2/Conv2d_0a_1x1
inception_5b/5x5         128  48 5 inception5b.branch3.1 Mixed_5c/Branch_2/Conv2d_0b_3x3
inception_5b/pool_proj   128 832 1 inception5b.branch4.1 Mixed_5c/Branch_3/Conv2d_0b_1x1
"""

CONVOLUTIONS = tuple(
    Convolution(caffe, int(filters), int(channels), int(kernel), torchvision, tf_slim)
    for caffe, filters, channels, kernel, torchvision, tf_slim in map(
        str.split, TABLE.strip().splitlines()
    )
)
