"""Paths: a URL is refused wherever a path can be given, and ordinary names with colons are not."""

import argparse
import importlib
from pathlib import Path

import pytest
from conftest import ROOT
from ml_collections import ConfigDict

from inception_jax import cli, paths
from inception_jax.config import compatibility
from inception_jax.config.load import load_config, override_config
from inception_jax.data.tfds_source import TfdsSource
from inception_jax.errors import UsageError
from inception_jax.launching import sweep, sweeps

URL = "gs://bucket/x"
COMMANDS = sorted(
    path.stem
    for path in (ROOT / "inception_jax").glob("*.py")
    if "def make_parser" in path.read_text()
)

# Other text. `load_config` and `sweeps.read_sweep` refuse URLs of the first three.
NOT_PATHS = {"config", "compare", "sweep", "split", "name", "data", "module", "topology"}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "text",
    ["gs://b/x", "s3://b/x", "hdfs://host:9000/x", "https://a.org/x.zip", "file:///data/x",
     "GS://b/x", "gs://", " gs://b", "abfss://c@a.net/x", "other+new://x",
     "gs:/b/x", "s3:/b/x", "hdfs:/x", "https:/a.org/x", "file:/data/x", "S3:/b"],
)  # fmt: skip
def test_a_url_is_refused_in_one_line_that_names_it(text):
    for refuse in (paths.check, paths.to_path):
        with pytest.raises(UsageError) as error:
            refuse(text)
        assert repr(text) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"^data\.data_dir: '"):
        paths.to_path(text, "data.data_dir")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("gs://b/x", "mount it (a bucket: with gcsfuse or mount-s3)"),
        ("s3:/b/x", "mount it (a bucket: with gcsfuse or mount-s3)"),
        ("https://a.org/x.zip", "download it and give the file"),
        ("file:///data/x", "give '/data/x'"),
        ("file:/data/x", "give '/data/x'"),
    ],
)
def test_the_remedy_fits_the_scheme(text, remedy):
    with pytest.raises(UsageError) as error:
        paths.to_path(text)
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["runs/a:b", "./gs:x", "gs:x", "gs", "12:30", "12:/30", "C:/data", r"C:\data", "runs/gs://x",
     "./gs:/x", "/gs:/x", "a:/b", "data:/x", "résumé:1", "x=gs://b", ":", "//host/x"],
)  # fmt: skip
def test_a_name_with_a_colon_is_a_path(text):
    assert paths.to_path(text) == Path(text)


def test_home_is_expanded_and_an_empty_path_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.to_path("~/runs") == Path("/home/me/runs")
    with pytest.raises(UsageError, match=r"model\.init_from: an empty path"):
        paths.to_path("", "model.init_from")
    with pytest.raises(UsageError, match="'~no such user/x'"):
        paths.to_path("~no such user/x")


