"""Configs: arguments, overrides, errors, further evaluations, and the way to JSON and back."""

import dataclasses
import importlib.metadata
import math
import subprocess
import sys
import types

import pytest
from conftest import ROOT

from inception_jax.config import checking, compatibility, docs_table, rules, task_registry
from inception_jax.config.declaration import option
from inception_jax.config.load import load_config, override_config
from inception_jax.config.resolve import evaluation_sections, resolve
from inception_jax.data.augmentation import random_crop
from inception_jax.errors import UsageError
from inception_jax.models.initialization import INITIALIZATIONS
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.tables import ARCHITECTURES, AUXILIARY_HEADS, NAIVE, STEMS
from inception_jax.tasks.classification import evaluation_crops
from inception_jax.training.learning_rate import SCHEDULES

# Fields that the first version did not have; those of `photometric` are not among them.
YOUNGER = (
    *("model.init_from", "model.architecture", "model.batch_norm_bias", "model.auxiliary_after"),
    *("model.padding", "model.last_pool", "model.auxiliary_pool", "data.crop"),
    *("data.exact_decoding", "data.max_bad_fraction", "optimizer.learning_rate_factors"),
    *("optimizer.decay_all", "training.label_smoothing", "training.mixup", "training.watchdog"),
    *("evaluation.bad_images", "evaluation.resize", "evaluation.interpolation"),
    "evaluation.crops",
)
CONFIGS = ["configs/googlenet.py", "configs/digits.py", "configs/smoke.py"]

FURTHER = """
from configs import smoke
def get_config(argument=None):
    config = smoke.get_config(argument)
    config.evaluations = {
        "ten_crops": {"crops": 10, "every": "8 epochs"},
        "train": {"split": "train[:20]", "short_side": 0},
        "same": {},
    }
    return config
"""


@pytest.fixture
def further(tmp_path) -> str:
    """A config file with three further evaluations."""
    path = tmp_path / "further.py"
    path.write_text(FURTHER)
    return str(path)


@pytest.mark.parametrize("path", CONFIGS)
def test_json_and_back_changes_nothing(path):
    config = load_config(path)
    again = compatibility.from_dict(compatibility.to_dict(config))
    assert again == config
    assert again.data.crop_area == config.data.crop_area  # a tuple still


def test_arguments_are_typed_and_scale_the_learning_rate():
    config = load_config("configs/googlenet.py:batch_size=256,runlocal")
    assert config.schedule.learning_rate == pytest.approx(0.08)
    assert config.data.source == "fake"
    plain = load_config("configs/googlenet.py")
    assert (plain.data.batch_size, plain.schedule.learning_rate) == (32, 0.01)


def test_a_derived_configs_own_arguments_count():
    config = load_config("configs/digits.py:batch_size=128")
    assert config.data.batch_size == 128
    assert config.schedule.learning_rate == pytest.approx(0.2)


def test_overrides_reach_any_depth():
    config = load_config(
        "configs/googlenet.py",
        [
            "--config.seed=7",
            "--config.data.crop_area=(0.5, 1.0)",
            "--config.training.total=3 epochs",
        ],
    )
    assert config.seed == 7
    assert config.data.crop_area == (0.5, 1.0)
    assert config.training.total == "3 epochs"


def test_overrides_leave_the_config_alone_that_they_start_from():
    config = load_config("configs/smoke.py")
    assert override_config(config, ["--config.seed=5"]).seed == 5
    assert config.seed == 0


