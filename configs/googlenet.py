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
This file is the schema: every other config starts from it and changes fields.
"""

from ml_collections import ConfigDict

from inception_jax.config.configuration import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the locked config; `argument` is the text after the colon."""
    arguments = parse_arguments(argument, batch_size=32, runlocal=False)
    config = ConfigDict()
    config.name = "googlenet"  # names the run in results and reports
    config.seed = 0  # of initial values, data order, crops and dropout

    config.model = ConfigDict(
        {
            "num_classes": 1000,  # ILSVRC
            # googlenet (Table 1) | shallow (3a, 4a and 5a of it alone) | bn_inception (figure 5 of
            # Ioffe & Szegedy 2015).
            "architecture": "googlenet",
            "norm": "lrn",  # lrn (figure 3) | batch (Ioffe & Szegedy 2015) | none
            # Keep the bias of convolutions before a batch normalisation, which cancels it: what
            # published weights of BN-Inception do.
            "batch_norm_bias": False,
            # reduced (figure 2b) | naive (figure 2a) | naive_3 (naive in 3a and 3b alone).
            "module": "reduced",
            "large_kernel": 5,  # pixels: 5 (Table 1) | 3 (TF-slim and torchvision)
            "head": "average_pool",  # average_pool (Table 1) | fully_connected (section 5's rival)
            # imagenet (Table 1) | small (for 32-pixel images) | inception, small_inception (the
            # same with an Inception module for the second convolution).
            "stem": "imagenet",
            # Of windows with stride 2: caffe (conv1 by 3 on all sides, pools cover the last column)
            # | same (TensorFlow's; TF-slim).
            "padding": "caffe",
            "last_pool": 3,  # pixels, window of the pool before 5a: 3 (Table 1) | 2 (torchvision)
            "auxiliary_pool": "5x5",  # 5x5 with stride 3 (section 5) | adaptive (torchvision: 4x4)
            "auxiliary": True,  # auxiliary heads in training (section 5)
            "auxiliary_after": ("inception_4a", "inception_4d"),  # modules with one (section 5)
            "width": 1.0,  # multiplies all numbers of filters; the paper's 7th model is wider
            "dropout": 0.4,  # share dropped before the classifier (Table 1)
            "auxiliary_dropout": 0.7,  # share dropped in the auxiliary heads (section 5)
            "initialization": "caffe",  # caffe (the paper is silent) | he
            "dtype": "float32",  # of the computation: float32 | bfloat16 (accelerators)
            # Checkpoint to start from ("" for none): WORKDIR/checkpoints/STEP. Its averaged weights
            # where it has some; classifiers of other classes start afresh.
            "init_from": "",
        }
    )
    config.data = ConfigDict(
        {
            "source": "tfds",  # tfds (ArrayRecord files) | fake (random images, no files)
            "name": "imagenet2012",  # TFDS builder, a folder in data_dir
            "data_dir": "data",  # folder with prepared data
            "train_split": "train",  # TFDS split, slices allowed: train[:1000]
            # Images a step over all devices and hosts; 32 (solver, "as the authors did"). Set here,
            # the learning rate stays; set as the config's argument, the rate follows.
            "batch_size": arguments.batch_size,
            "image_size": 224,  # pixels, square (section 5)
            # inception (section 6: random area and aspect ratio) | caffe (bvlc_googlenet: the image
            # squeezed to 256x256, a random 224x224 of it; crop_* and interpolations do not count).
            "crop": "inception",
            "crop_area": (0.08, 1.0),  # share of the image's area, uniform (section 6)
            "crop_aspect_ratio": (3 / 4, 4 / 3),  # width / height (section 6), uniform
            "flip": True,  # mirror half of the training images (solver: mirror)
            # One of these at random, equally likely (section 6).
            "interpolations": ("bilinear", "area", "nearest", "cubic"),
            # (image - mean) / std, image in 0..255 RGB; Caffe's mean, and no division.
            "mean": (123.0, 117.0, 104.0),
            "std": (1.0, 1.0, 1.0),
            # Decode training images as Pillow does; False is faster and 2/255 off on average.
            "exact_decoding": False,
            # Largest share of training images that may be unreadable; each is replaced by the next.
            "max_bad_fraction": 0.01,
            # Reading batches ahead on the host; 0 is one for each CPU, at most 8 (more threads than
            # CPUs get in one another's way). Any number gives the same run.
            "threads": 0,
            "fake_examples": 1000,  # size of each split of the fake source
        }
    )
    config.photometric = ConfigDict(  # section 6, "of Andrew Howard": arXiv 1312.5402
        {
            # Ranges of the factors, uniform, in random order; (1, 1) is off.
            "brightness": (0.5, 1.5),
            "contrast": (0.5, 1.5),
            "saturation": (0.5, 1.5),
            "lighting": 0.1,  # standard deviation along ILSVRC's colour components; 0 is off
        }
    )
    config.optimizer = ConfigDict(
        {
            "momentum": 0.9,  # section 6
            "nesterov": False,  # plain momentum, as the solver
            "weight_decay": 2e-4,  # L2 on kernels, not on biases and norms (solver)
            "decay_all": False,  # on biases and norms, too
            "gradient_clip": 0.0,  # largest global norm; 0 is off (the paper has none)
            # For fine-tuning: (("conv", 0.1), ("inception_3", 0.3)) slows the layers whose names
            # begin so; the first that fits counts, 0 freezes parameters, all others have 1.
            "learning_rate_factors": (),
        }
    )
    config.schedule = ConfigDict(
        {
            "name": "staircase",  # staircase (section 6) | cosine | polynomial
            "learning_rate": 0.01 * arguments.batch_size / 32,  # at the start (solver: 0.01 at 32)
            "warmup": "0 steps",  # linear from 0; the paper has none
            "decay_rate": 0.96,  # staircase: factor (section 6: "decreasing by 4 %")
            "decay_every": "8 epochs",  # staircase: interval (section 6)
            "power": 0.5,  # polynomial: exponent (quick_solver.prototxt)
            "final_learning_rate": 0.0,  # cosine and polynomial: at the end
        }
    )
    config.training = ConfigDict(
        {
            "total": "250 epochs",  # solver: max_iter 10 M x 32 images
            "auxiliary_weight": 0.3,  # of each auxiliary loss (section 5)
            # Share of the target that goes to all classes alike (Szegedy et al. 2015, arXiv
            # 1512.00567: 0.1); the paper has none.
            "label_smoothing": 0.0,
            # Mixup (Zhang et al. 2017, arXiv 1710.09412): alpha of Beta(alpha, alpha), from which
            # the share of each of two images is drawn; 0 is off, the paper has none.
            "mixup": 0.0,
            # Polyak averaging of parameters and batch statistics (section 6 says no more): the mean
            # of all steps since average_start while they are fewer than 1 / (1 - decay), and
            # exponential from then on. decay 1 is the plain mean, 0 turns averaging off.
            "average_decay": 0.9999,
            "average_start": "0 steps",
            "log_every": "100 steps",  # one line of metrics.jsonl
            # Minutes without a step, nor a batch of an evaluation, after which a run counts as
            # stuck and ends, to be started again. Compiling takes a few. 0: never.
            "watchdog": 30.0,
        }
    )
    config.evaluation = ConfigDict(
        {
            "split": "validation",  # TFDS split
            "every": "4 epochs",  # and always at the end
            "short_side": 256,  # pixels: resize to this, then cut the centre (section 7)
            # short_side (aspect kept, section 7) | squeeze (to a square; Caffe and TF-slim).
            "resize": "short_side",
            # area (averaging where it shrinks, bilinear where it enlarges) | bilinear (Pillow's,
            # smoothed where it shrinks: what torchvision's published figures were made with).
            "interpolation": "area",
            # An unreadable image: error (stop, naming it) | wrong (it counts as a wrong answer).
            "bad_images": "error",
        }
    )
    config.checkpoints = ConfigDict(
        {
            "every": "1 epochs",  # and always after an evaluation and at the end
            "keep_last": 3,  # newest ones
            "keep_best": 1,  # of highest top-1, among those that were evaluated
        }
    )
    config.lock()
    if arguments.runlocal:
        config.data.update(source="fake", fake_examples=16, batch_size=4)
        config.training.update(total="8 steps", log_every="2 steps")
        config.evaluation.every = "8 steps"
        config.checkpoints.every = "4 steps"
    return config
