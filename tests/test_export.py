"""The export command: each format, run by its own runtime, gives what the network gives."""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT, Command
from safetensors.numpy import load_file

from inception_jax import export
from inception_jax.checkpoints import integrity, loaded_model, store
from inception_jax.checkpoints.description import make_description as checkpoint_description
from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.config import compatibility
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.data.normalization import normalize
from inception_jax.errors import UserError
from inception_jax.models.cost import network_cost
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.tools import interop
from inception_jax.tools.interop import formats, hugging_face, model_card, onnx_graph, stablehlo

# Every option, and sizes where the windows of stride 2 end in all ways. Options are those of any
# number of modules: where nothing else is said, the network has three.
NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {"architecture": "googlenet", "image_size": 75, "auxiliary": False},
    "torchvision": {
        "image_size": 71, "norm": "batch", "large_kernel": 3, "last_pool": 2,
        "auxiliary_pool": "adaptive", "mean": (127.5, 120.0, 110.0), "std": (127.5, 60.0, 50.0),
    },
    "slim, odd": {
        "image_size": 77, "norm": "batch", "large_kernel": 3, "last_pool": 2, "padding": "same",
        "auxiliary": False,
    },
    "naive, small, fully connected": {
        "image_size": 19, "norm": "none", "module": "naive", "stem": "small",
        "head": "fully_connected", "std": (60.0, 50.0, 40.0),
    },
    "fully connected, same": {
        "image_size": 50, "head": "fully_connected", "padding": "same", "auxiliary": False,
    },
    "batch normalisation's Inception": {
        "architecture": "bn_inception", "norm": "batch", "batch_norm_bias": True, "image_size": 71,
        "auxiliary": False,
    },
    "lower modules": {"image_size": 64, "stem": "inception", "auxiliary": False},
    "one pixel": {"image_size": 1, "auxiliary": False},
}  # fmt: skip


def make_model(
    *, mean: tuple = (123.0, 117.0, 104.0), std: tuple = (1.0, 1.0, 1.0), image_size: int, **fields
) -> LoadedModel:
    """A small network in which no parameter and no batch statistic is 0 or 1."""
    config = load_config(str(ROOT / "configs" / "googlenet.py")).unlock()
    config.data.update(image_size=image_size, mean=mean, std=std)
    config.model.update({"num_classes": 11, "width": 0.125, "architecture": "shallow"} | fields)
    config.evaluation.short_side = 256
    network = build(network_config(config))
    params, batch_stats = random_values(network, 0)
    return LoadedModel(
        checkpoint=Path("run/checkpoints/3"),
        step=3,
        config=config.lock(),
        class_names=tuple(f"class {label}" for label in range(config.model.num_classes)),
        network=network,
        params=params,
        batch_stats=batch_stats,
        weights="raw",
        description={"versions": {"jax": jax.__version__}},
        digest="",
    )


def random_values(network: Network, seed: int) -> tuple[Any, Any]:
    """Parameters and batch statistics, none of them 0 or 1."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (
            leaf * generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
            + generator.uniform(0.0, 0.1, leaf.shape).astype(np.float32) * (leaf.ndim == 1)
        ),
        network.initial(seed),
    )


def make_images(model: LoadedModel, count: int) -> np.ndarray:
    """uint8 [count, size, size, 3]."""
    size = model.config.data.image_size
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


def logits_of(model: LoadedModel, images: np.ndarray) -> np.ndarray:
    """Our network's logits, float32 [images, classes]."""

    @jax.jit
    def compute(params, batch_stats, images):
        images = normalize(images, model.config.data.mean, model.config.data.std)
        return model.network.apply(params, batch_stats, images, train=False)[0].logits

    return np.asarray(compute(model.params, model.batch_stats, images))


@functools.cache
def five_images(name: str) -> tuple[LoadedModel, np.ndarray, np.ndarray]:
    """One of NETWORKS, images and their logits."""
    model = make_model(**NETWORKS[name])
    images = make_images(model, 5)
    return model, images, logits_of(model, images)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def load(run: Path, weights: str | None = None) -> LoadedModel:
    return loaded_model.load(loaded_model.newest_in(run), devices.make_mesh(), weights)


