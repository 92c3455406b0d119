"""The benchmark command on tiny data: its measurements and output, never a speed."""

import functools
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from conftest import ROOT, Command

from inception_jax.data.sources import Example
from inception_jax.errors import UserError
from inception_jax.models.network import build
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.tools.benchmark import startup_time, step_time, throughput
from inception_jax.tools.benchmark.input_time import PARTS
from inception_jax.tools.benchmark.jpeg_sample import SAMPLE, Sample, jpeg_files
from inception_jax.tools.benchmark.peers import process

QUICK = [
    "--seconds", "0.2", "--repeats", "1",
    "--config.data.threads=2", "--config.data.batch_size=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with `photos`: 24 JPEG files of two classes."""
    folder = tmp_path_factory.mktemp("photos")
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), (120, 90))
    for label in ("a", "b"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(12):
            path = folder / "images" / label / f"{number}.jpg"
            cv2.imwrite(str(path), np.roll(smooth, 7 * number, axis=1))
    command("prepare", "folder", "--images", folder / "images", "--data_dir", folder,
            "--name", "photos")  # fmt: skip
    return folder


def check_statistics(value: dict, repeats: int) -> None:
    assert 0 < value["min"] <= value["median"] <= value["max"]
    assert len(value["repeats"]) == repeats


def test_input_without_a_peer(command, data_dir):
    result = command("benchmark", "input", "--config", "configs/digits.py", "--json", *QUICK,
                     f"--config.data.data_dir={data_dir}")  # fmt: skip
    found = json.loads(result.stdout)
    (digits,) = found["data"]
    assert (digits["name"], digits["split"], digits["images"]) == ("digits", "train", 1437)
    assert (found["threads"], found["batch_size"], found["image_size"]) == (2, 4, 16)
    assert found["peer"] is None
    assert found["machine"]["cpus"] == os.cpu_count()
    for name in PARTS:
        check_statistics(digits[f"{name}_images_per_second"], repeats=1)
    assert digits["resident_mb"]["start"] > 0
    assert digits["resident_mb"]["end"] > 0
    assert not any("tf_data" in field or "ratio" in field for field in digits)


@pytest.mark.soak
def test_input_beside_tf_data(command, photos):
    result = command("benchmark", "input", "--data", "photos", "photos", "--peer", "tf.data",
                     "--json", *QUICK, "--repeats", "2",
                     f"--config.data.data_dir={photos}")  # fmt: skip
    found = json.loads(result.stdout)
    assert found["interpolations"] == ["bilinear"]
    assert "bilinear in both" in result.stderr
    assert found["peer"]["name"] == "tf.data"
    first, second = found["data"]
    for entry in (first, second):
        for name in (*PARTS, "tf_data"):
            check_statistics(entry[f"{name}_images_per_second"], repeats=2)
            check_statistics(entry[f"{name}_cpu_ms_per_image"], repeats=2)
    ours, theirs = (
        second["pipeline_images_per_second"]["repeats"],
        first["tf_data_images_per_second"]["repeats"],
    )
    expected = [our / their for our, their in zip(ours, theirs, strict=True)]
    assert second["ratio_to_first"]["repeats"] == pytest.approx(expected)
    assert first["ratio"] == first["ratio_to_first"]


@pytest.mark.soak
def test_a_table_for_a_person_and_interpolations_that_were_asked_for(command, photos):
    result = command("benchmark", "input", "--data", "photos", "--peer", "tf.data", *QUICK,
                     "--split", "validation", "--config.data.interpolations=('area', 'cubic')",
                     f"--config.data.data_dir={photos}")  # fmt: skip
    assert "bilinear" not in result.stdout + result.stderr
    for words in ("split validation", "ratio to tf.data", "limits the pipeline", "area, cubic"):
        assert words in result.stdout


def test_random_images_need_no_files(command):
    arguments = ("input", "--config", "configs/smoke.py", "--json", *QUICK)
    result = command("benchmark", *arguments, process=True)
    assert json.loads(result.stdout)["data"][0]["pipeline_images_per_second"]["median"] > 0


def test_errors_are_one_line(command, data_dir):
    here = f"--config.data.data_dir={data_dir}"
    missing = command.fails("benchmark", "input", "--data", "nothing", here, exit_code=1)
    assert "no prepared data 'nothing'" in missing
    unknown = command.fails("benchmark", "input", "--peer", "dali", here, exit_code=2)
    assert "tf.data" in unknown
    seconds = command.fails("benchmark", "input", "--seconds", "0", here, exit_code=2)
    assert "0 is not positive" in seconds
    peer = ("--data", "digits", "--peer", "tf.data", here)
    digits = command.fails("benchmark", "input", *peer, exit_code=1)
    assert "is not a JPEG file" in digits
    caffe = command.fails("benchmark", "input", *peer, "--config.data.crop=caffe", exit_code=2)
    assert "data.crop" in caffe


@pytest.mark.soak
def test_tensorflow_is_imported_by_the_peer_alone(command, photos, tmp_path):
    """With a decoy that cannot be imported: the peer alone reports it, in one line."""
    decoy = tmp_path / "tensorflow"
    decoy.mkdir()
    (decoy / "__init__.py").write_text(
        f"import os\nopen({str(tmp_path / 'imported')!r}, 'a').write(f'{{os.getppid()}}\\n')\n"
        "raise ImportError('decoy')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "inception_jax.benchmark", "input", "--data", "photos",
         "--peer", "tf.data", f"--config.data.data_dir={photos}", *QUICK],
        cwd=ROOT, env=command.environment() | {"PYTHONPATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert stdout == ""
    last = stderr.splitlines()[-1]
    assert last == "error: tf.data: decoy; pip install '.[prepare]' installs TensorFlow"
    assert (tmp_path / "imported").read_text() == f"{process.pid}\n"


class Images:
    """A source of empty JPEG files; those of some numbers are PNG."""

    class_names: tuple[str, ...] = ("a",)
    fingerprint = "none"

    def __init__(self, examples: int, others: Iterable[int] = ()):
        self._examples, self._others = examples, set(others)

    def __len__(self) -> int:
        return self._examples

    def read(self, indices: Iterable[int]) -> list[Example]:
        return [
            Example(b"PNG" if index in self._others else b"\xff\xd8", (index,), f"example {index}")
            for index in indices
        ]


def test_a_sample_is_spread_over_the_split_and_keeps_to_jpeg():
    assert jpeg_files(Images(300, others=[7]), SAMPLE) == [*range(7), *range(8, 300)]
    chosen = jpeg_files(Images(1_281_167), SAMPLE)
    assert len(chosen) <= SAMPLE < 1.01 * len(chosen)
    assert np.ptp(np.diff(chosen)) == 0
    assert 1_281_167 - chosen[-1] < 2 * chosen[1]
    with pytest.raises(UserError, match="example 3 is not a JPEG file"):
        jpeg_files(Images(300, others=[3, 4, 5, 6]), SAMPLE)


def test_a_sample_reads_its_own_examples():
    sample = Sample(Images(300), [10, 20, 30])
    assert len(sample) == 3
    assert [example.label for example in sample.read([2, 0])] == [30, 10]


def test_a_speed_does_not_count_what_was_read_ahead(monkeypatch):
    """With a clock moved by batches: the first three take no time, all others half a second."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def batches():
        for number in range(1000):
            now[0] += 0.0 if number < 3 else 0.5
            yield number

    assert throughput.measure(batches(), 32, 3, 10.0).images_per_second == 64


def test_evaluate_over_many_crops(command, data_dir):
    arguments = ["--config", "configs/digits.py", f"--config.data.data_dir={data_dir}",
                 "--config.model.architecture=shallow", "--config.model.width=0.125",
                 "--crops", "10"]  # fmt: skip
    result = command("benchmark", "evaluate", "--json", *QUICK, *arguments)
    found = json.loads(result.stdout)
    assert (found["crops"], found["batch_size"], found["image_size"]) == (10, 4, 16)
    names = ("images_per_second", "one_crop_images_per_second", "forward_images_per_second",
             "crops_per_second", "relative_cost", "share_of_forward")  # fmt: skip
    for name in names:
        check_statistics(found[name], repeats=1)
    many, one, forward, crops, relative, share = (found[name]["median"] for name in names)
    assert crops == pytest.approx(10 * many)
    assert relative == pytest.approx(one / (10 * many))
    assert share == pytest.approx(10 * many / forward)
    assert (
        "cost relative to 10 x 1 crop"
        in command("benchmark", "evaluate", *QUICK, *arguments).stdout
    )


STEP = ("benchmark", "step", "--config", "configs/smoke.py", "--batch_size", "4", *QUICK[:4])


def test_steps_and_forward_passes(command):
    found = json.loads(command(*STEP, "--json").stdout)
    assert (found["config_name"], found["batch_size"], found["peer"]) == ("smoke", 4, None)
    check_statistics(found["train_images_per_second"], repeats=1)
    check_statistics(found["forward_images_per_second"], repeats=1)
    assert not any("ratio" in field for field in found)


# A peer that measures nothing, and reports or fails as its work says.
PEER = """
from inception_jax.tools.benchmark import throughput
from inception_jax.tools.benchmark.peers import answering

spec = answering.read_spec()
if spec["image_size"] == 81:
    answering.answer(error="81 pixels")
answering.answer(ready={"version": "1.0", "batch_size": spec["batch_size"]})
if spec["image_size"] == 82:
    raise SystemExit("no more")
answering.serve(lambda: throughput.Speed(100.0, 1.0))
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path) -> None:
    """Replaces the program of the peer called plain."""
    (tmp_path / "peer.py").write_text(PEER)
    monkeypatch.setitem(process.PROGRAMS, "plain", (str(tmp_path / "peer.py"),))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_steps_beside_a_peer(command, stand_in, monkeypatch):
    """With stand-ins for this package's steps, which other tests run."""
    monkeypatch.setattr(step_time, "_training_steps", lambda *_: itertools.repeat(None))
    monkeypatch.setattr(step_time, "forward_passes", lambda *_: itertools.repeat(None))
    found = json.loads(command(*STEP, "--peer", "plain", "--repeats", "2", "--json").stdout)
    assert found["peer"] == {"name": "plain", "version": "1.0"}
    for work in ("train", "forward"):
        ours = found[f"{work}_images_per_second"]["repeats"]
        theirs = found[f"peer_{work}_images_per_second"]["repeats"]
        assert theirs == [100.0, 100.0]
        assert found[f"{work}_ratio"]["repeats"] == pytest.approx([our / 100 for our in ours])
    table = command(*STEP, "--peer", "plain").stdout
    for words in ("images/s, training", "ratio to plain", "devices: cpu"):
        assert words in table


def test_a_peer_that_cannot_says_why(stand_in):
    spec = {"batch_size": 4}
    with (
        pytest.raises(UserError, match="plain: 81 pixels"),
        process.start("plain", spec | {"image_size": 81}),
    ):
        pass
    with process.start("plain", spec | {"image_size": 82}) as peer:
        assert peer.about["batch_size"] == 4
        with pytest.raises(UserError, match="plain ended with exit code 1: no more"):
            peer.measure()


@pytest.mark.soak
def test_steps_beside_the_plain_program(command):
    flags = (
        "--peer",
        "plain",
        "--repeats",
        "2",
        "--config.data.image_size=80",
        "--config.evaluation.short_side=0",
    )
    found = json.loads(command(*STEP, *flags, "--json").stdout)
    assert found["peer"]["name"] == "plain"
    for work in ("train", "forward"):
        ours = found[f"{work}_images_per_second"]["repeats"]
        theirs = found[f"peer_{work}_images_per_second"]["repeats"]
        expected = [our / their for our, their in zip(ours, theirs, strict=True)]
        assert found[f"{work}_ratio"]["repeats"] == pytest.approx(expected)


@pytest.mark.soak
@pytest.mark.torch
def test_steps_beside_torchvision(command):
    flags = (
        "--peer",
        "torchvision",
        "--config.data.image_size=80",
        "--config.evaluation.short_side=0",
    )
    result = command(*STEP, *flags)
    for words in ("images/s, training", "ratio to torchvision", "devices: cpu"):
        assert words in result.stdout


def test_the_plain_program_computes_the_papers_network():
    spec = importlib.util.spec_from_file_location("plain_googlenet", process.PLAIN)
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    network = build(GoogLeNetConfig(num_classes=10, image_size=80))
    params, batch_stats = network.initial(seed=0)
    shapes = jax.tree.map(np.shape, plain.initial_params(10, 80))
    assert shapes == jax.tree.map(np.shape, params)
    images = 60 * jax.random.normal(jax.random.key(0), (2, 80, 80, 3))
    ours = jax.jit(functools.partial(network.apply, train=False))(params, batch_stats, images)
    (theirs,) = jax.jit(functools.partial(plain.googlenet, key=None))(params, images)
    np.testing.assert_allclose(ours[0].logits, theirs, rtol=1e-4, atol=1e-4)


def test_starts_by_turns(command, monkeypatch):
    """Five starts with invented times: one that does not count, and two of each kind."""
    seconds = iter([(9, 9), (2, 8), (1, 2), (2, 4), (1, 3)])
    caches = []

    def start(file, overrides, folder, cache):
        caches.append(cache.name)
        return next(seconds)

    monkeypatch.setattr(startup_time, "_start", start)
    arguments = ("benchmark", "startup", "--config", "configs/smoke.py", "--repeats", "2")
    found = json.loads(command(*arguments, "--json").stdout)
    assert caches == ["first", "cache_0", "cache_0", "cache_1", "cache_1"]
    assert found["cold_start_seconds"]["repeats"] == [8, 4]
    assert found["warm_start_seconds"]["repeats"] == [2, 3]
    assert found["warm_prepared_seconds"]["repeats"] == [1, 1]
    assert found["warm_to_cold"]["repeats"] == [0.25, 0.75]
    seconds = iter([(9, 9), (2, 8), (1, 2), (2, 4), (1, 3)])
    table = command(*arguments).stdout
    for words in ("start of smoke", "to the end of step 1, nothing compiled", "warm to cold"):
        assert words in table


@pytest.mark.slow
def test_cold_and_warm_starts(command):
    arguments = ("--config", "configs/smoke.py", "--repeats", "1", "--json")
    found = json.loads(command("benchmark", "startup", *arguments).stdout)
    for kind in ("cold", "warm"):
        check_statistics(found[f"{kind}_start_seconds"], repeats=1)
        prepared, start = (
            found[f"{kind}_{what}_seconds"]["median"] for what in ("prepared", "start")
        )
        assert prepared < start
    warm, cold = (found[f"{kind}_start_seconds"]["median"] for kind in ("warm", "cold"))
    assert found["warm_to_cold"]["repeats"] == [warm / cold]


def test_a_start_that_fails_says_why(command, tmp_path):
    config = tmp_path / "broken.py"
    config.write_text(
        "from configs import smoke\n\n\ndef get_config(argument=None):\n"
        "    config = smoke.get_config()\n    config.model.stem = 'imagenet'\n    return config\n"
    )
    message = command.fails("benchmark", "startup", "--config", config, exit_code=1)
    assert "train ended before its first step: error: data.image_size 16" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),  # smoke saves twice, in ten steps and two evaluations
    [("record_cost.py", r"metrics: .* 12 calls\ncheckpoints: .* 2 calls\nthe end: .* 1 calls"),
     ("step_overhead.py", r"\d ms a call")],
)  # fmt: skip
def test_scripts_run(script, said):
    path = ROOT / "tests" / "benchmarks" / script
    result = subprocess.run(
        [sys.executable, path, "--config", "configs/smoke.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert re.search(said, result.stdout)
