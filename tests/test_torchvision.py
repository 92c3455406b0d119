"""Weights to and from torchvision's own class, random in weights and statistics.

`make soak` runs these. PyTorch is imported inside: the file is collected without it, too.
"""

import argparse
from pathlib import Path
from typing import Any

import converted
import numpy as np
import pytest
import safetensors.numpy

from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import make_description
from inception_jax.config.load import load_config
from inception_jax.errors import UserError
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.tools.interop import torchvision
from inception_jax.tools.interop.published import CONFIGS

pytestmark = pytest.mark.torch

TOLERANCE = 1e-4
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# Without transform_input the network is shown what Normalize makes.
WITHOUT_TRANSFORM = [
    f"--config.data.{name}=({', '.join(str(255 * value) for value in values)})"
    for name, values in IMAGENET.items()
]


def make_module(*, auxiliary=True, transform_input=True, classes=1000) -> Any:
    """torchvision's module in evaluation, every layer's activations alive, statistics not exact."""
    import torch
    from torchvision.models import googlenet

    torch.manual_seed(0)
    module = googlenet(
        weights=None, init_weights=False, aux_logits=auxiliary, num_classes=classes,
        transform_input=transform_input,
    )  # fmt: skip
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0.1, 0.3)
    with torch.no_grad():
        module.train()(as_torch(converted.images(224)))  # statistics of these activations
        for count, norm in enumerate(norms):
            norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn(norm.num_features)
            norm.running_var *= torch.exp(0.3 * torch.randn(norm.num_features))
            norm.num_batches_tracked.fill_(1000 + count)
    return module.eval()


def as_torch(pictures: np.ndarray) -> Any:
    """Images as torchvision's transforms make them."""
    import torch
    from torchvision.transforms import Normalize

    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    return Normalize(**IMAGENET)(images)


def torch_outputs(module: Any, pictures: np.ndarray) -> list[np.ndarray]:
    """Logits of the main head, and of aux1 and aux2 if there are any, all in evaluation."""
    import torch

    features: list[Any] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        features.append(output)

    heads = [] if module.aux1 is None else [module.aux1, module.aux2]
    layers = [module.inception4a, module.inception4d]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        outputs = [module(as_torch(pictures))]
        outputs += [head(x) for head, x in zip(heads, features, strict=False)]
    for hook in hooks:
        hook.remove()
    return [output.numpy() for output in outputs]


def save(module: Any, path: Path, **options: Any) -> Path:
    import torch

    torch.save(module.state_dict(), path, **options)
    return path


@pytest.mark.parametrize("transform_input", [True, False])
@pytest.mark.parametrize(
    ("size", "auxiliary"), [(224, True), (224, False), (225, True), (192, True)]
)
def test_logits_are_torchvisions(size, auxiliary, transform_input, tmp_path):
    module = make_module(auxiliary=auxiliary, transform_input=transform_input)
    overrides = [f"--config.data.image_size={size}"]
    overrides += [] if transform_input else WITHOUT_TRANSFORM
    file = save(module, tmp_path / "googlenet.pth")
    model = converted.load(converted.run("torchvision", file, tmp_path / "checkpoint", *overrides))
    assert model.network.config.auxiliary is auxiliary
    pictures = converted.images(size)
    expected = torch_outputs(module, pictures)
    assert len(expected) == (3 if auxiliary else 1)
    for ours, theirs in zip(converted.outputs(model, pictures), expected, strict=True):
        assert np.abs(theirs[0] - theirs[1]).max() > 0.1 * np.abs(theirs).max()
        assert converted.relative_error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_torchvision_to_ours_to_torchvision(auxiliary, suffix, tmp_path):
    import torch

    module = make_module(auxiliary=auxiliary, classes=37)
    file = save(module, tmp_path / "googlenet.pth")
    override = "--config.model.num_classes=37"
    model = converted.load(converted.run("torchvision", file, tmp_path / "one", override))
    back = tmp_path / f"back{suffix}"
    torchvision.write(model, back)
    if suffix == ".pth":
        returned = torch.load(back, weights_only=True)
    else:
        arrays = safetensors.numpy.load_file(back)
        returned = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    state = module.state_dict()
    assert returned.keys() == state.keys()
    for name, tensor in state.items():
        assert returned[name].dtype == tensor.dtype
        assert torch.equal(returned[name], tensor), name
    assert not list(tmp_path.glob("*.partial"))