@pytest.mark.parametrize(
    ("path", "overrides", "message"),
    [
        ("configs/nothing.py", [], "no config file 'configs/nothing.py'"),
        ("configs/googlenet.py:batchsize=3", [], "did you mean 'batch_size'"),
        ("configs/googlenet.py:batch_size=many", [], "batch_size=many: expected int"),
        ("configs/googlenet.py", ["--config.sed=1"], "did you mean 'seed'"),
        ("configs/googlenet.py", ["--config.model.nrm=lrn"], "did you mean 'model.norm'"),
        ("configs/googlenet.py", ["--config.momentum=0"], "did you mean 'optimizer.momentum'"),
        ("configs/googlenet.py", ["--config.seed=x"], "--config.seed=x"),
        ("configs/googlenet.py", ["--config.seed.x=1"], "unknown config field 'seed.x'"),
        ("configs/smoke.py:batch_size=8", [], "unknown config argument 'batch_size'"),
        ("configs/googlenet.py", ["--config.=1"], "unknown config field ''"),
        ("configs/googlenet.py", ["--config.task=clasification"], "did you mean 'classification'"),
        ("configs/googlenet.py", ["--config.evaluations.x.every=1"], "did you mean 'evaluation."),
    ],
)
def test_mistakes_are_named_in_one_line(path, overrides, message):
    with pytest.raises(UsageError) as error:
        load_config(path, overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("seed", "-1", "may be from 0 to 4294967295"),
        ("model.norm", "layer", "may be 'lrn' or 'batch' or 'none'"),
        ("model.width", "nan", "may be from 0.001 to 1000"),
        ("model.dropout", "1.0", "may be from 0 to less than 1"),
        ("model.auxiliary_after", "('inception_4b',)", "may be any of 'inception_4a', "),
        ("data.source", "web", "may be 'tfds' or 'fake'"),
        ("data.batch_size", "0", "may be from 1 up"),
        ("data.threads", "5000", "may be from 0 to 1024"),
        ("data.interpolations", "('linear',)", "may be one or more of 'bilinear', "),
        ("data.interpolations", "()", "may be one or more of 'bilinear', "),
        ("data.crop", "alexnet", "may be 'inception' or 'caffe'"),
        ("data.crop_area", "(0.0, 1.0)", "may be (least, most), above 0 and at most 1"),
        ("data.crop_area", "(8, 100)", "may be (least, most), above 0 and at most 1"),
        ("data.crop_aspect_ratio", "(2.0, 1.0)", "may be (least, most), above 0"),
        ("data.crop_aspect_ratio", "(1.0, 1e999)", "may be (least, most), above 0"),
        ("data.mean", "(1.0, 'a', 1.0)", "may be three numbers for R, G and B, each any finite"),
        ("data.std", "(1.0,)", "may be three numbers for R, G and B, each above 0"),
        ("data.std", "(0.0, 1.0, 1.0)", "may be three numbers for R, G and B, each above 0"),
        ("photometric.contrast", "(-0.5, 1.0)", "may be (least, most), from 0 up"),
        ("optimizer.momentum", "nan", "may be from 0 to 1"),
        ("optimizer.learning_rate_factors", "('conv1',)", "may be pairs like ('conv1', 0.1)"),
        ("optimizer.learning_rate_factors", "(('conv1', 'slow'),)", "may be pairs like"),
        ("optimizer.learning_rate_factors", "(('conv1', -1.0),)", "may be pairs like"),
        ("schedule.name", "linear", "may be 'staircase' or 'cosine' or 'polynomial'"),
        ("training.total", "60", "may be a duration like '60 steps'"),
        ("evaluation.every", "8 weeks", "may be a duration like '60 steps'"),
        ("evaluation.crops", "7", "may be 1 or 10 or 144"),
        ("evaluation.resize", "crop", "may be 'short_side' or 'squeeze'"),
        ("evaluation.interpolation", "cubic", "may be 'area' or 'bilinear'"),
        ("evaluation.bad_images", "skip", "may be 'error' or 'wrong'"),
        ("checkpoints.keep_last", "0", "may be from 1 up"),
    ],
)
def test_values_that_are_not_allowed_are_named_with_what_is(field, value, allowed):
    with pytest.raises(UsageError) as error:
        load_config("configs/smoke.py", [f"--config.{field}={value}"])
    assert str(error.value).startswith(f"{field} is ")
    assert f"; it {allowed}" in str(error.value)


FLOATS = [
    path
    for path, one in checking.declared("classification").items()
    if isinstance(one.default, float)
]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_float_is_finite(value):
    values = compatibility.to_dict(load_config("configs/smoke.py"))
    assert len(FLOATS) > 10
    for field in FLOATS:
        section, _, name = field.partition(".")
        with pytest.raises(UsageError, match=f"^{field} is "):
            compatibility.from_dict(values | {section: values[section] | {name: value}})


