"""The evaluate command: every example once, at any batch size and number of devices."""

import io
import json
import re
import shutil
import types
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
import written_out
from PIL import Image

from inception_jax.checkpoints import loaded_model, store
from inception_jax.config.load import load_config
from inception_jax.data.decode import decode
from inception_jax.data.preparing import records, verification
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError
from inception_jax.tasks.classification import every_checkpoint, results
from inception_jax.tasks.classification.evaluation import EvaluationSpec

SCALED = "--config.evaluation.short_side=24"  # so that the crops of a digit differ


@pytest.fixture(scope="module")
def newest(digits_run) -> Path:
    return loaded_model.newest_in(digits_run).path


def digits(checkpoint: Path, split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Images and labels of what a checkpoint was trained on."""
    source = open_source(written_out.load(checkpoint).config.data, split, 10)
    examples = source.read(range(len(source)))
    images = [decode(example.encoded, example.name) for example in examples]
    return images, np.array([example.label for example in examples])


def measured(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracies and loss of probabilities [examples, classes]."""
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    return {
        "top1": np.mean(ranked[:, 0] == labels),
        "top5": np.mean((ranked[:, :5] == labels[:, None]).any(1)),
        "loss": -np.log(probabilities[np.arange(len(labels)), labels]).mean(),
    }


def check(found: dict[str, Any], expected: dict[str, float], examples: int) -> None:
    assert found["examples"] == examples
    assert found["top1"] == pytest.approx(expected["top1"], abs=1e-12)
    assert found["top5"] == pytest.approx(expected["top5"], abs=1e-12)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def printed(result) -> dict[str, Any]:
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("examples", "batches"),
    [
        (150, [(100, 2), (64, 1)]),
        pytest.param(13, [(8, 4), (100, 1)], marks=pytest.mark.slow),
        pytest.param(64, [(64, 2), (100, 4)], marks=pytest.mark.slow),
        pytest.param(360, [(100, 2), (64, 1), (7, 4)], marks=pytest.mark.slow),
    ],
)
def test_counts_and_accuracy_do_not_depend_on_batches_and_devices(
    command, digits_run, newest, examples, batches
):
    split = f"test[:{examples}]"
    images, labels = digits(newest, split)
    logits = written_out.logits(newest, images, short_side=16, crops=1)
    expected = measured(written_out.averaged([logits]), labels)
    assert expected["top1"] > 0.3
    assert expected["top1"] < 1 or examples < 360
    for batch_size, count in batches:
        result = command(
            "evaluate", "--workdir", digits_run, "--split", split,
            f"--config.data.batch_size={batch_size}", devices=count,
        )  # fmt: skip
        check(printed(result), expected, examples)


@pytest.fixture(scope="module")
def ten_crops(newest, second_network) -> tuple[list[np.ndarray], np.ndarray]:
    """Logits of both networks over ten crops of 50 images, one by one; and the labels."""
    images, labels = digits(newest, "test[:50]")
    logits = [
        written_out.logits(checkpoint, images, short_side=24, crops=10)
        for checkpoint in (newest, second_network)
    ]
    return logits, labels


@pytest.mark.parametrize(
    ("batch_size", "count"),
    [
        (64, 1),
        pytest.param(8, 4, marks=pytest.mark.slow),
        pytest.param(100, 2, marks=pytest.mark.slow),
    ],
)
def test_an_ensemble_over_ten_crops_does_not_depend_on_batch_and_devices(
    command, newest, second_network, ten_crops, tmp_path, batch_size, count
):
    """The same command again prints the same numbers, and what it saves is what it counted."""
    logits, labels = ten_crops

    def evaluate(checkpoints: str, *arguments: object) -> dict[str, Any]:
        result = command(
            "evaluate", "--checkpoint", checkpoints, "--split", "test[:50]", "--crops", 10, SCALED,
            f"--config.data.batch_size={batch_size}", *arguments, devices=count,
        )  # fmt: skip
        return printed(result)

    file = tmp_path / "predictions.npz"
    found = evaluate(f"{newest},{second_network}", "--save_predictions", file)
    probabilities = written_out.averaged(logits)
    check(found, measured(probabilities, labels), 50)
    assert (found["models"], found["crops"]) == (2, 10)
    assert found["weights"] == "average/raw"
    with np.load(file, allow_pickle=False) as saved:
        assert saved["index"].tolist() == list(range(50))
        np.testing.assert_array_equal(saved["labels"], np.eye(10)[labels])
        assert saved["log_probabilities"].dtype == np.float32
        np.testing.assert_allclose(
            np.exp(np.float64(saved["log_probabilities"])), probabilities, rtol=2e-4
        )
        assert not saved["bad"].any()
        assert saved["class_names"].tolist() == list("0123456789")
    assert list(tmp_path.iterdir()) == [file]
    if count == 1:
        highest = evaluate(str(newest), "--average", "max")
        check(highest, measured(written_out.averaged(logits[:1], "max"), labels), 50)
        again = evaluate(f"{newest},{second_network}", "--save_predictions", file)
        found.pop("images_per_second")
        again.pop("images_per_second")
        assert again == found


