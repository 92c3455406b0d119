"""The evaluate command: every example once, at any batch size and number of devices."""

import json
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from inception_jax.data.decode import decode
from inception_jax.data.sources import open_source
from inception_jax.distributed import devices
from inception_jax.errors import UserError
from inception_jax.evaluate import check_class_names
from inception_jax.evaluation import trained


def logits_one_by_one(model: trained.Trained, split: str) -> tuple[np.ndarray, np.ndarray]:
    """An evaluation written out: one example at a time, normalised in NumPy, no padding."""
    source = open_source(model.config.data, split, 10)
    apply = jax.jit(
        lambda image: model.network.apply(model.params, model.batch_stats, image, train=False)[0]
    )
    rows = []
    for example in source.read(range(len(source))):
        image = decode(example.encoded, example.name)
        image = cv2.resize(image, (16, 16), interpolation=cv2.INTER_LINEAR)
        rows.append(apply((image[None].astype(np.float32) - 127.5) / np.float32(127.5)).logits[0])
    return np.stack(rows), np.array([e.label for e in source.read(range(len(source)))])


@pytest.mark.parametrize("examples", [13, 64, 360])
def test_counts_and_accuracy_do_not_depend_on_batches_and_devices(
    command, digits_run, data_dir, examples
):
    split = f"test[:{examples}]"
    model = trained.load(trained.newest_in(digits_run), devices.make_mesh())
    logits, labels = logits_one_by_one(model, split)
    ranked = np.argsort(-logits, axis=1, kind="stable")
    top1 = np.mean(ranked[:, 0] == labels)
    top5 = np.mean((ranked[:, :5] == labels[:, None]).any(1))
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    loss = np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(examples), labels])
    assert top1 > 0.3
    assert top1 < 1 or examples < 360

    for batch_size in (8, 64, 100):
        for count in (1, 2, 4):
            result = command(
                "evaluate", "--workdir", digits_run, "--split", split,
                f"--config.data.batch_size={batch_size}", devices=count,
            )  # fmt: skip
            found = json.loads(result.stdout)
            assert found["examples"] == examples
            assert found["top1"] == pytest.approx(top1, abs=1e-12)
            assert found["top5"] == pytest.approx(top5, abs=1e-12)
            assert found["loss"] == pytest.approx(loss, rel=1e-4)


def test_the_result_is_printed_and_written(command, digits_run):
    result = command("evaluate", "--workdir", digits_run, "--weights", "raw")
    printed = json.loads(result.stdout)
    newest = trained.newest_in(digits_run)
    assert set(printed) >= {
        "top1", "top5", "loss", "examples", "crops", "models", "weights", "checkpoints", "split",
        "config_name", "images_per_second",
    }  # fmt: skip
    assert printed["weights"] == "raw"
    assert printed["checkpoints"] == [str(newest)]
    written = digits_run / "results" / f"evaluate_{newest.name}_test_raw.json"
    assert json.loads(written.read_text()) == printed
    averaged = json.loads(command("evaluate", "--checkpoint", newest).stdout)
    assert averaged["weights"] == "average"
    assert averaged["loss"] != printed["loss"]


def test_other_evaluations_have_files_of_their_own(command, digits_run):
    def written(*arguments: str) -> str:
        result = command("evaluate", "--workdir", digits_run, *arguments)
        return result.stderr.splitlines()[-1].removeprefix("wrote ")

    override = "--config.evaluation.short_side=18"
    paths = [written("--split", "test[:20]"), written("--split", "test[:20%]"), written(override)]
    assert len(set(paths)) == 3
    assert written("--split", "test[:20]") == paths[0]
    assert json.loads(Path(paths[2]).read_text())["overrides"] == [override]


def test_data_with_other_class_names_is_refused():
    check_class_names(("a", "b"), ("a", "b"))
    with pytest.raises(UserError, match="class 1 is 'b' in the data and 'c' in the checkpoint"):
        check_class_names(("a", "b"), ("a", "c"))


def test_the_loops_own_evaluation_says_the_same(command, digits_run):
    lines = [json.loads(line) for line in (digits_run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line.get("split") == "test"][-1]
    result = json.loads(command("evaluate", "--workdir", digits_run).stdout)
    assert (result["top1"], result["examples"]) == (last["top1"], last["examples"])
    assert result["loss"] == pytest.approx(last["loss"], rel=1e-6)


def test_what_is_no_checkpoint_is_one_clear_line(command, digits_run, tmp_path):
    fails = command.fails
    line = fails("evaluate", "--checkpoint", tmp_path / "no", exit_code=1)
    assert "no checkpoint directory" in line
    line = fails("evaluate", "--checkpoint", tmp_path, exit_code=1)
    assert f"{tmp_path} is no good checkpoint: seal.json is missing" in line
    line = fails("evaluate", "--workdir", tmp_path, exit_code=1)
    assert "no good checkpoint" in line
    line = fails("evaluate", exit_code=2)
    assert "--workdir" in line
    line = fails("evaluate", "--workdir", digits_run, "--config.data.data_dir=gone", exit_code=1)
    assert "inception_jax.prepare digits --data_dir gone" in line
    line = fails("evaluate", "--workdir", digits_run, "--split", "valid", exit_code=2)
    assert "it has train, test" in line