def test_values_of_another_type_in_a_file_are_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import smoke\n"
        "def get_config(argument=None):\n"
        "    config = smoke.get_config().unlock()\n"
        "    with config.ignore_type():\n"
        "        config.seed = True\n"
        "    return config\n"
    )
    with pytest.raises(UsageError, match=r"^seed is True; it takes int$"):
        load_config(str(path))


def test_a_config_cannot_invent_fields(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import googlenet\n"
        "def get_config(argument=None):\n"
        "    config = googlenet.get_config(argument)\n"
        "    config.model.wdth = 0.5\n"
        "    return config\n"
    )
    with pytest.raises(UsageError, match="wdth"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.evaluation.short_side=15"], "evaluation.short_side 15 is less than data.ima"),
        (["--config.model.architecture=bn_inception", "--config.model.large_kernel=3"],
         "model.large_kernel is for the modules of Table 1"),
    ],
)  # fmt: skip
def test_fields_that_do_not_fit_one_another_are_named(overrides, message):
    with pytest.raises(UsageError, match=message):
        load_config("configs/smoke.py", overrides)


def test_images_of_an_evaluation_follow_the_networks_input():
    """256/224 of it, as in section 7: the centre that is cut has the same share of the image."""

    def short_side(config, *overrides):
        return resolve(load_config(config, overrides)).evaluation.short_side

    assert short_side("configs/googlenet.py") == 256
    assert short_side("configs/googlenet.py", "--config.data.image_size=112") == 128
    assert short_side("configs/googlenet.py", "--config.evaluation.short_side=320") == 320
    assert short_side("configs/digits.py", "--config.data.image_size=20") == 20
    resized = resolve(load_config("configs/googlenet.py", ["--config.data.image_size=96"]))
    again = override_config(resized, ["--config.data.image_size=64"])
    assert resolve(again).evaluation.short_side == 110  # what was decided stays


def test_further_evaluations_take_the_other_fields_from_the_first(further):
    overrides = ["--config.evaluation.bad_images=wrong", "--config.evaluation.short_side=40"]
    config = resolve(load_config(further, overrides))
    sections = evaluation_sections(config)
    assert list(sections) == ["", "same", "ten_crops", "train"]
    assert sections[""] == sections["same"] == config.evaluation
    assert sections["ten_crops"].to_dict() == config.evaluation.to_dict() | {
        "crops": 10,
        "every": "8 epochs",
    }
    assert sections["train"].short_side == 16  # left open in it alone
    assert sections["train"].bad_images == "wrong"
    assert evaluation_sections(load_config("configs/smoke.py")).keys() == {""}


def test_further_evaluations_can_be_overridden_and_go_through_json(further):
    overrides = [
        "--config.evaluations.ten_crops.every=2 epochs",
        "--config.evaluations.ten_crops.split=test[:10]",  # not named in the file
        "--config.evaluation.split=validation",
    ]
    config = load_config(further, overrides)
    again = compatibility.from_dict(compatibility.to_dict(config))
    assert again == config
    sections = evaluation_sections(again)
    assert (sections["ten_crops"].every, sections["ten_crops"].split) == ("2 epochs", "test[:10]")
    assert sections["same"].split == "validation"
    old = compatibility.to_dict(load_config(further))
    changed = compatibility.differences(old, compatibility.to_dict(config))
    assert changed["evaluations.ten_crops.every"] == ("8 epochs", "2 epochs")
    tolerant = load_config(further, ["--config.evaluations.same.bad_images=wrong"])
    assert compatibility.differences(old, compatibility.to_dict(tolerant)) == {}