def test_the_table_has_fewer_crops_and_each_network_too(command, newest, second_network, ten_crops):
    """One command, and what separate ones would count."""
    logits, labels = ten_crops
    result = command(
        "evaluate", "--checkpoint", f"{newest},{second_network}", "--split", "test[:50]",
        "--crops", 10, "--table", SCALED,
    )  # fmt: skip
    found = printed(result)
    expected = []
    for networks in ((0,), (0, 1), (1,)):
        for crops in (1, 10):
            ten = [written_out.OF_144[10].index(number) for number in written_out.OF_144[crops]]
            chosen = [logits[network][:, ten] for network in networks]
            counted = measured(written_out.averaged(chosen), labels)
            expected.append((1 - counted["top5"], 1 - counted["top1"]))
    table = found["table"]
    errors = [(row["top5_error"], row["top1_error"]) for row in table]
    np.testing.assert_allclose(errors, expected, atol=1e-12)
    differences = [row["difference"] for row in table]
    np.testing.assert_allclose(differences, [one - errors[0][0] for one, _ in errors], atol=1e-12)
    assert [(row["networks"], row["models"], row["crops"], row["cost"]) for row in table] == [
        ([1], 1, 1, 1), ([1], 1, 10, 10), ([1, 2], 2, 1, 2), ([1, 2], 2, 10, 20), ([2], 1, 1, 1),
        ([2], 1, 10, 10),
    ]  # fmt: skip
    assert len(set(expected)) > 3  # there is something to confuse
    assert found["top1"] == pytest.approx(1 - expected[3][1])
    alone = printed(command("evaluate", "--checkpoint", newest, "--split", "test[:50]", SCALED))
    assert errors[0] == (1 - alone["top5"], 1 - alone["top1"])

    written = [Path(line.removeprefix("wrote ")) for line in result.stderr.splitlines()[-3:]]
    assert [path.suffix for path in written] == [".json", ".md", ".png"]
    assert json.loads(written[0].read_text())["table"] == table
    lines = written[1].read_text().splitlines()
    assert lines[0] == "digits on test[:50], 50 images"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:10]]
    assert [row[:3] for row in cells] == [
        ["1", "1", "1"], ["1", "10", "10"], ["2", "1", "2"], ["2", "10", "20"], ["1", "1", "1"],
        ["1", "10", "10"],
    ]  # fmt: skip
    assert [row[3] for row in cells] == [f"{top5:.2%}" for top5, _ in expected]
    assert [row[5] for row in cells] == [f"{top1:.2%}" for _, top1 in expected]
    assert cells[0][4] == "base"
    shown = [float(row[4]) for row in cells[1:]]
    np.testing.assert_allclose(shown, 100 * np.array(differences[1:]), atol=0.0051)
    assert [row[6] for row in cells] == ["1", "1", "1+2", "1+2", "2", "2"]
    assert lines[-2:] == [f"1. `{newest}`", f"2. `{second_network}`"]
    for row in cells:
        assert row[3] in result.stderr  # the same table, for a person
    picture = np.asarray(Image.open(written[2]))
    assert 300 < picture.shape[0] < 2000
    assert 300 < picture.shape[1] < 2000
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10


@pytest.mark.slow
def test_a_table_over_the_papers_crops_is_what_separate_commands_count(
    command, newest, second_network
):
    """In other batches, and on one device instead of more than there are CPUs.

    Many crops are many calls that wait in line; if devices of one CPU waited for one another there,
    they would do so for ever.
    """

    def evaluate(checkpoints: str, crops: int, *arguments: str, devices: int) -> dict[str, Any]:
        return printed(
            command(
                "evaluate", "--checkpoint", checkpoints, "--split", "test[:50]", SCALED,
                "--crops", crops, *arguments, devices=devices,
            )
        )  # fmt: skip

    both = f"{newest},{second_network}"
    table = evaluate(both, 144, "--table", devices=8)["table"]
    assert len(table) == 9
    for row in table:
        checkpoints = {(1,): str(newest), (2,): str(second_network), (1, 2): both}
        name = checkpoints[tuple(row["networks"])]
        alone = evaluate(name, row["crops"], "--config.data.batch_size=23", devices=1)
        assert row["top1_error"] == 1 - alone["top1"]
        assert row["top5_error"] == 1 - alone["top5"]


