"""Every config in configs/: it builds, its training step does, and what it says of itself holds."""

import ast
import re
from pathlib import Path

import jax
import pytest
from conftest import ROOT

from inception_jax.config import checking, compatibility, rules
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.errors import UsageError
from inception_jax.models.cost import network_cost
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.tasks import make_task
from inception_jax.tools.plan.compiled_step import describe_batch
from inception_jax.training.setup import make_step
from inception_jax.training.timetable import make_timetable

CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.py"))
ABLATIONS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs/ablations").glob("*.py"))


def small(path: Path) -> list[str]:
    """Overrides with which nothing depends on prepared data."""
    found = load_config(str(path))
    known = {"model.num_classes": (0, 10), "data.image_size": (0, 64)}
    fields = compatibility.flatten(found.to_dict())
    changed = [f"--config.{f}={new}" for f, (asks, new) in known.items() if fields[f] == asks]
    if found.model.stem == "auto":
        changed.append("--config.model.stem=small")
    return [*changed, "--config.data.threads=1"]


@pytest.mark.parametrize("path", [*CONFIGS, *ABLATIONS], ids=str)
@pytest.mark.parametrize(
    "modules", ["three_modules", pytest.param("all_modules", marks=pytest.mark.slow)]
)
def test_the_whole_training_step_can_be_traced(path, modules):
    config = load_config(str(path), small(path))
    if modules == "three_modules":  # narrow: the state is there, though nothing is computed
        config.model.width *= 0.125
        if config.model.architecture == "googlenet":
            config.model.architecture = "shallow"  # the modules between are more of the same
    assert config.is_locked
    config = resolve(config)
    mesh = devices.make_mesh()
    step, state = make_step(
        make_task(config),
        config,
        build(network_config(config)),
        make_timetable(config, 60_000),
        mesh,
    )
    after, metrics = jax.eval_shape(step, state, describe_batch(config, mesh))
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after)] == shapes
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_field_can_be_set_on_the_command_line(path):
    def another(field, value):
        """Another value that the field may have."""
        if field == "evaluation.short_side":
            return 999  # no less than the image size
        match checking.find(field).rule, value:
            case rules.OneOf(choices), _:
                return next(choice for choice in choices if choice != value)
            case rules.SomeOf(choices), _:
                return choices[-1:]
            case rules.Interval(), _:
                return (0.375, 0.625)
            case rules.Colour(), _:
                return (1.5, 2.5, 3.5)
            case rules.Duration(), _:
                return "7 epochs"
            case rules.LayerFactors(), _:
                return (("conv", 0.25),)
            case _, bool():
                return not value
            case _, int():
                return value + 1
            case _, float():
                return value / 2 or 0.5
        return f"{value} else"

    fields = compatibility.flatten(load_config(str(path)).to_dict())
    only_one = fields.pop("task")
    changed = {field: another(field, value) for field, value in fields.items()}
    assert all(changed[field] != value for field, value in fields.items())
    flags = [f"--config.{field}={value}" for field, value in changed.items()]
    found = compatibility.flatten(load_config(str(path), flags).to_dict())
    assert found == changed | {"task": only_one}


@pytest.mark.parametrize("path", ABLATIONS, ids=str)
@pytest.mark.parametrize("base", ["googlenet", "fashion_mnist"])
def test_an_ablation_changes_something_and_not_the_data(path, base):
    config = load_config(f"{path}:base={base}")
    original = load_config(f"configs/{base}.py")
    changed = compatibility.differences(
        compatibility.to_dict(original), compatibility.to_dict(config)
    )
    assert config.name.startswith(f"{base}_{path.stem}")
    same = {("batch_norm", "fashion_mnist"), ("no_photometric", "fashion_mnist")}  # the base's own
    assert (len(changed) > 1) == ((path.stem, base) not in same)
    for field in ("data.name", "data.batch_size", "training.total", "schedule.learning_rate"):
        assert field not in changed


def multiply_adds(file: str) -> int:
    """Of an image in the network of a config."""
    return network_cost(network_config(load_config(file))).multiply_adds


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
        load_config("configs/ablations/no_lrn.py:base=gogglenet")
    with pytest.raises(UsageError, match=r"base=\.\./x"):
        load_config("configs/ablations/no_lrn.py:base=../x")
