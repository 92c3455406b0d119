"""Configs: arguments, overrides, errors, and the way to JSON and back."""

import pytest

from inception_jax.config import compatibility
from inception_jax.config.load import load_config
from inception_jax.errors import UsageError

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
        ("configs/googlenet.py", ["--config.model.width=nan"], "model.width is nan"),
        ("configs/googlenet.py", ["--config.seed=-1"], "seed is -1; it may be from 0"),
        ("configs/googlenet.py", ["--config.data.batch_size=0"], "data.batch_size is 0"),
        ("configs/googlenet.py", ["--config.optimizer.momentum=nan"], "optimizer.momentum is nan"),
        ("configs/googlenet.py", ["--config.checkpoints.keep_last=0"], "keep_last is 0"),
    ],
)
def test_mistakes_are_named_in_one_line(path, overrides, message):
    with pytest.raises(UsageError) as error:
        load_config(path, overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


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


def test_configs_of_older_checkpoints_are_completed_with_what_they_did():
    """A checkpoint from before photometric distortions was trained without any."""
    new = compatibility.to_dict(load_config("configs/digits.py"))
    old = {name: value for name, value in new.items() if name != "photometric"}
    for field in YOUNGER:
        section, _, name = field.rpartition(".")
        if section in old:
            old[section] = {key: value for key, value in old[section].items() if key != name}
    del old["task"], old["evaluations"]
    completed = compatibility.from_dict(old)
    assert completed.photometric.brightness == (1.0, 1.0)
    assert completed.data.exact_decoding is True
    assert completed.evaluation.bad_images == "error"
    assert set(compatibility.flatten(completed.to_dict())) == set(compatibility.flatten(new))
    changed = compatibility.differences(old, new)
    assert set(changed) == {"data.exact_decoding"}


def test_differences_ignore_only_where_the_data_lies():
    old = compatibility.to_dict(load_config("configs/digits.py"))
    overrides = ["--config.data.data_dir=/elsewhere", "--config.optimizer.momentum=0.5"]
    new = compatibility.to_dict(load_config("configs/digits.py", overrides))
    assert compatibility.differences(old, new) == {"optimizer.momentum": (0.9, 0.5)}