def test_the_result_is_printed_and_written(command, digits_run, newest):
    result = command("evaluate", "--workdir", digits_run, "--weights", "raw")
    found = printed(result)
    assert set(found) >= {
        "top1", "top5", "loss", "examples", "crops", "models", "weights", "checkpoints", "split",
        "config_name", "images_per_second", "calibration_error", "data_fingerprint", "step",
    }  # fmt: skip
    assert found["weights"] == "raw"
    assert found["checkpoints"] == [str(newest)]
    written = json.loads((digits_run / f"results/evaluate_{newest.name}_test_raw.json").read_text())
    classes, confusions = written.pop("classes"), written.pop("confusions")
    assert written == found
    assert [one["name"] for one in classes] == list("0123456789")
    assert sum(one["examples"] for one in classes) == 360
    right = sum(one["top1"] * one["examples"] for one in classes)
    assert right / 360 == pytest.approx(found["top1"])
    wrong = sum(one["examples"] for one in confusions)
    assert wrong == 360 - round(right) or len(confusions) == 20
    assert all(one["name"] == str(one["label"]) != one["predicted"] for one in confusions)
    averaged = printed(command("evaluate", "--checkpoint", newest))
    assert averaged["weights"] == "average"
    assert averaged["loss"] != found["loss"]


def test_other_evaluations_have_files_of_their_own(command, digits_run, newest, tmp_path):
    override = "--config.evaluation.short_side=18"
    others = ["--config.data.threads=1", "--config.data.batch_size=7"]  # of the same numbers
    result = command("evaluate", "--workdir", digits_run, override, *others, "--split", "test[:20]")
    written = Path(result.stderr.splitlines()[-1].removeprefix("wrote "))
    found = json.loads(written.read_text())
    assert found["overrides"] == [override]

    changes: list[dict[str, Any]] = [
        {}, {"overrides": []}, {"split": "test[:20%]"}, {"split": "test"}, {"weights": "raw"},
        {"crops": 10}, {"crops": 10, "average": "max"}, {"average": "max"},
        {"checkpoints": [str(newest), "x"], "models": 2},
        {"checkpoints": [str(newest), "y"], "models": 2}, {"checkpoints": ["x"]},
    ]  # fmt: skip
    paths = {written.name}
    for change in changes:
        paths |= {path.name for path in results.write(found | change, tmp_path)}
    assert len(paths) == 11
    # Of a checkpoint whose successor a killed run was writing: the same step, the same file.
    replaced = found | {"checkpoints": [f"{found['checkpoints'][0]}.replaced"]}
    assert results.write(replaced, tmp_path)[0].name == written.name