@pytest.mark.parametrize(
    ("kind", "text"),
    [(cli.path, URL), (cli.paths, f"runs/a,{URL}"), (cli.paths, f"{URL},runs/a"),
     (cli.file_to_write, "gs:/x.html"), (cli.picture_to_write, "s3://b/x.png")],
)  # fmt: skip
def test_a_flag_names_itself(kind, text):
    parser = cli.Parser("")
    parser.add_argument("--thing", type=kind)
    with pytest.raises(UsageError, match=r"argument --thing: .*mount it"):
        parser.parse_args([f"--thing={text}"])


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """It and those of its subcommands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [one for sub in action.choices.values() for one in parsers(sub)]
    return found


def takes(action: argparse.Action, text: str) -> bool:
    """Whether a flag has a value, and `text` may be it."""
    if action.nargs == 0 or action.choices is not None:
        return False
    try:
        (action.type or str)(text)  # type: ignore[operator]
    except (argparse.ArgumentTypeError, UsageError, ValueError):
        return False
    return True


def refuse_urls(parser: argparse.ArgumentParser) -> bool:
    """A new flag has to use one of the types in cli.py, or to be in NOT_PATHS."""
    actions = [action for one in parsers(parser) for action in one._actions]
    return {action.dest for action in actions if takes(action, URL)} <= NOT_PATHS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_a_command_that_takes_a_path_refuses_a_url(monkeypatch, name):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # report sets it where it is not there
    assert refuse_urls(importlib.import_module(f"inception_jax.{name}").make_parser())


def test_a_sweeps_folder_is_here():
    assert refuse_urls(sweep.make_parser())


def test_a_flag_of_any_text_would_be_found():
    parser = argparse.ArgumentParser()
    for add in (parser.add_argument, parser.add_subparsers().add_parser("x").add_argument):
        assert refuse_urls(parser)
        flag = add("--folder")
        assert not refuse_urls(parser)
        flag.type = cli.path
    assert {"train", "evaluate", "predict", "prepare", "report", "doctor", "plan"} <= {*COMMANDS}


@pytest.mark.parametrize("text", [URL, "gs:/bucket/x", f"{URL}.py:batch_size=3", "s3://b/x.py"])
def test_a_config_or_a_sweep_is_a_file_here(text):
    for load in (load_config, sweeps.read_sweep):
        with pytest.raises(UsageError, match=r"mount it"):
            load(text)


def test_a_sweeps_configs_are_files_here(tmp_path):
    file = tmp_path / "sweep.py"
    file.write_text(
        "from inception_jax.launching.sweeps import config\n"
        f"def sweep():\n    return config('{URL}.py', 'far')\n"
    )
    with pytest.raises(UsageError, match=r"sweep\.py, far: 'gs://bucket/x\.py' .*mount it"):
        sweeps.read_sweep(str(file))


def test_the_home_folder_may_have_configs(monkeypatch):
    monkeypatch.setenv("HOME", str(ROOT))
    assert load_config("~/configs/googlenet.py:batch_size=8").data.batch_size == 8


@pytest.mark.parametrize("field", ["data.data_dir", "model.init_from"])
def test_a_field_that_is_a_path_is_checked_when_a_config_is_read(tmp_path, field):
    refused = rf"^{field}: '{URL}' .*mount it"
    with pytest.raises(UsageError, match=refused):
        load_config("configs/smoke.py", [f"--config.{field}={URL}"])
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs import smoke\n"
        "def get_config(argument=None):\n"
        "    config = smoke.get_config(argument)\n"
        f"    config.{field} = '{URL}'\n"
        "    return config\n"
    )
    with pytest.raises(UsageError, match=refused):
        load_config(str(file))
    local = load_config(str(file), [f"--config.{field}=runs/a:b"])
    assert compatibility.flatten(local.to_dict())[field] == "runs/a:b"


def test_an_empty_data_dir_is_named_and_an_empty_init_from_means_none():
    for text, message in (("", "an empty path"), ("~no such user/x", "a user who")):
        with pytest.raises(UsageError, match=rf"^data\.data_dir: .*{message}"):
            load_config("configs/smoke.py", [f"--config.data.data_dir={text}"])
    assert load_config("configs/smoke.py", ["--config.model.init_from="])


def older_config() -> ConfigDict:
    """Of a checkpoint from when gs://b was a folder called gs: in the current one."""
    values = compatibility.to_dict(load_config("configs/digits.py"))
    values["data"]["data_dir"] = URL
    return compatibility.from_dict(values)


def test_older_checkpoints_stay_readable():
    config = override_config(older_config(), ["--config.seed=3"])
    assert config.data.data_dir == URL
    with pytest.raises(UsageError, match=r"data\.data_dir: .*mount it"):
        TfdsSource.from_config(config.data, "train")
    with pytest.raises(UsageError, match=r"model\.init_from: .*mount it"):
        override_config(older_config(), [f"--config.model.init_from={URL}"])
    assert override_config(older_config(), ["--config.data.data_dir=/data"])


def test_text_becomes_a_path_in_one_place_only():
    found = [
        str(file.relative_to(ROOT))
        for folder in ("inception_jax", "launch")
        for file in (ROOT / folder).rglob("*.py")
        if "expanduser" in file.read_text()
    ]
    assert found == ["inception_jax/paths.py"]