@pytest.mark.parametrize(
    ("evaluations", "message"),
    [
        ('{"a": {"evry": "1 epochs"}}', "evaluations.a.evry'; did you mean 'evaluations.a.every'"),
        ('{"a": {"crops": 7}}', "evaluations.a.crops is 7; it may be 1 or 10 or 144"),
        ('{"a": {"every": 5}}', "evaluations.a.every is 5; it takes str"),
        ('{"a": {"short_side": 15}}', "evaluations.a.short_side 15 is less than data.image_size"),
        ('{"a b": {}}', "evaluations has 'a b'; a name is letters, digits and _"),
        ('{"a": 5}', "evaluations.a is 5; it takes fields of evaluation"),
    ],
)
def test_mistakes_in_further_evaluations_are_named(tmp_path, evaluations, message):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import smoke\n"
        "def get_config(argument=None):\n"
        "    config = smoke.get_config()\n"
        f"    config.evaluations = {evaluations}\n"
        "    return config\n"
    )
    with pytest.raises(UsageError) as error:
        load_config(str(path))
    assert message in str(error.value)


def test_configs_of_older_checkpoints_are_completed_with_what_they_did():
    """A checkpoint from before photometric distortions was trained without any."""
    new = compatibility.to_dict(load_config("configs/digits.py"))
    old = {name: value for name, value in new.items() if name != "photometric"}
    for field in YOUNGER:
        section, _, name = field.rpartition(".")
        old[section] = {key: value for key, value in old[section].items() if key != name}
    del old["task"], old["evaluations"]
    completed = compatibility.from_dict(old)
    assert completed.photometric.brightness == (1.0, 1.0)
    assert completed.data.exact_decoding is True
    assert completed.evaluation.bad_images == "error"
    assert completed.task == "classification"
    assert evaluation_sections(completed) == {"": completed.evaluation}
    assert set(compatibility.flatten(completed.to_dict())) == set(compatibility.flatten(new))
    changed = compatibility.differences(old, new)
    assert set(changed) == {"data.exact_decoding"}


def test_only_what_decides_nothing_may_differ_when_a_run_goes_on():
    old = compatibility.to_dict(load_config("configs/digits.py"))
    overrides = [
        "--config.data.data_dir=/elsewhere",
        "--config.data.threads=3",
        "--config.data.max_bad_fraction=0.5",
        "--config.evaluation.bad_images=wrong",
        "--config.training.watchdog=1.0",
        "--config.optimizer.momentum=0.5",
    ]
    new = compatibility.to_dict(load_config("configs/digits.py", overrides))
    assert compatibility.differences(old, new) == {"optimizer.momentum": (0.9, 0.5)}


@pytest.mark.parametrize("task", [[], {"a": 1}, 5, None, "nothing"])
def test_a_task_that_is_not_there_is_named(task):
    values = compatibility.to_dict(load_config("configs/smoke.py")) | {"task": task}
    with pytest.raises(UsageError, match=r"unknown task .*known are classification"):
        compatibility.from_dict(values)


@dataclasses.dataclass(frozen=True)
class Beads:
    """A section of a task outside the package."""

    most: int = option(0, "most beads in an image", range=(0, 99), left_open=0)
    colour: str = option("red", "colour of the beads", choices=("red", "blue"), legacy="blue")


@pytest.fixture
def counting(monkeypatch):
    """A task of another package, which brings a section and asks its data."""
    module = types.ModuleType("counting_task")
    vars(module).update(
        SECTIONS={"beads": Beads},
        fields_from_data=lambda config: {"beads.most": 12},
        make_task=NotImplemented,
    )
    monkeypatch.setitem(sys.modules, "counting_task", module)
    point = importlib.metadata.EntryPoint("counting", "counting_task", task_registry.ENTRY_POINTS)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [point] if group == point.group else []
    )
    checking.declared.cache_clear()
    yield
    checking.declared.cache_clear()


@pytest.mark.usefixtures("counting")
def test_a_task_of_another_package_brings_its_section():
    config = override_config(checking.default_config("counting"), ["--config.beads.colour=red"])
    assert (config.task, config.beads.most, config.model.width) == ("counting", 0, 1.0)
    assert resolve(config).beads.most == 12
    with pytest.raises(UsageError, match=r"beads\.most is 100; it may be from 0 to 99"):
        override_config(config, ["--config.beads.most=100"])
    with pytest.raises(UsageError, match=r"did you mean 'beads\.colour'"):
        override_config(config, ["--config.beads.color=red"])
    values = compatibility.to_dict(config)
    assert compatibility.from_dict(values) == config
    del values["beads"]["colour"]
    assert compatibility.from_dict(values).beads.colour == "blue"
    with pytest.raises(UsageError, match="unknown task 'countin'; did you mean 'counting'"):
        checking.default_config("countin")
    with pytest.raises(UsageError, match=r"unknown config field 'beads\.most'"):
        compatibility.from_dict(values | {"task": "classification"})


