"""Other people's weights: against ONNX Runtime and TensorFlow, there and back, and files gone bad.

PyTorch's side of it is in test_torchvision.py.
"""

import dataclasses
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import zipfile

import converted
import googlenet_onnx
import inception_v1_tensorflow
import jax
import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
from conftest import ROOT
from flax.traverse_util import flatten_dict
from PIL import Image
from published_names import CONVOLUTIONS

from inception_jax import convert
from inception_jax.checkpoints import store
from inception_jax.config.load import load_config
from inception_jax.errors import UsageError, UserError
from inception_jax.models.network import build
from inception_jax.models.options import GoogLeNetConfig, network_config
from inception_jax.runtime import devices
from inception_jax.tools.interop import (
    caffe_onnx,
    files,
    published,
    tf_slim,
    torchvision,
    weight_maps,
)
from inception_jax.tools.interop.published import CONFIGS
from inception_jax.training import warm_start
from inception_jax.training.state import TrainState

TOLERANCE = 1e-4
NARROW = "--config.model.width=0.125"
# An eighth of the filters, three modules, seven classes.
SMALL = (NARROW, "--config.model.num_classes=7", "--config.model.architecture=shallow")


# Names and counts


def test_names_are_the_published_ones():
    config = GoogLeNetConfig()
    theirs = {
        name: {ours: layer.name for ours, layer in module.layers(config, {}).items()}
        for name, module in [("torch", torchvision), ("caffe", caffe_onnx), ("slim", tf_slim)]
    }
    assert len(CONVOLUTIONS) == 57
    for row in CONVOLUTIONS:
        assert theirs["caffe"].pop(row.caffe) == row.caffe
        assert theirs["torch"].pop(row.caffe) == row.torchvision
        assert theirs["slim"].pop(row.caffe) == f"InceptionV1/{row.tf_slim}"
    assert theirs["slim"] == {"loss3/classifier": "InceptionV1/Logits/Conv2d_0c_1x1"}
    heads = [f"loss{head}/{part}" for head in (1, 2) for part in ("conv", "fc", "classifier")]
    assert theirs["caffe"] == {name: name for name in [*heads, "loss3/classifier"]}
    modules = ["aux1.conv", "aux1.fc1", "aux1.fc2", "aux2.conv", "aux2.fc1", "aux2.fc2", "fc"]
    assert theirs["torch"] == dict(zip([*heads, "loss3/classifier"], modules, strict=True))