def test_ours_to_torchvision_to_ours(tmp_path):
    """Weights of our own training: their counters are 0, and torchvision's class takes them."""
    import torch
    from torchvision.models import googlenet

    config = load_config(
        str(CONFIGS / "torchvision.py"),
        ["--config.model.num_classes=10", "--config.training.average_decay=0.0"],
    )
    params, batch_stats = build(network_config(config)).initial(3)
    names = tuple(map(str, range(10)))
    description = make_description(config, names, data_fingerprint="x")
    store.write(tmp_path / "own", {"params": params, "batch_stats": batch_stats}, description)
    own = converted.load(tmp_path / "own")
    torchvision.write(own, tmp_path / "own.pth")

    state = torch.load(tmp_path / "own.pth", weights_only=True)
    assert {int(count) for name, count in state.items() if "num_batches" in name} == {0}
    module = googlenet(
        weights=None, init_weights=False, aux_logits=True, num_classes=10, transform_input=False
    ).eval()
    module.load_state_dict(state)
    pictures = converted.images(224)
    with torch.no_grad():
        theirs = module(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
    assert converted.relative_error(converted.outputs(own, pictures)[0], theirs) < TOLERANCE

    again = converted.run(
        "torchvision", tmp_path / "own.pth", tmp_path / "again", "--config.model.num_classes=10"
    )
    arrays = [store.read_description(path)["arrays"] for path in (tmp_path / "own", again)]
    assert arrays[0] == arrays[1]


def test_state_dicts_of_every_kind_are_the_same(tmp_path):
    """PyTorch's older form, a training script's checkpoint, a parallel module, bfloat16."""
    import torch

    module = make_module(auxiliary=False, classes=5)
    state = module.state_dict()
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    contents = {
        "new.pth": (state, {}),
        "old.pth": (state, {"_use_new_zipfile_serialization": False}),
        "script.pth": ({"model": state, "epoch": 3, "optimizer": {"state": {}}}, {}),
        "parallel.pt": ({"state_dict": parallel}, {}),
    }
    arrays = []
    for name, (content, options) in contents.items():
        torch.save(content, tmp_path / name, **options)
        output = converted.run(
            "torchvision", tmp_path / name, tmp_path / f"{name}.checkpoint",
            "--config.model.num_classes=5",
        )  # fmt: skip
        arrays.append(store.read_description(output)["arrays"])
    assert all(one == arrays[0] for one in arrays)
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in state.items()}
    torch.save(half, tmp_path / "half.pth")
    model = converted.load(
        converted.run(
            "torchvision", tmp_path / "half.pth", tmp_path / "half", "--config.model.num_classes=5"
        )
    )
    np.testing.assert_array_equal(
        model.params["loss3"]["classifier"]["bias"], state["fc.bias"].bfloat16().float().numpy()
    )


def test_bad_files_are_called_what_they_are(tmp_path):
    import torch

    module = make_module(auxiliary=False, classes=5)
    whole, old = tmp_path / "whole.pth", tmp_path / "old.pth"
    torch.save(module.state_dict(), whole)
    torch.save(module.state_dict(), old, _use_new_zipfile_serialization=False)
    flipped = bytearray(whole.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    contents = {
        "flipped.pth": (bytes(flipped), "is wrong"),
        "half.pth": (whole.read_bytes()[:1_000_000], "truncated or damaged"),
        "half_old.pth": (old.read_bytes()[:1_000_000], "is damaged"),
        "head_old.pth": (old.read_bytes()[:5_000], "is damaged"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    torch.save(module, tmp_path / "module.pth")
    torch.save({"model": module.state_dict(), "args": argparse.Namespace()}, tmp_path / "args.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    messages = {name: message for name, (_, message) in contents.items()} | {
        "module.pth": "would run code",
        "args.pth": "would run code",
        "list.pth": "is a list and not a state dict",
    }
    for name, message in messages.items():
        with pytest.raises(UserError) as error:
            converted.run("torchvision", tmp_path / name, tmp_path / "out")
        assert message in str(error.value), name
        assert str(tmp_path / name) in str(error.value)
        assert not (tmp_path / "out").exists()


def test_another_network_of_torchvision_is_refused(tmp_path):
    from torchvision.models import resnet18

    file = save(resnet18(weights=None), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"missing: conv1\..*; not part of it: bn1"):
        converted.run("torchvision", file, tmp_path / "out")


def test_the_command(command, tmp_path, data_dir):
    file = save(make_module(), tmp_path / "googlenet.pth")
    output = tmp_path / "checkpoint"
    result = command("convert", "--from", "torchvision", "--weights", file, "--output", output)
    assert "13,004,888 parameters, with auxiliary heads" in result.stderr
    samples = data_dir / "digits_samples"
    assert len(command("predict", "--checkpoint", output, "--images", samples).stdout.splitlines())