@pytest.fixture(scope="module")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the digits with one checkpoint, which no training made."""
    config = load_config(
        "configs/digits.py",
        ["--config.model.architecture=shallow", "--config.model.width=0.125",
         f"--config.data.data_dir={data_dir}"],
    )  # fmt: skip
    network = build(network_config(config))
    raw, average = (
        dict(zip(("params", "batch_stats"), random_values(network, seed), strict=True))
        for seed in (1, 2)
    )
    folder = tmp_path_factory.mktemp("exported") / "run"
    names = [str(digit) for digit in range(10)]
    description = checkpoint_description(resolve(config), names, "digits")
    store.write(folder / "checkpoints" / "0", raw | {"average": average}, description)
    return folder


@dataclasses.dataclass(frozen=True)
class Digits:
    """The network of `run`, images, the first of them black, and their logits."""

    model: LoadedModel
    images: np.ndarray
    logits: np.ndarray


@pytest.fixture(scope="module")
def digits(run: Path) -> Digits:
    model = load(run)
    images = make_images(model, 17)
    images[0] = 0
    return Digits(model, images, logits_of(model, images))


def run_onnx(file: bytes, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and probabilities of uint8 images [batch, size, size, 3]."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(None, {"images": images.transpose(0, 3, 1, 2)})
    return logits, probabilities


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_gives_the_networks_logits_at_any_batch_size(name, tmp_path):
    model, images, expected = five_images(name)
    onnx_graph.write(model, tmp_path / "network.onnx")
    for count in (5, 1):
        file = (tmp_path / "network.onnx").read_bytes()
        logits, probabilities = run_onnx(file, images[:count])
        assert relative_error(logits, expected[:count]) < 1e-5
        np.testing.assert_allclose(probabilities, softmax(expected[:count]), rtol=1e-4, atol=1e-7)
    spread = np.abs(expected - expected[0])[1:].max() / np.abs(expected).max()
    assert spread > 1e-3  # the images matter: not only biases are compared


def test_onnx_keeps_our_names_and_says_what_a_deployer_needs(tmp_path):
    model = make_model(**NETWORKS["torchvision"])
    onnx_graph.write(model, tmp_path / "network.onnx")
    exported = onnx.load(tmp_path / "network.onnx")
    names = {output for node in exported.graph.node for output in node.output}
    rows = {layer.name for layer in network_cost(model.network.config).layers}
    assert rows - names == {"loss3/classifier"}  # which is the output, logits
    assert {"inception_3a/3x3_reduce", "inception_5a/pool_proj"} <= names
    weights = {weight.name: weight for weight in exported.graph.initializer}
    kernel = onnx.numpy_helper.to_array(weights["inception_3a/3x3/kernel"])
    ours = model.params["inception_3a"]["3x3"]["kernel"]
    np.testing.assert_array_equal(kernel.transpose(2, 3, 1, 0), ours)
    assert not any(name.startswith(("loss1", "loss2")) for name in weights)
    properties = {entry.key: json.loads(entry.value) for entry in exported.metadata_props}
    assert properties["class_names"] == list(model.class_names)
    assert (properties["image_size"], properties["checkpoint_step"]) == (71, 3)
    assert properties["preprocessing"] == {
        "resize": "short_side", "short_side": 256, "interpolation": "area", "crop": "center",
        "mean": [127.5, 120.0, 110.0], "std": [127.5, 60.0, 50.0],
    }  # fmt: skip
    assert properties["config"]["model"]["last_pool"] == 2


def test_onnx_of_a_bfloat16_network_computes_in_float32(tmp_path):
    model = make_model(**NETWORKS["paper"], dtype="bfloat16")
    onnx_graph.write(model, tmp_path / "network.onnx")
    _, images, expected = five_images("paper")
    logits, _ = run_onnx((tmp_path / "network.onnx").read_bytes(), images)
    assert relative_error(logits, expected) < 1e-5


@pytest.mark.breadth
def test_onnx_of_the_papers_network_at_full_size(tmp_path):
    model = make_model(architecture="googlenet", image_size=224, width=1.0, num_classes=1000)
    onnx_graph.write(model, tmp_path / "network.onnx")
    images = make_images(model, 2)
    logits, _ = run_onnx((tmp_path / "network.onnx").read_bytes(), images)
    assert relative_error(logits, logits_of(model, images)) < 1e-5


RUN_STABLEHLO = """
import sys
import jax, jax.export, numpy as np
with open("network.stablehlo", "rb") as file:
    exported = jax.export.deserialize(bytearray(file.read()))
