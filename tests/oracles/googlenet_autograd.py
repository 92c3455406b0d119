"""GoogLeNet (Inception v1) in float64 with numpy and autograd, sharing no code with the package.

Sources: "Going Deeper with Convolutions" (arXiv 1409.4842), Table 1 and figures 2 and 3; what the
paper leaves open (LRN constants, ceil-mode pools, symmetric padding, names) follows BVLC/caffe
models/bvlc_googlenet/train_val.prototxt. Images and activations are float64 [batch, height, width,
channels]; `params` and `batch_stats` are dicts of float64 arrays, named as in Caffe:

    params[block][layer] = {"kernel": HWIO or [in, out], "bias": [out]}, but with norm="batch" a
    convolution has      = {"kernel": HWIO, "norm": {"scale": [out], "bias": [out]}} and
    batch_stats[block][layer] = {"norm": {"mean": [out], "var": [out]}}

Everything but the labels is differentiable by `autograd.grad`. Meant for small cases: not fast.
"""

import autograd.numpy as np

# Table 1: channels of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj; None is a max pool 3x3/2.
TABLE = {
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "pool3/3x3_s2": None,
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "pool4/3x3_s2": None,
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY_HEADS = {"inception_4a": "loss1", "inception_4d": "loss2"}
ARCHITECTURES = {
    "googlenet": tuple(TABLE),
    "shallow": ("inception_3a", "pool3/3x3_s2", "inception_4a", "pool4/3x3_s2", "inception_5a"),
}


def windows(x, size, stride):
    """[n, h, w, c] -> [n, rows, columns, size * size, c]: full windows, pixels row by row."""
    rows, columns = ((length - size) // stride + 1 for length in x.shape[1:3])
    if rows < 1 or columns < 1:
        raise ValueError(f"a {size}x{size} window does not fit in {x.shape[1]}x{x.shape[2]}")
    offsets = [(i, j) for i in range(size) for j in range(size)]
    ends = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    slices = [x[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i, j in offsets]
    return np.stack(slices, axis=3)


def pad(x, rows, columns, value=0.0):
    """Pads height and width by the given (before, after) pairs."""
    return np.pad(x, ((0, 0), rows, columns, (0, 0)), "constant", constant_values=value)


def relu(x):
    """Has derivative 0 at 0, as in torch and JAX (autograd's np.maximum would give 1/2)."""
    return np.where(x > 0, x, 0.0)


def convolution(x, kernel, stride):
    """Cross-correlation of [n, h, w, i] with HWIO, padded by half the kernel on each side."""
    size, _, channels_in, channels_out = kernel.shape
    x = pad(x, (size // 2, size // 2), (size // 2, size // 2))
    kernel = np.reshape(kernel, (size * size, channels_in, channels_out))
    return np.tensordot(windows(x, size, stride), kernel, axes=((3, 4), (0, 1)))


def max_pool(x, stride, padding):
    """3x3 max pool in ceil mode: a last partial window counts, and pixels outside never win.

    The gradient goes to the first maximum in row-major order, as in torch and XLA. (In this network
    ties are zeros, which the ReLU before stops, or copies of one pixel made by an overlapping pool:
    no gradient of a parameter or of the images sees the choice.)
    """
    rows, columns = ((padding, padding + (3 - length) % stride) for length in x.shape[1:3])
    values = windows(pad(x, rows, columns, -np.inf), 3, stride)
    first = np.argmax(values, axis=3)
    chosen = np.arange(9)[:, None] == first[:, :, :, None, :]
    return np.sum(np.where(chosen, values, 0.0), axis=3)


def local_response_norm(x):
    """x / (1 + 1e-4 / 5 * sum of the squares of channels c - 2 .. c + 2) ** 0.75."""
    channel = np.arange(x.shape[-1])
    neighbours = (abs(channel[:, None] - channel) <= 2).astype(np.float64)
    return x / (1.0 + 1e-4 / 5 * np.dot(x**2, neighbours)) ** 0.75


def batch_norm(x, layer, stats, train):
    """Over batch, height and width, with the biased variance of the batch when training."""
    mean = np.mean(x, axis=(0, 1, 2)) if train else stats["mean"]
    variance = np.mean((x - mean) ** 2, axis=(0, 1, 2)) if train else stats["var"]
    return (x - mean) / np.sqrt(variance + 1e-3) * layer["scale"] + layer["bias"]


def dense(x, layer):
    return np.dot(x, layer["kernel"]) + layer["bias"]


def forward(
    params,
    batch_stats,
    images,
    *,
    architecture="googlenet",  # a key of ARCHITECTURES
    norm="lrn",  # "lrn", "batch" or "none"
    module="reduced",  # figure 2b, or "naive": figure 2a
    large_kernel=5,  # of the layers named 5x5; 3 as in torchvision and TF-slim
    head="average_pool",  # or "fully_connected": flatten and loss3/fc in its place
    stem="imagenet",  # or "small": two 3x3 convolutions without pools, for 32-pixel images
    train=False,  # batch norm takes the batch's own statistics
):
    """[batch, height, width, channels] -> (logits [batch, classes], tuple of auxiliary logits).

    The auxiliary heads (loss1 on 4a, loss2 on 4d, logits [batch, classes]) are computed when params
    hold them, else the tuple is empty. No dropout. All channel counts come from params. A feature
    map of one pixel cannot be pooled (nor one under 5x5 by an auxiliary head): ValueError.
    """

    def unit(x, block, name, size, stride=1):
        layer = params[block][name]
        if layer["kernel"].shape[:2] != (size, size):
            raise ValueError(f"{block}/{name} should be {size}x{size}, not {layer['kernel'].shape}")
        x = convolution(x, layer["kernel"], stride)
        if norm == "batch":
            stats = None if train else batch_stats[block][name]["norm"]
            return relu(batch_norm(x, layer["norm"], stats, train))
        return relu(x + layer["bias"])

    def inception(x, block):
        reduced = module == "reduced"
        middle = unit(x, block, "3x3_reduce", 1) if reduced else x
        large = unit(x, block, "5x5_reduce", 1) if reduced else x
        pooled = max_pool(x, stride=1, padding=1)
        branches = [
            unit(x, block, "1x1", 1),
            unit(middle, block, "3x3", 3),
            unit(large, block, "5x5", large_kernel),
            unit(pooled, block, "pool_proj", 1) if reduced else pooled,
        ]
        return np.concatenate(branches, axis=3)

    def auxiliary_head(x, block):
        x = np.mean(windows(x, 5, stride=3), axis=3)
        x = np.reshape(unit(x, block, "conv", 1), (len(x), -1))
        return dense(relu(dense(x, params[block]["fc"])), params[block]["classifier"])

    normalise = local_response_norm if norm == "lrn" else lambda x: x
    if stem == "imagenet":
        x = max_pool(unit(images, "conv1", "7x7_s2", 7, stride=2), stride=2, padding=0)
        x = unit(unit(normalise(x), "conv2", "3x3_reduce", 1), "conv2", "3x3", 3)
        x = max_pool(normalise(x), stride=2, padding=0)
    else:
        x = normalise(unit(images, "conv1", "3x3", 3))
        x = normalise(unit(x, "conv2", "3x3", 3))
    auxiliary_logits = []
    for block in ARCHITECTURES[architecture]:
        x = max_pool(x, stride=2, padding=0) if TABLE[block] is None else inception(x, block)
        if block in AUXILIARY_HEADS and AUXILIARY_HEADS[block] in params:
            auxiliary_logits.append(auxiliary_head(x, AUXILIARY_HEADS[block]))
    if head == "average_pool":
        x = np.mean(x, axis=(1, 2))
    else:
        x = relu(dense(np.reshape(x, (len(x), -1)), params["loss3"]["fc"]))
    return dense(x, params["loss3"]["classifier"]), tuple(auxiliary_logits)


def cross_entropy(logits, labels):
    """Mean of -log softmax(logits)[label]: logits [batch, classes], labels integers [batch]."""
    logits = logits - np.max(logits, axis=1, keepdims=True)
    wanted = np.arange(logits.shape[1]) == np.reshape(labels, (-1, 1))
    return np.mean(np.log(np.sum(np.exp(logits), axis=1)) - np.sum(logits * wanted, axis=1))


def loss(params, batch_stats, images, labels, auxiliary_weight=0.3, **options):
    """Scalar: cross entropy of the main head + auxiliary_weight * that of each auxiliary head."""
    logits, auxiliary_logits = forward(params, batch_stats, images, **options)
    extra = sum(cross_entropy(auxiliary, labels) for auxiliary in auxiliary_logits)
    return cross_entropy(logits, labels) + auxiliary_weight * extra


def random_params(
    rng,  # a numpy Generator
    *,
    classes,
    width,
    image_size,  # an integer or (height, width): the fully connected layers depend on it
    architecture="googlenet",
    norm="lrn",
    module="reduced",
    large_kernel=5,
    head="average_pool",
    stem="imagenet",
    auxiliary=True,
):
    """(params, batch_stats) for RGB images: float64, c channels become max(1, round(c * width)).

    For images of about unit variance. Kernels are normal with most of their mean removed and biases
    lean to the positive: else the 5x5 branches of narrow networks, of 2 channels, are often dead.
    With norm="lrn" conv1 and all hidden biases are 50 times larger and the classifiers' kernels 50
    times smaller: the same network but for LRN, which changes activations of order 1 by 1e-4 only,
    too little for a float32 test to see.
    """
    gain = 50.0 if norm == "lrn" else 1.0
    params: dict = {}
    batch_stats: dict = {}

    def scaled(channels):
        return max(1, round(channels * width))

    def add(block, name, shape, kernel_gain=1.0, bias_gain=gain, normalised=False):
        kernel = rng.normal(size=shape)
        kernel = kernel - 0.85 * np.mean(kernel, axis=tuple(range(len(shape) - 1)))
        kernel = kernel * np.sqrt(2.5 / np.prod(shape[:-1])) * kernel_gain
        layer = params.setdefault(block, {})[name] = {"kernel": kernel}
        bias = rng.uniform(-0.1, 0.5, shape[-1]) * bias_gain
        if normalised:
            layer["norm"] = {"scale": rng.uniform(0.7, 1.5, shape[-1]), "bias": bias}
            mean, variance = rng.normal(size=shape[-1]) * 0.3, rng.uniform(1.0, 3.0, shape[-1])
            batch_stats.setdefault(block, {})[name] = {"norm": {"mean": mean, "var": variance}}
        else:
            layer["bias"] = bias
        return shape[-1]

    def add_convolution(block, name, size, *channels, kernel_gain=1.0):
        return add(block, name, (size, size, *channels), kernel_gain, normalised=norm == "batch")

    def add_head(block, inputs, hidden):
        if hidden:
            inputs = add(block, "fc", (inputs, scaled(1024)))
        add(block, "classifier", (inputs, classes), 1.0 / gain, 1.0)

    extent = np.array(np.broadcast_to(image_size, 2))
    if stem == "imagenet":
        channels = add_convolution("conv1", "7x7_s2", 7, 3, scaled(64), kernel_gain=gain)
        channels = add_convolution("conv2", "3x3_reduce", 1, channels, scaled(64))
        extent = (extent + 1) // 2 // 2 // 2
    else:
        channels = add_convolution("conv1", "3x3", 3, 3, scaled(64), kernel_gain=gain)
    channels = add_convolution("conv2", "3x3", 3, channels, scaled(192))
    for block in ARCHITECTURES[architecture]:
        row = TABLE[block]
        if row is None:
            extent = extent // 2  # ceil((extent - 3) / 2) + 1
            continue
        one, middle_reduce, middle, large_reduce, large, projection = map(scaled, row)
        middle_in, large_in, pooled = channels, channels, channels
        if module == "reduced":
            middle_in = add_convolution(block, "3x3_reduce", 1, channels, middle_reduce)
            large_in = add_convolution(block, "5x5_reduce", 1, channels, large_reduce)
            pooled = add_convolution(block, "pool_proj", 1, channels, projection)
        add_convolution(block, "1x1", 1, channels, one)
        add_convolution(block, "3x3", 3, middle_in, middle)
        add_convolution(block, "5x5", large_kernel, large_in, large)
        channels = one + middle + large + pooled
        if auxiliary and block in AUXILIARY_HEADS:
            name = AUXILIARY_HEADS[block]
            features = add_convolution(name, "conv", 1, channels, scaled(128))
            add_head(name, features * int(np.prod((extent - 5) // 3 + 1)), hidden=True)
    if head == "fully_connected":
        channels *= int(np.prod(extent))
    add_head("loss3", channels, hidden=head == "fully_connected")
    return params, batch_stats