def test_the_choices_are_those_of_the_code():
    """Each of these tables is looked up with the value of a field."""
    tables = {
        "model.architecture": ARCHITECTURES,
        "model.stem": [*STEMS, "auto"],
        "model.module": NAIVE,
        "model.auxiliary_after": AUXILIARY_HEADS,
        "model.initialization": INITIALIZATIONS,
        "data.crop": random_crop.TRAINING_CROPS,
        "data.interpolations": random_crop.INTERPOLATIONS,
        "schedule.name": SCHEDULES,
        "evaluation.crops": evaluation_crops.PROTOCOLS,
        "evaluation.resize": evaluation_crops.RESIZES,
        "evaluation.interpolation": evaluation_crops.INTERPOLATIONS,
    }
    for path, table_of_code in tables.items():
        rule = checking.find(path).rule
        assert isinstance(rule, rules.OneOf | rules.SomeOf)
        assert set(rule.choices) == set(table_of_code), path
    assert GoogLeNetConfig.auxiliary_after == tuple(AUXILIARY_HEADS)


def test_every_default_is_allowed():
    for path, one in checking.declared("classification").items():
        assert one.error(one.default) == "", path
        assert one.reason, path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "auto"}, "model.stem is 'auto'; only a config may leave it open"),
        ({"num_classes": 0}, "model.num_classes is 0; only a config may leave it open"),
        ({"image_size": 0}, "data.image_size is 0; only a config may leave it open"),
        ({"image_size": -3}, "data.image_size is -3; it may be from 0 up"),
        ({"width": "wide"}, "model.width is 'wide'; it takes float or int"),
    ],
)
def test_the_networks_options_leave_nothing_open(options, message):
    with pytest.raises(UsageError) as error:
        GoogLeNetConfig(**options)
    assert str(error.value) == message


def test_the_table_of_fields_is_current():
    page = ROOT / "docs" / "reference" / "config.md"
    update = "python -m inception_jax.config.docs_table > docs/reference/config.md"
    assert page.read_text() == docs_table.markdown(), update


def test_configs_wait_for_nothing_large():
    script = """
import sys
from inception_jax.config import compatibility, load, resolve, docs_table
config = resolve.resolve(load.load_config("configs/googlenet.py", ["--config.seed=1"]))
compatibility.from_dict(compatibility.to_dict(config))
large = {"jax", "flax", "optax", "cv2", "tensorflow_datasets", "grain", "PIL"}
assert not large & sys.modules.keys(), large & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_a_config_file_of_an_older_version_is_read(tmp_path):
    """It imports what had another name, and lacks fields that came later."""
    file = tmp_path / "old.py"
    file.write_text(
        "from configs import googlenet\n"
        "from inception_jax.configuration import parse_ablation, parse_arguments\n\n"
        "def get_config(argument=None):\n"
        "    arguments = parse_arguments(argument, seed=3)\n"
        "    config = googlenet.get_config().unlock()\n"
        "    config.seed = arguments.seed\n"
        "    del config.task, config.evaluations, config.evaluation.crops\n"
        "    return config\n"
    )
    old, new = load_config(f"{file}:seed=5"), load_config("configs/googlenet.py")
    assert compatibility.differences(new.to_dict(), old.to_dict()) == {"seed": (0, 5)}
    assert (old.task, old.evaluation.crops, old.evaluations.to_dict()) == ("classification", 1, {})


def test_an_empty_section_is_not_passed_over():
    with pytest.raises(UsageError, match="unknown config section 'trainin'; did you mean 'train"):
        checking.check(checking.default_config().to_dict() | {"trainin": {}})
    checking.check(checking.default_config().to_dict() | {"evaluations": {"again": {}}})