images = np.load("images.npy")
for count in (1, 3, 17):
    np.save(f"logits_{count}.npy", exported.call(images[:count]))
print(exported.platforms, "stablehlo.convolution" in exported.mlir_module())
assert "inception_jax" not in sys.modules and "flax" not in sys.modules
"""


@pytest.mark.slow
def test_stablehlo_runs_without_this_package(command, run, digits, tmp_path):
    command(
        "export", "--workdir", run, "--to", "stablehlo",
        "--output", tmp_path / "network.stablehlo", devices=2,
    )  # fmt: skip
    np.save(tmp_path / "images.npy", digits.images)
    process = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", RUN_STABLEHLO],
        cwd=tmp_path, env=command.environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert process.stdout == "('cpu', 'cuda', 'tpu') True\n"
    for count in (1, 3, 17):
        logits = np.load(tmp_path / f"logits_{count}.npy")
        assert logits.dtype == np.float32
        assert relative_error(logits, digits.logits[:count]) < 1e-5


def test_stablehlo_gives_the_networks_logits_at_any_batch_size(digits, tmp_path):
    stablehlo.write(digits.model, tmp_path / "network.stablehlo")
    exported = jax.export.deserialize(bytearray((tmp_path / "network.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 17):
        logits = exported.call(digits.images[:count])
        assert logits.dtype == np.float32
        assert relative_error(np.asarray(logits), digits.logits[:count]) < 1e-5


def test_stablehlo_keeps_the_networks_dtype_between_bytes_and_float32():
    exported = stablehlo.to_exported(make_model(**NETWORKS["paper"], dtype="bfloat16"))
    assert re.search(r"stablehlo.convolution.*xbf16>", exported.mlir_module())
    assert [str(aval) for aval in exported.in_avals] == ["uint8[batch,75,75,3]"]
    assert [str(aval) for aval in exported.out_avals] == ["float32[batch,11]"]


def arrays_of(model: LoadedModel) -> dict[str, dict[str, Any]]:
    """Shape, dtype and checksum of each array."""
    tree = {"params": model.params, "batch_stats": model.batch_stats}
    return integrity.describe_arrays(tree)


def test_onnx_by_the_command(command, run, digits, tmp_path):
    output = tmp_path / "network.onnx"
    result = command("export", "--workdir", run, "--to", "onnx", "--output", output, process=True)
    assert result.stderr.splitlines()[-1] == f"wrote {output} ({output.stat().st_size:,} bytes)"
    logits, _ = run_onnx(output.read_bytes(), digits.images)
    assert relative_error(logits, digits.logits) < 1e-5


def test_safetensors_by_the_command(command, run, digits, tmp_path, monkeypatch, capsys):
    evaluation = json.loads(command("evaluate", "--workdir", run).stdout)
    folder = tmp_path / "digits"
    command("export", "--workdir", run, "--to", "safetensors", "--output", folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    tensors = load_file(folder / "model.safetensors")
    assert integrity.describe_arrays(tensors) == arrays_of(digits.model)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["7"] == "7"
    assert config["label2id"]["7"] == 7
    assert (config["norm"], config["width"]) == ("batch", 0.125)
    expected = compatibility.to_dict(digits.model.config)
    expected["data"]["data_dir"] = Path(expected["data"]["data_dir"]).name
    assert config["inception_jax"]["config"] == expected
    text = (folder / "README.md").read_text()
    front, card = split_card(text)
    entries = front["model-index"][0]["results"]  # other tests evaluate this run, too
    accuracies = [[metric["value"] for metric in entry["metrics"]] for entry in entries]
    assert [round(evaluation[name], 5) for name in ("top1", "top5")] in accuracies
    assert f"top-1 accuracy {evaluation['top1']:.4f}" in card
    assert "on 360 images" in card
    assert str(run) not in text + (folder / "config.json").read_text()
    program = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert program
    monkeypatch.chdir(folder)
    exec(program[1], {"__name__": "__main__"})
    printed = capsys.readouterr().out
    found = np.array(re.sub(r"[\[\]]", "", printed).split(), np.float32)
    assert relative_error(found, digits.logits[0]) < 1e-4  # of a black image


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """Front matter, parsed, and the rest of a card that has no placeholders left."""
    yaml = pytest.importorskip("yaml")
    assert not re.search(r"TODO|TBD|XXX|\bNone\b|\bnan\b|[{][{a-z_]|\bmore information\b", text)
    _, front, card = text.split("---\n", 2)
    return yaml.safe_load(front), card


def test_the_card_of_what_was_not_evaluated_says_so():
    model = make_model(**NETWORKS["paper"])
    front, card = split_card(model_card.write(model))
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "jax"
    assert front["datasets"] == ["imagenet2012"]
    assert "model-index" not in front
    assert "Not evaluated" in card
    costs = network_cost(model.network.config)
    assert f"{costs.parameters:,} parameters" in card
    assert f"{costs.multiply_adds / 1e6:,.1f} M multiply-adds" in card
    assert "| `model.width` | `1.0` | `0.125` |" in card
    assert "| `data.image_size` | `224` | `75` |" in card
    assert "model.norm" not in card


def test_the_card_lists_no_change_that_changes_no_weights():
    model = make_model(**NETWORKS["paper"])
    before = split_card(model_card.write(model))
    with model.config.unlocked():
        model.config.evaluations = {"ten": {"crops": 10, "every": "2 epochs"}}
        model.config.evaluation.update(crops=10, split="train[:9]", every="7 steps")
        model.config.checkpoints.keep_best = 9
    assert split_card(model_card.write(model)) == before
    with model.config.unlocked():
        model.config.evaluation.resize = "squeeze"  # what a user of the weights must know
    assert '| `evaluation.resize` | `"short_side"` | `"squeeze"` |' in model_card.write(model)


def test_batch_normalisations_inception_is_called_that(tmp_path):
    model = make_model(**NETWORKS["batch normalisation's Inception"])
    front, card = split_card(model_card.write(model))
    assert "bn_inception" in front["tags"]
    assert "BN-Inception (Inception v2) with batch normalisation" in card
    assert "1502.03167" in card
    assert "GoogLeNet (" not in card
    onnx_graph.write(model, tmp_path / "network.onnx")
    assert onnx.load(tmp_path / "network.onnx").graph.name == "BNInception"


def test_the_card_claims_no_training_that_was_none():
    converted = dataclasses.replace(
        make_model(**NETWORKS["torchvision"]),
        description={"versions": {"jax": "1"}, "source": {"format": "torchvision"}},
    )
    front, card = split_card(model_card.write(converted))
    assert "Converted from torchvision weights" in card
    assert "datasets" not in front
    assert " steps of" not in card
    random = make_model(**NETWORKS["paper"])
    with random.config.unlocked():
        random.config.data.source = "fake"
    front, card = split_card(model_card.write(random))
    assert "datasets" not in front
    assert "trained on random images" in card


def test_results_are_those_of_the_same_weights_alone(tmp_path):
    model = make_model(**NETWORKS["paper"])
    model = dataclasses.replace(model, checkpoint=tmp_path / "checkpoints" / "3", digest="a" * 64)
    result = {
        "top1": 0.5, "top5": 0.75, "examples": 1000, "crops": 1, "models": 1, "step": 3,
        "weights": "raw", "checkpoints": ["elsewhere/checkpoints/3"], "split": "validation",
        "digests": ["a" * 64],
        "overrides": [], "average": "probabilities",
    }  # fmt: skip
    others: list[dict[str, Any]] = [
        {"crops": 144, "overrides": ["--config.evaluation.short_side=300"], "average": "max"},
        {"weights": "average", "top1": 0.9},
        {"digests": ["b" * 64], "top1": 0.9},  # another checkpoint that lay in the same place
        {"digests": ["a" * 64, "b" * 64], "models": 2, "top1": 0.9},
    ]
    (tmp_path / "results").mkdir()
    for number, changes in enumerate([{}, *others]):
        text = json.dumps(result | changes)
        (tmp_path / "results" / f"evaluate_{number}.json").write_text(text)
    (tmp_path / "results" / "evaluate_broken.json").write_text("{")
    front, card = split_card(model_card.write(model))
    (entry,) = front["model-index"][0]["results"]  # that of the config as it is
    assert [metric["value"] for metric in entry["metrics"]] == [0.5, 0.75]
    assert card.count("top-1 accuracy 0.5000") == 2
    assert "144 crops, evaluation.short_side=300, average=max" in card
    assert "0.9000" not in card


def test_image_files_to_input_as_hugging_face_says_it():
    model = make_model(**NETWORKS["torchvision"])
    found = hugging_face.preprocessor_config(model)
    assert found["size"] == {"shortest_edge": 256}
    assert found["crop_size"] == {"height": 71, "width": 71}
    pixels = make_images(model, 1)
    scaled = (pixels * found["rescale_factor"] - found["image_mean"]) / found["image_std"]
    expected = normalize(jnp.asarray(pixels), model.config.data.mean, model.config.data.std)
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
    with model.config.unlocked():
        model.config.evaluation.update(resize="squeeze", interpolation="bilinear")
    found = hugging_face.preprocessor_config(model)
    assert found["size"] == {"height": 256, "width": 256}
    assert found["resample"] == 2


def test_weights_are_chosen(command, run, digits, tmp_path):
    output = tmp_path / "raw.onnx"
    result = command(
        "export", "--checkpoint", loaded_model.newest_in(run).path, "--to", "onnx",
        "--weights", "raw", "--output", output,
    )  # fmt: skip
    assert result.stderr.startswith("raw weights of ")
    weights = onnx.load(output).graph.initializer
    (bias,) = (weight for weight in weights if weight.name == "loss3/classifier/bias")
    raw, average = (
        model.params["loss3"]["classifier"]["bias"] for model in (load(run, "raw"), digits.model)
    )
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(bias), raw)
    assert np.any(raw != average)


def test_errors_are_one_line_and_leave_nothing(command: Command, run, tmp_path):
    taken = tmp_path / "taken.pth"
    taken.write_text("precious")
    arguments = ("--workdir", run, "--to", "torchvision", "--output")
    assert f"{taken} exists" in command.fails("export", *arguments, taken, exit_code=2)
    message = command.fails("export", *arguments, tmp_path / "new.pth", exit_code=2)
    assert "model.stem is 'small'" in message
    assert os.listdir(tmp_path) == [taken.name]
    assert taken.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("onnx", "onnx"),
        ("safetensors", "huggingface_hub"),
        ("safetensors", "safetensors"),
        ("stablehlo", "flatbuffers"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, package):
    for absent in (package, f"{package}.numpy"):
        monkeypatch.setitem(sys.modules, absent, None)  # importing it fails
    for module in (Path(formats.EXPORTED[name]).suffix[1:], "model_card"):  # to be imported anew
        monkeypatch.delitem(sys.modules, f"{interop.__name__}.{module}")
        monkeypatch.delattr(interop, module)
    message = rf"--to {name} needs the package {package}: pip install 'inception_jax\[interop\]'"
    with pytest.raises(UserError, match=message):
        export.load_format(name)


def write_and_fail(make: Callable[[Path], None], output: Path) -> None:
    with export.written_whole(output) as unfinished:
        make(unfinished)
        raise RuntimeError


def test_what_fails_half_way_leaves_nothing(tmp_path):
    for make in (Path.mkdir, Path.touch):
        with pytest.raises(RuntimeError):
            write_and_fail(make, tmp_path / "output")
        assert os.listdir(tmp_path) == []
    with pytest.raises(UserError, match="no folder"):
        write_and_fail(Path.touch, tmp_path / "missing" / "output")