def test_the_loops_own_evaluation_says_the_same(command, digits_run):
    lines = [json.loads(line) for line in (digits_run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line.get("split") == "test"][-1]
    result = printed(command("evaluate", "--workdir", digits_run))
    assert (result["top1"], result["examples"]) == (last["top1"], last["examples"])
    assert result["loss"] == pytest.approx(last["loss"], rel=1e-6)


def test_what_is_no_checkpoint_is_one_clear_line(command, digits_run, newest, tmp_path):
    fails = command.fails
    line = fails("evaluate", "--checkpoint", f"{newest},{tmp_path / 'no'}", exit_code=1)
    assert f"no checkpoint directory '{tmp_path / 'no'}'" in line
    line = fails("evaluate", "--checkpoint", tmp_path, exit_code=1)
    assert f"{tmp_path} is not a good checkpoint: it has no description" in line
    line = fails("evaluate", "--workdir", tmp_path, exit_code=1)
    assert "no good checkpoint" in line
    line = fails("evaluate", exit_code=2)
    assert "--workdir" in line
    line = fails("evaluate", "--workdir", digits_run, "--config.data.data_dir=gone", exit_code=1)
    assert "inception_jax.prepare digits --data_dir gone" in line
    line = fails("evaluate", "--workdir", digits_run, "--split", "valid", exit_code=2)
    assert "it has train, test" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--all_checkpoints", "--checkpoint", "x"], "go with --workdir alone"),
        (["--follow", "--workdir", "x", "--save_predictions", "x.npz"], "go with --workdir alone"),
        (["--checkpoint", "x,"], "an empty path"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(command, arguments, said):
    assert said in command.fails("evaluate", *arguments, exit_code=2)


def test_networks_of_other_classes_are_no_ensemble(command, newest, second_network, tmp_path):
    model, other = written_out.load(second_network), tmp_path / "other"
    description = model.description | {"class_names": [*"012345678", "nine"]}
    tree = {"params": model.params, "batch_stats": model.batch_stats}
    store.write(other, tree, description)
    line = command.fails("evaluate", "--checkpoint", f"{newest},{other}", exit_code=2)
    assert f"{other} has other classes than {newest}" in line


# Test sets with other labels ------------------------------------------------------------------


def record(name: str, label: int, encoded: bytes) -> records.Record:
    return records.Record(name, label, lambda: encoded)


def sample(newest: Path) -> list[tuple[bytes, int]]:
    source = open_source(written_out.load(newest).config.data, "test[:60]", 10)
    return [(example.encoded, example.label) for example in source.read(range(60))]


def prepare_some(name: str, data_dir: Path, images: list[tuple[bytes, int]]) -> None:
    """Those of the digits 8, 3 and 1, of a set that names three more of which it has none."""
    names = ("0", "8", "3", "1", "9", "2")
    description = records.DatasetDescription(name, "0.1.0", "some digits", "", names)
    chosen = [
        record(f"{n}.png", names.index(str(label)), encoded)
        for n, (encoded, label) in enumerate(images)
        if label in (8, 3, 1)
    ]
    records.write(description, {"test": chosen}, data_dir)


def prepare_real(data_dir: Path, images: list[tuple[bytes, int]]) -> None:
    """Image n has n % 3 labels: none, its own, or its own and the next digit."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = "imagenet2012_real"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            digit = tfds.features.ClassLabel(names=list("0123456789"))
            features = {
                "image": tfds.features.Image(),
                "original_label": digit,
                "real_label": tfds.features.Sequence(digit),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, download_manager):
            return {"validation": self._generate_examples()}

        def _generate_examples(self):
            for n, (encoded, label) in enumerate(images):
                yield (
                    f"{n:03}",
                    {
                        "image": io.BytesIO(encoded),
                        "original_label": label,
                        "real_label": [label, (label + 1) % 10][: n % 3],
                        "file_name": f"{n:03}",
                    },
                )

    with records.quiet():
        Builder(data_dir=str(data_dir), file_format=records.FILE_FORMAT).download_and_prepare()


@pytest.fixture(scope="module")
def other_sets(newest, tmp_path_factory) -> Path:
    data_dir = tmp_path_factory.mktemp("other_sets")
    for name in ("imagenet_a", "some_digits"):
        prepare_some(name, data_dir, sample(newest))
    prepare_real(data_dir, sample(newest))
    return data_dir


@pytest.mark.parametrize(("name", "choices"), [("imagenet_a", "138"), ("some_digits", "012389")])
def test_a_network_chooses_among_the_classes_of_a_smaller_test_set(
    command, newest, other_sets, tmp_path, name, choices
):
    """Of imagenet_a's kind, among those that have an image, whatever part of it is evaluated."""
    file = tmp_path / "x.npz"
    result = command(
        "evaluate", "--checkpoint", newest, "--split", "test[:8]", "--save_predictions", file,
        f"--config.data.data_dir={other_sets}", f"--config.data.name={name}",
    )  # fmt: skip
    data = written_out.load(newest).config.copy_and_resolve_references().data
    data.update(data_dir=str(other_sets), name=name)
    source = open_source(data, "test[:8]", 6)
    examples = source.read(range(8))
    labels = np.array([int(source.class_names[example.label]) for example in examples])
    images = [decode(example.encoded, example.name) for example in examples]
    logits = written_out.logits(newest, images, short_side=16, crops=1)
    every = written_out.averaged([logits])
    allowed = np.isin(list("0123456789"), list(choices))
    restricted = every * allowed
    restricted /= restricted.sum(axis=1, keepdims=True)
    check(printed(result), measured(restricted.clip(1e-300), labels), 8)
    with np.load(file) as saved:
        probabilities = np.exp(np.float64(saved["log_probabilities"]))
        np.testing.assert_allclose(probabilities, restricted, rtol=2e-4, atol=1e-9)
        assert np.argmax(saved["labels"], axis=1).tolist() == labels.tolist()
    assert measured(every, labels)["loss"] > measured(restricted.clip(1e-300), labels)["loss"]


def test_an_image_may_have_several_labels_or_none(command, newest, other_sets, tmp_path):
    set_up = (f"--config.data.data_dir={other_sets}", "--config.data.name=imagenet2012_real")
    result = command("evaluate", "--checkpoint", newest, "--split", "validation", *set_up)
    by_name = list(enumerate(sample(newest)))
    images = [decode(encoded, "") for _, (encoded, _) in by_name]
    probabilities = written_out.averaged(
        [written_out.logits(newest, images, short_side=16, crops=1)]
    )
    right, in_five, loss = [], [], []
    for n, (_, label) in by_name:
        labels = [label, (label + 1) % 10][: n % 3]
        if labels:
            ranking = np.argsort(-probabilities[n]).tolist()
            right.append(ranking[0] in labels)
            in_five.append(any(one in ranking[:5] for one in labels))
            loss.append(-np.log(max(probabilities[n, one] for one in labels)))
    expected = {"top1": np.mean(right), "top5": np.mean(in_five), "loss": np.mean(loss)}
    check(printed(result), expected, 40)
    (summary,) = verification.verify(other_sets / "imagenet2012_real" / "1.0.0")
    assert (summary.images, int(summary.per_class.sum()), summary.unreadable) == (60, 60, ())

    line = command.fails(
        "train", "--config", "configs/digits.py", "--workdir", tmp_path / "run", *set_up,
        "--config.data.train_split=validation", "--config.evaluation.split=validation",
        exit_code=1,
    )  # fmt: skip
    assert re.search(
        r"imagenet2012_real/1.0.0 validation: example \d+ \(\d+\) has [02] labels", line
    )


# Every checkpoint of a run ---------------------------------------------------------------------


def times(workdir: Path) -> dict[Path, int]:
    """When each result was written."""
    found = (workdir / "results").glob("*.json")
    return {path: path.stat().st_mtime_ns for path in found}


def lines(result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_a_run_is_followed_to_its_end(command, smoke_arguments, tmp_path):
    """By another process, while it deletes its older checkpoints."""
    workdir = tmp_path / "run"
    follower = command.start("evaluate", "--workdir", workdir, "--follow")
    command(
        "train", *smoke_arguments(workdir, total=24, every=2), "--config.checkpoints.keep_last=2"
    )
    stdout, stderr = follower.communicate(timeout=120)
    assert follower.returncode == 0, stderr
    found = [json.loads(line) for line in stdout.splitlines()]
    steps = [one["step"] for one in found]
    assert steps == sorted(set(steps))
    assert steps[-1] == 24
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    evaluated = {line["step"]: line for line in metrics if line.get("split") == "test"}
    for one in found:
        if one["step"] in evaluated:
            assert one["top1"] == evaluated[one["step"]]["top1"]
            assert one["loss"] == pytest.approx(evaluated[one["step"]]["loss"], rel=1e-6)
    assert len(times(workdir)) == len(found)


def test_every_checkpoint_is_evaluated_once(command, smoke_arguments, tmp_path):
    workdir = tmp_path / "run"
    command("train", *smoke_arguments(workdir, total=12, every=4))
    steps = store.steps(workdir / "checkpoints")
    assert len(steps) >= 2

    first = command("evaluate", "--workdir", workdir, "--all_checkpoints")
    assert [one["step"] for one in lines(first)] == steps
    written = times(workdir)
    followed = command("evaluate", "--workdir", workdir, "--follow")  # its last step is there
    assert followed.stdout == first.stdout
    assert len(written) == len(steps)
    again = command(
        "evaluate", "--workdir", workdir, "--all_checkpoints", "--config.data.threads=3"
    )
    assert again.stdout == first.stdout
    assert times(workdir) == written
    # Another protocol, with the first checkpoint damaged and one that was deleted since.
    damaged = workdir / "checkpoints" / str(steps[0])
    (damaged / "state" / "_METADATA").write_text("{}")
    (workdir / "checkpoints" / "7").symlink_to(tmp_path / "gone")
    other = command("evaluate", "--workdir", workdir, "--all_checkpoints", "--crops", 10)
    assert [one["step"] for one in lines(other)] == steps[1:]
    assert all(one["crops"] == 10 for one in lines(other))
    assert f"left out: {damaged} is not a good checkpoint: Orbax cannot" in other.stderr
    assert f"left out: no checkpoint directory '{workdir / 'checkpoints' / '7'}'" in other.stderr
    assert written.items() <= times(workdir).items()
    assert len(times(workdir)) == 2 * len(steps) - 1


def test_changed_data_is_evaluated_anew(command, digits_run, newest, data_dir, tmp_path):
    """The same data elsewhere is not."""
    workdir = tmp_path / "run"
    (workdir / "checkpoints").mkdir(parents=True)
    shutil.copytree(newest, workdir / "checkpoints" / newest.name)

    def evaluate(data_dir: Path) -> str:
        return command(
            "evaluate", "--workdir", workdir, "--all_checkpoints", "--split", "test[:99]",
            f"--config.data.data_dir={data_dir}",
        ).stdout  # fmt: skip

    first, written = evaluate(data_dir), times(workdir)
    shutil.copytree(data_dir / "digits", tmp_path / "copy" / "digits")
    assert evaluate(tmp_path / "copy") == first
    assert times(workdir) == written
    images, labels = digits(newest, "test[:99]")
    negatives = [
        record(f"{n}.png", int(label), cv2.imencode(".png", 255 - image)[1].tobytes())
        for n, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    names = tuple("0123456789")
    description = records.DatasetDescription("digits", "1.1.0", "negatives", "", names)
    records.write(description, {"train": negatives, "test": negatives}, tmp_path / "changed")
    assert json.loads(evaluate(tmp_path / "changed"))["loss"] != json.loads(first)["loss"]


def test_a_workdir_without_checkpoints_is_one_line(command, tmp_path):
    line = command.fails("evaluate", "--workdir", tmp_path, "--all_checkpoints", exit_code=1)
    assert f"no good checkpoint in {tmp_path / 'checkpoints'}" in line


class Follower:
    """`every_checkpoint.evaluate` on folders that are no checkpoints; a look is one event."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.shown, self.bad = folder, list[int](), dict[int, Exception]()
        self.events = list[Any]()
        monkeypatch.setattr(every_checkpoint.loaded_model, "load", self.load)
        monkeypatch.setattr(every_checkpoint, "SplitEvaluation", lambda *_: self)
        monkeypatch.setattr(every_checkpoint.results, "write", lambda *_: None)
        monkeypatch.setattr(every_checkpoint.time, "sleep", lambda _: self.events.pop(0)())

    def load(self, checkpoint: Path, *_: Any, **__: Any) -> Any:
        if error := self.bad.get(step := int(checkpoint.name)):
            raise error
        config = load_config("configs/smoke.py")
        return types.SimpleNamespace(step=step, description={"total_steps": 6}, config=config)

    def identity(self, models: list[Any]) -> str:
        return str(models[0].step)

    def run(self, models: list[Any]) -> dict[str, Any]:
        return {"step": models[0].step}

    def save(self, step: int, error: Exception | None = None) -> None:
        if error:
            self.bad[step] = error
        (self.folder / "checkpoints" / str(step)).mkdir(parents=True)

    def move_away(self, step: int) -> None:
        (self.folder / "checkpoints" / str(step)).rmdir()
        self.bad.pop(step)

    def follow(self) -> list[int]:
        every_checkpoint.evaluate(
            self.folder, EvaluationSpec(), cast(Any, None), weights=None, follow=True,
            show=lambda result: self.shown.append(result["step"]),
        )  # fmt: skip
        return self.shown


def test_following_ends_where_the_last_checkpoint_is_damaged(tmp_path, monkeypatch):
    follower = Follower(tmp_path, monkeypatch)
    follower.events = [
        lambda: follower.save(2),
        lambda: follower.save(4),
        lambda: follower.save(6, UserError("damaged")),
    ]
    assert follower.follow() == [2, 4]


def test_a_checkpoint_that_was_written_again_is_evaluated(tmp_path, monkeypatch):
    """The run was killed, damaged meanwhile, and went on from the one before."""
    follower = Follower(tmp_path, monkeypatch)
    follower.save(2)
    follower.save(4, UserError("damaged"))
    follower.save(99, UserError("no checkpoint, though it looks like a later one"))
    follower.events = [
        lambda: follower.move_away(4), lambda: follower.save(4), lambda: follower.save(6),
    ]  # fmt: skip
    assert follower.follow() == [2, 4, 6]
