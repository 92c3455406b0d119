"""Every config in configs/: it builds, its training step does, and what it says of itself holds."""

import ast
import re
from pathlib import Path

import jax
import pytest
from conftest import ROOT

from inception_jax.config import configuration
from inception_jax.config.resolve import resolve
from inception_jax.errors import UsageError
from inception_jax.models.cost import network_cost
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.tasks.classification.batches import check_data
from inception_jax.tools.plan.compiled_step import describe_batch
from inception_jax.training.loop import make_plan, make_step

CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.py"))
ABLATIONS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs/ablations").glob("*.py"))


def small(path: Path) -> list[str]:
    """Overrides with which nothing depends on prepared data."""
    found = configuration.load(str(path))
    known = {"model.num_classes": (0, 10), "data.image_size": (0, 64)}
    fields = configuration.flatten(found.to_dict())
    changed = [f"--config.{f}={new}" for f, (asks, new) in known.items() if fields[f] == asks]
    if found.model.stem == "auto":
        changed.append("--config.model.stem=small")
    return [*changed, "--config.data.threads=1", "--config.evaluation.short_side=256"]


@pytest.mark.parametrize("path", [*CONFIGS, *ABLATIONS], ids=str)
@pytest.mark.parametrize(
    "modules", ["three_modules", pytest.param("all_modules", marks=pytest.mark.slow)]
)
def test_the_whole_training_step_can_be_traced(path, modules):
    config = configuration.load(str(path), small(path))
    if modules == "three_modules":  # narrow: the state is there, though nothing is computed
        config.model.width *= 0.125
        if config.model.architecture == "googlenet":
            config.model.architecture = "shallow"  # the modules between are more of the same
    assert config.is_locked
    config = resolve(config)
    check_data(config)
    mesh = devices.make_mesh()
    step, state = make_step(config, build(network_config(config)), make_plan(config, 60_000), mesh)
    after, metrics = jax.eval_shape(step, state, describe_batch(config, mesh))
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after)] == shapes
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_field_can_be_set_on_the_command_line(path):
    def another(value):
        match value:
            case bool():
                return not value
            case int():
                return value + 1
            case float():
                return value / 2 or 0.5
            case tuple():
                return (*value, 0.25)
        return f"{value} else"

    fields = configuration.flatten(configuration.load(str(path)).to_dict())
    changed = {field: another(value) for field, value in fields.items()}
    flags = [f"--config.{field}={value}" for field, value in changed.items()]
    assert configuration.flatten(configuration.load(str(path), flags).to_dict()) == changed


@pytest.mark.parametrize("path", ABLATIONS, ids=str)
@pytest.mark.parametrize("base", ["googlenet", "fashion_mnist"])
def test_an_ablation_changes_something_and_not_the_data(path, base):
    config = configuration.load(f"{path}:base={base}")
    original = configuration.load(f"configs/{base}.py")
    changed = configuration.differences(
        configuration.to_dict(original), configuration.to_dict(config)
    )
    assert config.name.startswith(f"{base}_{path.stem}")
    same = {("batch_norm", "fashion_mnist"), ("no_photometric", "fashion_mnist")}  # the base's own
    assert (len(changed) > 1) == ((path.stem, base) not in same)
    for field in ("data.name", "data.batch_size", "training.total", "schedule.learning_rate"):
        assert field not in changed


def multiply_adds(file: str) -> int:
    """Of an image in the network of a config."""
    return network_cost(network_config(configuration.load(file))).multiply_adds


def said_budget(path: Path) -> float:
    """In the docstring of an ablation: its multiply-adds by the base's."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    match = re.search(r"^Budget: (\d\.\d\d) of the base's multiply-adds", text, re.MULTILINE)
    assert match, f"{path} does not say whether its computation is the base's"
    return float(match[1])


def test_every_ablation_says_its_budget():
    assert all(0.1 < said_budget(path) < 10 for path in ABLATIONS)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem == "shallow" else pytest.mark.breadth)
        for path in ABLATIONS
    ],
    ids=str,
)
def test_the_budget_is_what_the_docstring_says(path):
    ours, base = multiply_adds(str(path)), multiply_adds("configs/googlenet.py")
    assert ours / base == pytest.approx(said_budget(path), abs=0.015)


@pytest.mark.breadth
@pytest.mark.parametrize("name", ["naive", "naive_3", "lower_modules", "shallow"])
def test_equal_budgets_hold_on_fashion_mnist_too(name):
    ours = multiply_adds(f"configs/ablations/{name}.py:base=fashion_mnist")
    base = multiply_adds("configs/fashion_mnist.py")
    assert ours / base == pytest.approx(1, abs=0.02)


def test_an_unknown_base_is_named():
    with pytest.raises(UsageError, match=r"base=gogglenet: there is no configs/gogglenet\.py"):
        configuration.load("configs/ablations/no_lrn.py:base=gogglenet")
    with pytest.raises(UsageError, match=r"base=\.\./x"):
        configuration.load("configs/ablations/no_lrn.py:base=../x")