def their_tensors(module, *overrides: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors of a format, of the network in its config."""
    network = build(network_config(load_config(str(CONFIGS / module.CONFIG), overrides)))
    weight_map = weight_maps.make_map(network, module.layers(network.config, {}))
    shapes = {"params": network.params, "batch_stats": network.batch_stats}
    rng = np.random.default_rng(seed)
    return {
        tensor.name: np.ascontiguousarray(
            tensor.transform.to_theirs(rng.uniform(0.1, 1, leaf.shape).astype(np.float32))
        )
        for path, leaf in flatten_dict(shapes, sep="/").items()
        for tensor in [weight_map[path]]
    }


def test_counts_are_the_published_ones():
    """torchvision's num_params, TF-slim's testModelHasExpectedNumberOfParameters, Caffe's blobs."""
    trainable = [
        tensor.size
        for name, tensor in their_tensors(torchvision, "--config.model.auxiliary=False").items()
        if "running" not in name
    ]
    assert (len(trainable), sum(trainable)) == (57 * 3 + 2, 6_624_904)
    base = [
        tensor.size
        for name, tensor in their_tensors(tf_slim).items()
        if not name.endswith("gamma") and "Logits" not in name
    ]
    assert (len(base), sum(base)) == (57 * 4, 5_607_184)
    caffe = their_tensors(caffe_onnx)
    assert (len(caffe), sum(blob.size for blob in caffe.values())) == (128, 13_378_280)
    main = [blob.size for name, blob in caffe.items() if name[:5] not in ("loss1", "loss2")]
    assert sum(main) == 6_998_552


# The same outputs


@pytest.mark.parametrize(
    ("size", "auxiliary", "width"),
    [
        (224, True, 0.25),
        (225, False, 0.25),
        pytest.param(224, True, 1.0, marks=pytest.mark.breadth),
    ],
)
def test_onnx_logits_are_onnx_runtimes(size, auxiliary, width, tmp_path):
    file = tmp_path / "googlenet-12.onnx"
    rng = np.random.default_rng(0)
    file.write_bytes(googlenet_onnx.build(rng, size, 1000, auxiliary, width))
    overrides = f"--config.data.image_size={size}", f"--config.model.width={width}"
    model = converted.load(converted.run("onnx", file, tmp_path / "caffe", *overrides))
    pictures = converted.images(size)

    bgr = pictures[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [f"loss{head}/classifier" for head in ((3, 1, 2) if auxiliary else (3,))]
    expected = session.run(names, {"data_0": np.ascontiguousarray(bgr.transpose(0, 3, 1, 2))})

    assert model.network.config.auxiliary is auxiliary
    assert model.class_names[0] == "n01440764"  # the tench
    for ours, theirs in zip(converted.outputs(model, pictures), expected, strict=True):
        assert theirs[0].std() > 0.1  # the logits say something
        assert np.ptp(theirs, axis=0).max() > 0.1 * np.abs(theirs).max()  # of the image
        assert converted.relative_error(ours, theirs) < TOLERANCE


SLIM = f"--config.model.width={inception_v1_tensorflow.WIDTH}"


def write_npz(path, weights):
    np.savez(path, **weights)
    return path


@pytest.fixture(scope="module")
def slim(tmp_path_factory):
    """Weights of 1001 classes and a quarter of the filters as slim.npz."""
    weights = inception_v1_tensorflow.random_weights()
    return write_npz(tmp_path_factory.mktemp("slim") / "slim.npz", weights)


@pytest.fixture(scope="module")
def slim_tensors():
    """TF-slim's names, an eighth of its filters, five classes."""
    return their_tensors(tf_slim, NARROW, "--config.model.num_classes=5")


@pytest.fixture(scope="module")
def tensorflow_files(slim_tensors, tmp_path_factory):
    """A folder with the weights as slim.npz, and as slim.ckpt-7 and v1.ckpt: TensorFlow's newer and
    older form of a checkpoint, written by TensorFlow.
    """
    folder = tmp_path_factory.mktemp("tensorflow")
    write_npz(folder / "slim.npz", slim_tensors)
    tf = inception_v1_tensorflow.load_tensorflow()
    inception_v1_tensorflow.save(
        tf, slim_tensors, str(folder / "slim.ckpt-7"), str(folder / "v1.ckpt")
    )
    return folder


def predicted_logits(command, checkpoint, folder):
    """Our logits of the oracle's images, through PNG files, and the JSON lines."""
    (folder / "images").mkdir()
    for number, pixels in enumerate(inception_v1_tensorflow.random_images()):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    result = command(
        "predict", "--checkpoint", checkpoint, "--images", folder / "images",
        "--save_logits", folder / "logits.npy",
        "--config.evaluation.short_side=224",  # the images as they are
    )  # fmt: skip
    return np.load(folder / "logits.npy"), [*map(json.loads, result.stdout.splitlines())]


def test_slim_logits_are_tensorflows(command, slim, tmp_path):
    """Compares with the logits that TensorFlow gave when the oracle was run, through predict."""
    expected = inception_v1_tensorflow.stored_logits()
    assert np.abs(expected[0] - expected[1]).max() > 0.1 * np.abs(expected).max()
    checkpoint = converted.run("tf_slim", slim, tmp_path / "checkpoint", SLIM)
    ours, lines = predicted_logits(command, checkpoint, tmp_path)
    assert converted.relative_error(ours, expected[:, 1:]) < TOLERANCE  # without "background"
    names = convert.name_classes(1000, None)
    for line, logits in zip(lines, expected[:, 1:], strict=True):
        labels = np.argsort(-logits)[:5].tolist()
        assert [(top["label"], top["name"]) for top in line["top"]] == [
            (label, names[label]) for label in labels
        ]


@pytest.mark.slow
def test_slim_logits_at_full_width_are_what_tensorflow_gives_today(command, tmp_path):
    tf = inception_v1_tensorflow.load_tensorflow()
    images = inception_v1_tensorflow.random_images()
    today = inception_v1_tensorflow.forward(tf, inception_v1_tensorflow.random_weights(), images)
    assert converted.relative_error(inception_v1_tensorflow.stored_logits(), today) < 1e-5
    weights = inception_v1_tensorflow.random_weights(width=1.0)
    inception_v1_tensorflow.save(
        tf, weights, str(tmp_path / "slim.ckpt-7"), str(tmp_path / "v1.ckpt")
    )
    result = command(
        "convert", "--from", "tf_slim", "--weights", tmp_path / "slim.ckpt-7",
        "--output", tmp_path / "checkpoint",
    )  # fmt: skip
    assert "6,624,904 parameters, without auxiliary heads" in result.stderr
    ours, _ = predicted_logits(command, tmp_path / "checkpoint", tmp_path)
    expected = inception_v1_tensorflow.forward(tf, weights, images)
    assert converted.relative_error(ours, expected[:, 1:]) < TOLERANCE


@pytest.mark.parametrize("name", ["slim.npz", "slim.ckpt-7", "slim.ckpt-7.index", "v1.ckpt"])
def test_slim_weights_are_the_same_in_every_kind_of_file(name, slim_tensors, tensorflow_files):
    overrides = NARROW, "--config.model.num_classes=5"
    weights = published.read_weights("tf_slim", tensorflow_files / name, overrides)
    for row in CONVOLUTIONS:
        block, layer = row.caffe.split("/")
        np.testing.assert_array_equal(
            weights.tree["params"][block][layer]["kernel"],
            slim_tensors[f"InceptionV1/{row.tf_slim}/weights"],
        )
    assert sum(leaf.size for leaf in jax.tree.leaves(weights.tree)) == sum(
        tensor.size for tensor in slim_tensors.values()
    )
    assert weights.config.model.auxiliary is False


def test_the_background_class_stays_where_the_config_counts_it(slim, tmp_path):
    overrides = SLIM, "--config.model.num_classes=1001"
    model = converted.load(converted.run("tf_slim", slim, tmp_path / "all", *overrides))
    kernel = np.load(slim)["InceptionV1/Logits/Conv2d_0c_1x1/weights"]
    np.testing.assert_array_equal(model.params["loss3"]["classifier"]["kernel"], kernel[0, 0])
    assert model.class_names == tuple(map(str, range(1001)))


# What is in the checkpoint


@pytest.fixture(scope="module")
def small_tensors():
    """torchvision's names, an eighth of its filters, three modules, seven classes; with PyTorch's
    counters.
    """
    tensors = their_tensors(torchvision, *SMALL)
    means = [name for name in tensors if name.endswith("running_mean")]
    counters = {name.replace("running_mean", "num_batches_tracked"): name for name in means}
    return tensors | {name: np.array(n, np.int64) for n, name in enumerate(counters)}


@pytest.fixture
def small(small_tensors, tmp_path):
    file = tmp_path / "small.safetensors"
    safetensors.numpy.save_file(small_tensors, file)
    return file


def test_a_checkpoint_says_where_its_weights_are_from(small, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefg"), encoding="utf-8-sig")  # as Windows does
    output = converted.run(
        "torchvision", small, tmp_path / "new" / "one", *SMALL, class_names=names
    )
    description = store.read_description(output)
    assert description["class_names"] == list("abcdefg")
    assert description["step"] == 0
    assert description["config"]["training"]["average_decay"] == 0
    assert description["config"]["data"]["threads"] > 0  # nothing is left open
    source = description["source"]
    assert source["format"] == "torchvision"
    (digest,) = source["files"].values()
    hashed = subprocess.run(["sha256sum", small], capture_output=True, text=True, check=True)
    assert digest == hashed.stdout.split()[0]
    assert len(source["num_batches_tracked"]) == 22  # a convolution
    assert sorted(path.name for path in output.parent.iterdir()) == ["one"]  # nothing beside it
    with pytest.raises(UsageError, match=r"7 lines and the network 5 classes"):
        convert.name_classes(5, names)


def test_classes_have_the_names_of_prepared_ilsvrc2012():
    names = convert.name_classes(1000, None)
    assert (len(names), names[0], names[-1]) == (1000, "n01440764", "n15075141")
    assert list(names) == sorted(names)
    assert convert.name_classes(3, None) == ("0", "1", "2")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floating_types_become_float32(dtype, small_tensors, tmp_path):
    file = tmp_path / "small.safetensors"
    kept = {
        name: tensor.astype(dtype) if tensor.dtype == np.float32 else tensor
        for name, tensor in small_tensors.items()
    }
    safetensors.numpy.save_file(kept, file)
    params = published.read_weights("torchvision", file, SMALL).tree["params"]
    kernel = params["loss3"]["classifier"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, kept["fc.weight"].astype(np.float32).T)


def test_there_and_back_gives_the_same_bits(small, small_tensors, tmp_path, monkeypatch):
    model = converted.load(converted.run("torchvision", small, tmp_path / "one", *SMALL))
    back = tmp_path / "back.safetensors"
    # Three modules, an eighth as wide, are no network of torchvision's.
    with pytest.raises(UsageError) as error:
        torchvision.write(model, back)
    assert str(error.value).endswith(
        ": model.architecture is 'shallow' and would have to be 'googlenet'; "
        "model.width is 0.125 and would have to be 1.0"
    )
    monkeypatch.setitem(torchvision.ARCHITECTURE, "architecture", "shallow")
    monkeypatch.setitem(torchvision.ARCHITECTURE, "width", 0.125)
    torchvision.write(model, back)
    returned = safetensors.numpy.load_file(back)
    assert returned.keys() == small_tensors.keys()
    for name, tensor in small_tensors.items():
        assert returned[name].dtype == tensor.dtype
        np.testing.assert_array_equal(returned[name], tensor)
    assert sorted(tmp_path.iterdir()) == [back, tmp_path / "one", small]  # nothing half-written
    again = converted.run("torchvision", back, tmp_path / "two", *SMALL)
    arrays = store.read_description(again)["arrays"]
    assert arrays == store.read_description(tmp_path / "one")["arrays"]


def test_weights_that_no_conversion_made_get_counters_of_zero(small, tmp_path, monkeypatch):
    checkpoint = converted.run("torchvision", small, tmp_path / "one", *SMALL)
    model = converted.load(checkpoint)
    tree = {"params": model.params, "batch_stats": model.batch_stats}
    description = store.read_description(checkpoint)
    del description["source"]
    store.write(tmp_path / "own", tree, description)
    monkeypatch.setitem(torchvision.ARCHITECTURE, "architecture", "shallow")
    monkeypatch.setitem(torchvision.ARCHITECTURE, "width", 0.125)
    own = dataclasses.replace(model, checkpoint=tmp_path / "own")
    torchvision.write(own, tmp_path / "own.safetensors")
    returned = safetensors.numpy.load_file(tmp_path / "own.safetensors")
    counters = [value for name, value in returned.items() if "num_batches_tracked" in name]
    assert len(counters) == 22
    assert not np.any(counters)
    with pytest.raises(UsageError, match=r"own\.bin does not end in \.pth or \.pt or "):
        torchvision.write(own, tmp_path / "own.bin")


def test_torchvisions_config_is_its_architecture():
    model = load_config(str(CONFIGS / torchvision.CONFIG)).model
    assert {name: model[name] for name in torchvision.ARCHITECTURE} == torchvision.ARCHITECTURE


def test_another_architecture_is_refused_field_by_field(small, tmp_path):
    model = converted.load(converted.run("torchvision", small, tmp_path / "one", *SMALL))
    digits = build(network_config(load_config("configs/digits.py")))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError) as error:
        torchvision.write(dataclasses.replace(model, network=digits), tmp_path / "x.safetensors")
    for field in ("large_kernel is 5", "stem is 'small'", "last_pool is 3", "auxiliary_pool"):
        assert f"model.{field}" in str(error.value)
    assert "norm" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_training_starts_from_a_converted_checkpoint(small, small_tensors, tmp_path, caplog):
    """A network with other classes takes all weights but the classifiers'."""
    checkpoint = converted.run("torchvision", small, tmp_path / "small", *SMALL)
    config = load_config(
        str(CONFIGS / torchvision.CONFIG), [*SMALL, "--config.model.num_classes=3"]
    )
    params, batch_stats = build(network_config(config)).initial(0)
    state = TrainState(np.int32(0), params, batch_stats, {}, {})
    started = warm_start.start_from(
        state, checkpoint, "classification", ("a", "b", "c"), devices.make_mesh()
    )
    kernel = small_tensors["inception4a.branch3.1.conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(started.params["inception_4a"]["5x5"]["kernel"], kernel)
    mean = small_tensors["aux1.conv.bn.running_mean"]
    np.testing.assert_array_equal(started.batch_stats["loss1"]["conv"]["norm"]["mean"], mean)
    np.testing.assert_array_equal(
        started.params["loss3"]["classifier"]["kernel"], params["loss3"]["classifier"]["kernel"]
    )


@pytest.mark.breadth
def test_evaluating_and_training_with_a_converted_checkpoint(command, small, tmp_path):
    checkpoint = converted.run(
        "torchvision", small, tmp_path / "small", *SMALL, "--config.data.image_size=64"
    )
    fake = ("--config.data.source=fake", "--config.data.fake_examples=8")
    result = command("evaluate", "--checkpoint", checkpoint, *fake)
    assert json.loads(result.stdout)["examples"] == 8
    result = command(
        "train", "--config", "configs/torchvision.py", "--workdir", tmp_path / "run", *fake, *SMALL,
        "--config.data.image_size=64", f"--config.model.init_from={checkpoint}",
        "--config.training.total=1 steps", "--config.data.batch_size=4",
    )  # fmt: skip
    assert f"starting from {checkpoint}" in result.stderr


# Files gone bad


def in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def refused(name, file, tmp_path, *overrides, kind=UserError) -> str:
    """The message of a conversion that must fail and leave nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind) as error:
        converted.run(name, file, tmp_path / "output", *overrides)
    assert sorted(tmp_path.rglob("*")) == before
    assert str(file) in str(error.value) or kind is UsageError
    return in_one_line(error.value)


def npz(tensors) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **tensors)
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def flipped(content: bytes, position: int) -> bytes:
    """Changes one bit."""
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


SAFETENSORS = safetensors.numpy.save({"x": np.zeros(3, np.float32)})
ONNX = onnx.helper.make_model(
    onnx.helper.make_graph([], "empty", [], []), ir_version=7
).SerializeToString()

BAD_FILES = {
    "empty": (b"", "is empty"),
    "noise": (b"\xff" * 200, "not a file of weights of a known kind"),
    "web page": (b"<!DOCTYPE html>", "web page"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "archive": (b"\x1f\x8b\x08" + bytes(99), "gzip archive: unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "npy": (b"\x93NUMPY" + bytes(99), "single array"),
    "other zip": (zipped("a.txt", b"x"), "zip archive, but neither"),
    "half a zip": (npz({"x": np.zeros(99)})[:300], "truncated or damaged zip"),
    "flipped bit": (flipped(zipped("a/data.pkl", bytes(99)), 80), "is wrong"),
    "TorchScript": (zipped("a/constants.pkl", b""), "TorchScript program"),
    "npz": (npz({"x": np.zeros(3)}), "is an .npz file, not of torchvision: use --from tf_slim"),
    "onnx": (ONNX, "is an ONNX file, not of torchvision: use --from onnx"),
    "half a safetensors": (SAFETENSORS[:-4], "looks like a safetensors file and is damaged"),
    "bad header": (b"\x08" + bytes(7) + b"{garbage" + bytes(9), "and is damaged"),
    "no network": (SAFETENSORS, "is another network: no tensor has a known name (it has x)"),
    "no tensors": (safetensors.numpy.save({}), "it has no tensors"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_called_what_it_is(case, tmp_path):
    content, message = BAD_FILES[case]
    file = tmp_path / "weights"
    file.write_bytes(content)
    assert message in refused("torchvision", file, tmp_path)


def test_a_file_of_another_format_is_told_where_it_belongs(small, tensorflow_files, tmp_path):
    assert "is a safetensors file, not of onnx: use --from torchvision" in refused(
        "onnx", small, tmp_path
    )
    for name in ("v1.ckpt", "slim.ckpt-7", "slim.ckpt-7.data-00000-of-00001"):
        assert "is a TensorFlow checkpoint, not of onnx: use --from tf_slim" in refused(
            "onnx", tensorflow_files / name, tmp_path
        )
    assert "is a folder" in refused("onnx", tmp_path, tmp_path)
    assert "no file" in refused("onnx", tmp_path / "gone", tmp_path)


def test_truncated_files_are_called_damaged(tensorflow_files, tmp_path):
    parts = ("index", "data-00000-of-00001")
    index, data = (tensorflow_files / f"slim.ckpt-7.{part}" for part in parts)
    (tmp_path / "a.index").write_bytes(index.read_bytes())
    assert "is damaged" in refused("tf_slim", tmp_path / "a", tmp_path)  # no data at all
    (tmp_path / "a.data-00000-of-00001").write_bytes(data.read_bytes()[:100_000])
    assert "is damaged" in refused("tf_slim", tmp_path / "a", tmp_path)
    (tmp_path / "b.index").write_bytes(index.read_bytes()[:-20])
    assert "is damaged" in refused("tf_slim", tmp_path / "b", tmp_path)
    (tmp_path / "half.ckpt").write_bytes((tensorflow_files / "v1.ckpt").read_bytes()[:100_000])
    assert "not a file of weights of a known kind" in refused(
        "tf_slim", tmp_path / "half.ckpt", tmp_path
    )
    model = googlenet_onnx.build(np.random.default_rng(0), 224, 5, auxiliary=False, width=0.125)
    (tmp_path / "half.onnx").write_bytes(model[:100_000])
    assert "is damaged" in refused("onnx", tmp_path / "half.onnx", tmp_path)


@pytest.mark.parametrize(
    ("name", "package", "content", "extra"),
    [
        ("torchvision", "torch", zipped("archive/data.pkl", b""), "torch"),
        ("torchvision", "safetensors", SAFETENSORS, "interop"),
        ("onnx", "onnx", ONNX, "interop"),
        ("tf_slim", "tensorflow", files.TABLE_END, "prepare"),
    ],
    ids=["torch", "safetensors", "onnx", "tensorflow"],
)
def test_a_missing_package_is_named_with_its_extra(
    name, package, content, extra, tmp_path, monkeypatch
):
    for module in (package, f"{package}.numpy"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    (tmp_path / "weights").write_bytes(content)
    message = refused(name, tmp_path / "weights", tmp_path)
    assert message.endswith(f" needs the package {package}: pip install 'inception_jax[{extra}]'")


def test_onnx_with_weights_in_other_files_is_refused(tmp_path):
    model = onnx.load_from_string(
        googlenet_onnx.build(np.random.default_rng(0), 224, 5, auxiliary=False, width=0.125)
    )
    onnx.save_model(
        model, str(tmp_path / "model.onnx"), save_as_external_data=True, location="weights.bin"
    )
    message = refused("onnx", tmp_path / "model.onnx", tmp_path)
    assert "keeps its weights in other files" in message


def changed(tensors, change) -> dict[str, np.ndarray]:
    tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    change(tensors)
    return tensors


def poison(tensors):
    tensors["conv2.bn.bias"][3] = np.nan
    tensors["fc.weight"][0, 0] = np.inf


def mix_up(tensors):
    del tensors["conv1.conv.weight"], tensors["aux1.fc1.bias"]
    tensors["extra"] = np.zeros(3, np.float32)
    tensors["conv2.conv.weight"] = tensors["conv2.conv.weight"][..., 0]
    tensors["conv3.bn.bias"] = np.arange(24)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (poison, ["NaN or infinite: conv2.bn.bias, fc.weight"]),
        (
            mix_up,
            [
                "missing: aux1.fc1.bias, conv1.conv.weight;",
                "not part of it: extra",
                "other shapes: conv2.conv.weight is (8, 8, 1) and should be (8, 8, 1, 1)",
                "not floating-point numbers: conv3.bn.bias is int64",
            ],
        ),
        (
            lambda t: t.update({f"other.{n}": np.zeros(1, np.float32) for n in range(320)}),
            ["other.0, ", "other.319"],
        ),
    ],
)
def test_every_tensor_that_does_not_fit_is_named(change, messages, small_tensors, tmp_path):
    file = tmp_path / "small.safetensors"
    safetensors.numpy.save_file(changed(small_tensors, change), file)
    refusal = refused("torchvision", file, tmp_path, *SMALL)
    assert [message for message in messages if message not in refusal] == []


def test_another_number_of_classes_is_told_what_to_set(small, tmp_path):
    refusal = refused("torchvision", small, tmp_path, SMALL[0], SMALL[2])
    assert "it has 7 classes and the config 1000 (set --config.model.num_classes=7)" in refusal
    assert "shapes" not in refusal  # what follows from it is not repeated


def test_what_overrides_make_impossible_is_wrong_usage(small, slim_tensors, tmp_path):
    refusal = refused(
        "torchvision", small, tmp_path, *SMALL, "--config.model.norm=lrn", kind=UsageError
    )
    assert "params/conv1/7x7_s2/bias" in refusal
    slim = write_npz(tmp_path / "slim.npz", slim_tensors)
    overrides = NARROW, "--config.model.auxiliary=True"
    refusal = refused("tf_slim", slim, tmp_path, *overrides, kind=UsageError)
    assert "params/loss1/conv/kernel" in refusal
    refused("torchvision", small, tmp_path, "--config.model.nmu_classes=7", kind=UsageError)


def test_slots_of_a_training_are_left_out_and_scales_are_taken(slim_tensors, tmp_path):
    narrow = NARROW, "--config.model.num_classes=5"
    name = "InceptionV1/Conv2d_1a_7x7/weights"
    slots = ("Momentum", "RMSProp_1", "ExponentialMovingAverage")
    extra = {f"{name}/{slot}": slim_tensors[name] for slot in slots} | {"global_step": np.int64(3)}
    file = write_npz(tmp_path / "slim.npz", slim_tensors | extra)
    params = published.read_weights("tf_slim", file, narrow).tree["params"]
    scale = slim_tensors["InceptionV1/Conv2d_1a_7x7/BatchNorm/gamma"]
    np.testing.assert_array_equal(params["conv1"]["7x7_s2"]["norm"]["scale"], scale)
    write_npz(file, slim_tensors | extra | {f"{name}/Shampoo": slim_tensors[name]})
    assert f"not part of it: {name}/Shampoo" in refused("tf_slim", file, tmp_path, *narrow)


def test_the_command(command, small, tmp_path):
    result = command(
        "convert", "--from", "torchvision", "--weights", small, "--output", tmp_path / "out",
        *SMALL, process=True,
    )  # fmt: skip
    count = sum(leaf.size for leaf in jax.tree.leaves(converted.load(tmp_path / "out").params))
    assert f"wrote {tmp_path / 'out'}: {count:,} parameters, with auxiliary heads" in result.stderr


def test_the_command_fails_in_one_line(command, small, tmp_path):
    empty, full = tmp_path / "empty.pth", tmp_path / "full"
    empty.touch()
    full.mkdir()
    (full / "file").touch()

    def fails(weights, output, *overrides, exit_code):
        return command.fails(
            "convert", "--from", "torchvision", "--weights", weights, "--output", output,
            *overrides, exit_code=exit_code,
        )  # fmt: skip

    assert "is empty" in fails(empty, tmp_path / "new", exit_code=1)
    assert "exists already: use another --output" in fails(small, full, *SMALL, exit_code=2)
    assert "did you mean" in fails(small, tmp_path / "new", "--config.model.nrom=x", exit_code=2)
    assert sorted(path.name for path in full.iterdir()) == ["file"]
    assert not (tmp_path / "new").exists()


# Writing


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(unfinished, name):
        raise OSError("no space")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        store.write(tmp_path / "checkpoint", {"params": {"x": np.zeros(3)}}, {})
    assert not list(tmp_path.iterdir())


def check_nothing_but_a_good_one_follows(folder):
    """Checks that there is no checkpoint yet, and that the next write makes one."""
    assert not (folder / "checkpoint").exists()
    tree = {"params": {"x": np.arange(3.0)}, "batch_stats": {}}
    store.write(folder / "checkpoint", tree, {"config": 1})
    description = store.read_description(folder / "checkpoint")
    assert (description["config"], description["step"]) == (1, 0)


def test_before_a_write_is_complete_no_checkpoint_has_its_name(tmp_path, monkeypatch):
    """A kill at that moment would leave `killed`."""
    folder, killed, rename = tmp_path / "folder", tmp_path / "killed", os.rename

    def copy_and_rename(unfinished, name):
        if pathlib.Path(name) == folder / "checkpoint":
            shutil.copytree(folder, killed)
        rename(unfinished, name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", copy_and_rename)
        store.write(folder / "checkpoint", {"params": {"x": np.zeros(3)}}, {"config": 1})
    assert any(killed.iterdir())  # it had begun
    check_nothing_but_a_good_one_follows(killed)


@pytest.mark.breadth
def test_a_killed_write_leaves_no_checkpoint(tmp_path):
    """The kill comes when all is written but the name."""
    script = f"""
import os, numpy, pathlib
from inception_jax.checkpoints import store
rename = os.rename
def kill_or_rename(unfinished, name):
    if str(name) == {str(tmp_path / "checkpoint")!r}:
        os.kill(os.getpid(), {signal.SIGKILL:d})
    rename(unfinished, name)
os.rename = kill_or_rename
store.write(pathlib.Path({str(tmp_path / "checkpoint")!r}), {{"x": numpy.zeros(3)}}, {{}})
"""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    check_nothing_but_a_good_one_follows(tmp_path)
