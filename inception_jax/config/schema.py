"""The schema of configs: every field, declared once; the defaults are the paper's.

The paper is "Going Deeper with Convolutions" (arXiv 1409.4842); "solver", "train_val" and
"quick_solver" are files of Caffe's bvlc_googlenet (BVLC/caffe, models/bvlc_googlenet), where what
the paper leaves open is taken from. `docs/reference/config.md` is this as a table.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from inception_jax.config.declaration import option
from inception_jax.config.rules import Between, Colour, Duration, Interval, LayerFactors, SomeOf

POSITIVE = Between(0, math.inf, least_excluded=True)
SHARE = Between(0, 1, most_excluded=True)  # of activations dropped
NO_EFFECT = (1.0, 1.0)  # of a photometric distortion


@dataclasses.dataclass(frozen=True)
class Run:
    """Top-level fields."""

    name: str = option("googlenet", "name of the run in results and reports")
    task: str = option(
        "classification",
        "what the network learns; the module of a task may bring sections of its own",
        legacy="classification",
    )
    seed: int = option(
        0,
        "random seed of initial values, data order, crops and dropout",
        range=(0, 2**32 - 1),  # all that a key for dropout takes
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """The network: its parameters and what they compute."""

    num_classes: int = option(
        1000,
        "number of classes; 0: as many as the data has",
        range=(0, math.inf),
        left_open=0,
        source="ILSVRC",
    )
    architecture: str = option(
        "googlenet",
        "modules; googlenet: nine; shallow: 3a, 4a and 5a of them alone; bn_inception: figure 5 "
        "of Ioffe & Szegedy 2015 (arXiv 1502.03167)",
        choices=("googlenet", "shallow", "bn_inception"),
        source="Table 1",
        legacy="googlenet",
    )
    norm: str = option(
        "lrn",
        "normalisation: local response, batch (Ioffe & Szegedy 2015), or none",
        choices=("lrn", "batch", "none"),
        source="figure 3",
    )
    batch_norm_bias: bool = option(
        False,
        "keeps the bias of convolutions before a batch normalisation, which cancels it: what "
        "published weights of BN-Inception do",
        legacy=False,
    )
    module: str = option(
        "reduced",
        "form of a module; reduced: 1x1 before 3x3 and 5x5; naive: without them (figure 2a); "
        "naive_3: naive in 3a and 3b alone",
        choices=("reduced", "naive", "naive_3"),
        source="figure 2b",
    )
    large_kernel: int = option(
        5,
        "largest kernel of a module; 3 in TF-slim and torchvision",
        unit="pixels",
        choices=(5, 3),
        source="Table 1",
    )
    head: str = option(
        "average_pool",
        "layer before the classifier; fully_connected is section 5's rival",
        choices=("average_pool", "fully_connected"),
        source="Table 1",
    )
    stem: str = option(
        "imagenet",
        "first layers: small for 32-pixel images, medium for 28; inception, small_inception and "
        "medium_inception have a module for the second convolution; auto: small below 96 pixels, "
        "else imagenet",
        choices=(
            *("imagenet", "small", "medium"),
            *("inception", "small_inception", "medium_inception", "auto"),
        ),
        left_open="auto",
        source="Table 1",
    )
    padding: str = option(
        "caffe",
        "padding of windows with stride 2; caffe: conv1 by 3 on all sides, pools cover the last "
        "column; same: TensorFlow's, as TF-slim",
        choices=("caffe", "same"),
        source="train_val",
        legacy="caffe",
    )
    last_pool: int = option(
        3,
        "window of the pool before 5a; 2 in TF-slim and torchvision",
        unit="pixels",
        choices=(3, 2),
        source="Table 1",
        legacy=3,
    )
    auxiliary_pool: str = option(
        "5x5",
        "pool of the auxiliary heads, with stride 3; adaptive: 4x4 parts, as torchvision",
        choices=("5x5", "adaptive"),
        source="section 5",
        legacy="5x5",
    )
    auxiliary: bool = option(True, "auxiliary heads in training", source="section 5")
    auxiliary_after: tuple[str, ...] = option(
        ("inception_4a", "inception_4d"),
        "modules with an auxiliary head; those that the architecture lacks do not count",
        check=SomeOf(("inception_4a", "inception_4d"), empty=True),
        source="section 5",
        legacy=("inception_4a", "inception_4d"),
    )
    width: float = option(
        1.0,
        "factor of all numbers of filters and hidden units; the paper's seventh model is wider",
        range=(0.001, 1000),
    )
    dropout: float = option(
        0.4, "share of activations dropped before the classifier", check=SHARE, source="Table 1"
    )
    auxiliary_dropout: float = option(
        0.7, "share of activations dropped in the auxiliary heads", check=SHARE, source="section 5"
    )
    initialization: str = option(
        "caffe",
        "initial values; caffe: LeCun's uniform, biases 0.2; he: He et al. 2015; the paper is "
        "silent",
        choices=("caffe", "he"),
        source="train_val",
    )
    dtype: str = option(
        "float32",
        "number format of the computation; parameters are float32; bfloat16 is for accelerators",
        choices=("float32", "bfloat16"),
    )


@dataclasses.dataclass(frozen=True)
class Model(Network):
    """The network, and where its weights come from."""

    init_from: str = option(
        "",
        "checkpoint to start from, WORKDIR/checkpoints/STEP: its averaged weights where it has "
        "some; classifiers of other classes start afresh",
        legacy="",
        path=True,
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """Images, and how they are shown in training."""

    source: str = option(
        "tfds",
        "origin of the images; tfds: prepared ArrayRecord files; fake: random images, without "
        "files",
        choices=("tfds", "fake"),
    )
    name: str = option("imagenet2012", "name of the data set: a TFDS builder, a folder in data_dir")
    data_dir: str = option("data", "folder with prepared data", resume_safe=True, path=True)
    train_split: str = option("train", "TFDS split to train on, slices allowed: train[:1000]")
    batch_size: int = option(
        32,
        "images a step over all devices and processes; set here, the learning rate stays; set as "
        "the config's argument, the rate follows",
        unit="images",
        range=(1, math.inf),
        source='solver ("as the authors did")',
    )
    image_size: int = option(
        224,
        "side of the square that the network sees; 0: near the images' shorter side, 32 to 224",
        unit="pixels",
        range=(0, math.inf),
        left_open=0,
        source="section 5",
    )
    crop: str = option(
        "inception",
        "training crop; inception: random area and aspect ratio; caffe: the image squeezed to "
        "256x256, a random 224x224 of it, and crop_* and interpolations do not count",
        choices=("inception", "caffe"),
        source="section 6",
        legacy="inception",
    )
    crop_area: tuple[float, ...] = option(
        (0.08, 1.0),
        "range of the crop's share of the image's area, uniform",
        check=Interval(Between(0, 1, least_excluded=True)),
        source="section 6",
    )
    crop_aspect_ratio: tuple[float, ...] = option(
        (3 / 4, 4 / 3),
        "range of the crop's width / height, uniform",
        check=Interval(POSITIVE),
        source="section 6",
    )
    flip: bool = option(True, "mirror half of the training images", source="solver")
    interpolations: tuple[str, ...] = option(
        ("bilinear", "area", "nearest", "cubic"),
        "ways to resize a crop: one of these at random, equally likely",
        check=SomeOf(("bilinear", "area", "nearest", "cubic")),
        source="section 6",
    )
    mean: tuple[float, ...] = option(
        (123.0, 117.0, 104.0),
        "mean colour: the network is given (image - mean) / std, RGB in 0..255",
        check=Colour(),
        source="train_val",
    )
    std: tuple[float, ...] = option(
        (1.0, 1.0, 1.0),
        "divisor of the colours, see mean; Caffe does not divide",
        check=Colour(POSITIVE),
        source="train_val",
    )
    exact_decoding: bool = option(
        False,
        "decode training images as Pillow does; False is faster and 2/255 off on average",
        legacy=True,
    )
    max_bad_fraction: float = option(
        0.01,
        "largest share of training images that may be unreadable; each is replaced by the next",
        range=(0, 1),
        legacy=0.0,
        resume_safe=True,
    )
    threads: int = option(
        0,
        "threads that read batches ahead; 0: one for each CPU, at most 8, since more get in one "
        "another's way; any number gives the same run",
        range=(0, 1024),
        left_open=0,
        resume_safe=True,
    )
    fake_examples: int = option(
        1000, "size of each split of the fake source", unit="images", range=(1, math.inf)
    )


@dataclasses.dataclass(frozen=True)
class Photometric:
    """Distortions of colours in training: factors in random order, uniform in a range."""

    brightness: tuple[float, ...] = option(
        (0.5, 1.5),
        "range of the factor; (1, 1) is off",
        check=Interval(Between(0)),
        source='section 6, "of Andrew Howard": arXiv 1312.5402',
        legacy=NO_EFFECT,
    )
    contrast: tuple[float, ...] = option(
        (0.5, 1.5),
        "range of the factor; (1, 1) is off",
        check=Interval(Between(0)),
        source="as brightness",
        legacy=NO_EFFECT,
    )
    saturation: tuple[float, ...] = option(
        (0.5, 1.5),
        "range of the factor; (1, 1) is off",
        check=Interval(Between(0)),
        source="as brightness",
        legacy=NO_EFFECT,
    )
    lighting: float = option(
        0.1,
        "standard deviation along ILSVRC's colour components; 0 is off",
        range=(0, 1000),
        source="as brightness",
        legacy=0.0,
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Stochastic gradient descent with momentum."""

    momentum: float = option(
        0.9, "share of the last update that is added", range=(0, 1), source="section 6"
    )
    nesterov: bool = option(False, "Nesterov's momentum in place of the plain one", source="solver")
    weight_decay: float = option(
        2e-4,
        "L2 penalty on kernels, not on biases and normalisation parameters",
        range=(0, math.inf),
        source="solver",
    )
    decay_all: bool = option(False, "decay biases and normalisation parameters, too", legacy=False)
    gradient_clip: float = option(
        0.0,
        "largest global norm of the gradient; 0 is off: the paper has none",
        range=(0, math.inf),
    )
    learning_rate_factors: tuple = option(
        (),
        'factors for fine-tuning: (("conv", 0.1), ("inception_3", 0.3)) slows the layers whose '
        "names begin so; the first that fits counts, 0 freezes parameters, all others have 1",
        check=LayerFactors(),
        legacy=(),
    )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rate over time."""

    name: str = option(
        "staircase",
        "form of the decay",
        choices=("staircase", "cosine", "polynomial"),
        source="section 6",
    )
    learning_rate: float = option(
        0.01,
        "learning rate at the start, after the warm-up; for 32 images a step",
        range=(0, math.inf),
        source="solver",
    )
    warmup: str = option(
        "0 steps", "length of a linear rise from 0; the paper has none", check=Duration()
    )
    decay_rate: float = option(
        0.96,
        "staircase: factor of each decay",
        range=(0, 1),
        source='section 6, "decreasing by 4 %"',
    )
    decay_every: str = option(
        "8 epochs", "staircase: time between two decays", check=Duration(), source="section 6"
    )
    power: float = option(0.5, "polynomial: exponent", range=(0, math.inf), source="quick_solver")
    final_learning_rate: float = option(
        0.0, "cosine and polynomial: learning rate at the end", range=(0, math.inf)
    )


@dataclasses.dataclass(frozen=True)
class Training:
    """The length of a run, its loss, its averaged weights, its log."""

    total: str = option(
        "250 epochs",
        "length of the run",
        check=Duration(),
        source="solver: max_iter 10 M x 32 images",
    )
    auxiliary_weight: float = option(
        0.3, "weight of each auxiliary loss", range=(0, math.inf), source="section 5"
    )
    label_smoothing: float = option(
        0.0,
        "share of the target that goes to all classes alike; 0.1 in Szegedy et al. 2015 (arXiv "
        "1512.00567), the paper has none",
        range=(0, 1),
        legacy=0.0,
    )
    mixup: float = option(
        0.0,
        "mixup: alpha of Beta(alpha, alpha), from which the share of each of two images is drawn "
        "(Zhang et al. 2017, arXiv 1710.09412); 0 is off: the paper has none",
        range=(0, 1000),
        legacy=0.0,
    )
    average_decay: float = option(
        0.9999,
        "Polyak averaging of parameters and batch statistics: the mean of all steps since "
        "average_start while they are fewer than 1 / (1 - decay), exponential from then on; 1 is "
        "the plain mean, 0 is off",
        range=(0, 1),
        source="section 6, without a figure",
    )
    average_start: str = option("0 steps", "time at which averaging begins", check=Duration())
    log_every: str = option(
        "100 steps", "time between two lines of metrics.jsonl", check=Duration()
    )
    watchdog: float = option(
        30.0,
        "minutes without a step, nor a batch of an evaluation, after which a run counts as stuck "
        "and ends, to be started again; compiling takes a few; 0: never",
        unit="minutes",
        range=(0, 1_000_000),
        legacy=30.0,
        resume_safe=True,
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluations during training; a later one has its defaults from here."""

    split: str = option("validation", "TFDS split to test on", source="ILSVRC")
    every: str = option(
        "4 epochs", "time between two evaluations; there is always one at the end", check=Duration()
    )
    crops: int = option(
        1, "crops of each image during training", choices=(1, 10, 144), source="section 7", legacy=1
    )
    short_side: int = option(
        0,
        "shorter side of a resized image, of which the centre is cut; 0: 256/224 of the image "
        "size, or the image size with the small stem",
        unit="pixels",
        range=(0, math.inf),
        left_open=0,
        source="section 7",
    )
    resize: str = option(
        "short_side",
        "way to resize; short_side: the aspect ratio is kept; squeeze: to a square, as Caffe and "
        "TF-slim",
        choices=("short_side", "squeeze"),
        source="section 7",
        legacy="short_side",
    )
    interpolation: str = option(
        "area",
        "interpolation; area: averages where it shrinks, bilinear where it enlarges; bilinear: "
        "Pillow's, smoothed where it shrinks, as torchvision's published figures",
        choices=("area", "bilinear"),
        legacy="area",
    )
    bad_images: str = option(
        "error",
        "result of an unreadable image; error: the evaluation stops, naming it; wrong: a wrong "
        "answer",
        choices=("error", "wrong"),
        legacy="error",
        resume_safe=True,
    )


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Times at which the state is saved, and how long it is kept."""

    every: str = option(
        "1 epochs",
        "time between two checkpoints; there is always one after an evaluation and at the end",
        check=Duration(),
    )
    keep_last: int = option(
        3,
        "number of newest checkpoints that are kept; a run resumes from the newest",
        range=(1, math.inf),
    )
    keep_best: int = option(
        1,
        "number of best checkpoints that are kept, of those that were evaluated",
        range=(0, math.inf),
    )


SECTIONS: dict[str, type] = {
    "model": Model,
    "data": Data,
    "photometric": Photometric,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "training": Training,
    "evaluation": Evaluation,
    "checkpoints": Checkpoints,
}


def beyond_table_1(values: Mapping[str, Any]) -> str:
    """Names a field that is for the modules of Table 1 alone, set for other modules."""
    if values["model.architecture"] == "bn_inception":
        for name in ("module", "large_kernel", "last_pool"):
            if values[f"model.{name}"] != (default := getattr(Network, name)):
                return (
                    f"model.{name} is for the modules of Table 1, not for "
                    f"model.architecture='bn_inception'; leave it at {default!r}"
                )
    return ""


def crop_beyond_image(values: Mapping[str, Any]) -> str:
    """Names an evaluation whose resized images are smaller than the network's input."""
    size = values["data.image_size"]
    for path, side in values.items():
        if path.endswith(".short_side") and 0 < side < size:
            return f"{path} {side} is less than data.image_size {size}"
    return ""


# What fields may not be together: each takes {"model.norm": "lrn", ...}, checked one by one
# before, and returns what is wrong, or "".
PROBLEMS: tuple[Callable[[Mapping[str, Any]], str], ...] = (beyond_table_1, crop_beyond_image)
