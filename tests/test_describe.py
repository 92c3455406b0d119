"""The describe command."""

import json

import pytest


def test_json_has_the_papers_numbers(command):
    found = json.loads(command("describe", "--config", "configs/googlenet.py", "--json").stdout)
    assert found["convolutions"] == 57
    assert found["parameters"] == 6_998_552
    assert found["training_parameters"] == 13_378_280
    assert found["multiply_adds"] / 1e6 == pytest.approx(1582.7, abs=0.05)
    assert sum(layer["parameters"] for layer in found["layers"]) == found["parameters"]
    assert sum(layer["multiply_adds"] for layer in found["layers"]) == found["multiply_adds"]
    shapes = {layer["name"]: layer["output"] for layer in found["layers"]}
    assert shapes["inception_4d"] == [14, 14, 528]


def test_table_and_overrides(command):
    overrides = ["--config.model.norm=batch", "--config.model.large_kernel=3"]
    table = command("describe", "--config", "configs/googlenet.py", *overrides).stdout
    assert "6,624,904" in table
    assert "57 convolutions, 1,498.4 M multiply-adds" in table


def test_an_unknown_config_file_is_named(command):
    line = command.fails("describe", "--config", "configs/goglenet.py", exit_code=2)
    assert "no config file 'configs/goglenet.py'" in line


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "prepare", "describe"])
def test_help_fits_one_screen(command, name):
    assert len(command(name, "--help").stdout.splitlines()) < 30
