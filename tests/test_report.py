"""The report: its numbers against the files, its page in a real browser."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import DIGITS_NETWORK, ROOT, Command, tool
from run_folders import NETWORK, evaluation, write_run
from scipy import stats
from selenium import webdriver
from selenium.webdriver.common.by import By

from inception_jax.config.load import load_config
from inception_jax.errors import UserError
from inception_jax.models.cost import network_cost
from inception_jax.models.options import network_config
from inception_jax.storage import locks
from inception_jax.tools.report import classes, comparison, page, runs, selection, tables

PHONE, DESK = 390, 1400  # pixels


def read_csv(text: str) -> dict[str, dict[str, str]]:
    return {row["run"]: row for row in csv.DictReader(io.StringIO(text))}


def compare(folders: Sequence[Path]) -> pd.DataFrame:
    """The groups of these runs."""
    return comparison.compare(tables.of_runs(runs.read(folders)).values)


def test_numbers_are_those_of_the_files(command: Command, tmp_path: Path):
    write_run(tmp_path / "wide", "--config.seed=3", "--config.model.width=0.5", top1=0.875)
    write_run(tmp_path / "base", top1=0.75)
    with (tmp_path / "base" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')  # killed while writing
    printed = command(
        "report", tmp_path / "base", tmp_path / "wide", "--format", "csv", process=True
    ).stdout
    rows = read_csv(printed)
    assert list(rows) == ["base", "wide"]
    for name, row in rows.items():
        text = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in text if line.endswith("}")]
        last = [line for line in lines if "split" in line][-1]
        for field in ("top1", "top5", "loss", "calibration_error"):
            assert float(row[field]) == last[field]
        rates = [line["images_per_second"] for line in lines if "split" not in line]
        assert float(row["images_per_second"]) == pytest.approx(np.median(rates), rel=1e-12)
        assert float(row["hours"]) == pytest.approx(
            sum(10 * 64 / rate for rate in rates) / 3600, rel=1e-9
        )
        assert (row["status"], row["step"], row["total_steps"]) == ("done", "200", "200")
    described = json.loads(
        command("describe", "--config", "configs/digits.py", *NETWORK,
                "--config.model.width=0.5", "--json").stdout
    )  # fmt: skip
    assert int(rows["wide"]["parameters"]) == described["parameters"]
    assert int(rows["wide"]["multiply_adds"]) == described["multiply_adds"]
    assert rows["wide"]["changed"] == "model.width=0.5"
    assert rows["wide"]["seed"] == "3"
    assert rows["base"]["changed"] == ""


def test_a_real_run_has_what_describe_says_beside_it(command: Command, digits_run: Path):
    config = json.loads((digits_run / "config.json").read_text())
    described = json.loads(
        command("describe", "--config", "configs/digits.py", *DIGITS_NETWORK,
                f"--config.data.data_dir={config['data']['data_dir']}", "--json").stdout
    )  # fmt: skip
    assert json.loads((digits_run / "model.json").read_text()) == {
        name: value for name, value in described.items() if name != "config_name"
    }


def test_markdown_has_means_spreads_and_differences(command: Command, tmp_path: Path):
    accuracies = {"base": (0.90, 0.91, 0.92), "dropout": (0.93, 0.95, 0.94)}
    for name, of_seeds in accuracies.items():
        for seed, top1 in enumerate(of_seeds):
            dropout = "--config.model.dropout=0.2" if name == "dropout" else "--config.seed=0"
            write_run(tmp_path / f"{name}_{seed}", dropout, f"--config.seed={seed}", top1=top1)
    output = tmp_path / "report.md"
    command("report", tmp_path, "--format", "markdown", "--output", output)
    table, _ = output.read_text().split("\n\n")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    headings, _, base, with_less = cells
    found = dict(zip(headings, with_less, strict=True))
    assert dict(zip(headings, base, strict=True))["top-1, mean"] == "0.9100"
    assert found["changed fields"] == "model.dropout=0.2"
    assert (found["top-1, mean"], found["standard deviation"]) == ("0.9400", "0.0100")
    # Equal spreads and numbers: Welch's interval is then Student's, by hand.
    half = stats.t.ppf(0.975, 4) * math.sqrt(2 * 0.01**2 / 3)
    assert found["top-1 less the base's"] == "+0.0300"
    assert float(found["from (95 %)"]) == pytest.approx(0.03 - half, abs=6e-5)
    assert float(found["to"]) == pytest.approx(0.03 + half, abs=6e-5)
    assert found["interval over"] == "seeds"


def test_intervals_over_images_cover_what_they_should():
    random, examples = np.random.default_rng(0), 360
    ours, base = random.binomial(examples, [[0.97], [0.95]], size=(2, 1500)) / examples
    intervals = [comparison.binomial(*pair, examples) for pair in zip(ours, base, strict=True)]
    covered = np.mean([one.low <= 0.02 <= one.high for one in intervals])
    assert 0.93 < covered < 0.98
    assert {one.drawn for one in intervals} == {"test images"}


def test_runs_without_any_spread_are_judged_by_their_images(tmp_path: Path):
    for name, top1 in (("a", 0.9), ("b", 0.95)):
        for seed in range(2):
            flags = [f"--config.seed={seed}", f"--config.name={name}"]
            write_run(tmp_path / f"{name}{seed}", *flags, top1=top1)
    other = compare(selection.find([tmp_path])).loc["b"]
    assert other["drawn"] == comparison.IMAGES
    assert other["low"] < 0.05 < other["high"]


def test_a_run_counts_once_however_it_is_named_or_copied(tmp_path: Path, monkeypatch):
    base = write_run(tmp_path / "runs" / "base", top1=0.9)
    write_run(tmp_path / "runs" / "other", "--config.seed=1", top1=0.8)
    shutil.copytree(base, tmp_path / "runs" / "copy")
    monkeypatch.chdir(tmp_path)
    found = runs.read(selection.find([Path("runs"), Path("runs/../runs/base")]), base=base)
    assert [run.name for run in found] == ["base", "copy", "other"]
    (group,) = comparison.compare(tables.of_runs(found).values).itertuples()
    assert (group.done, group.runs) == (2, 3)
    assert group.top1_mean == pytest.approx(0.85)


def test_questions_are_told_apart(tmp_path: Path):
    """Two changed fields whose names end alike are shown with their full names."""
    often = "--config.checkpoints.every=7 epochs", "--config.evaluation.every=7 epochs"
    folders = [
        write_run(tmp_path / str(number), *often[number : number + 1]) for number in (2, 0, 1)
    ]
    assert [run.group for run in runs.read(folders)] == [
        "digits: base", "digits: checkpoints.every=7 epochs", "digits: evaluation.every=7 epochs",
    ]  # fmt: skip
    named = [write_run(tmp_path / name, f"--config.name={name}") for name in ("a", "b")]
    assert [run.group for run in runs.read(named, base=named[1])] == ["b", "a"]


def test_evaluations_lie_where_their_step_lies(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    text = (folder / "metrics.jsonl").read_text()
    assert text.count('"step": 100, "top1"') == 1
    moved = text.replace('"step": 100, "top1"', '"step": 105, "top1"')
    (folder / "metrics.jsonl").write_text(moved)
    (run,) = runs.read([folder])
    epochs = [line["epoch"] for line in run.evaluations]
    np.testing.assert_allclose(epochs, [105 / 22, 200 / 22])


def test_runs_measured_on_other_images_are_not_compared(tmp_path: Path):
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", "--config.model.width=0.5")]
    text = (folders[1] / "metrics.jsonl").read_text()
    assert pd.notna(compare(folders)["difference"].iloc[1])
    (folders[1] / "metrics.jsonl").write_text(text.replace('"test"', '"validation"'))
    assert pd.isna(compare(folders)["difference"].iloc[1])


def test_whatever_state_a_run_is_in_it_is_named_and_breaks_nothing(
    command: Command, tmp_path: Path
):
    write_run(tmp_path / "a" / "run", done=False)
    (tmp_path / "a" / "run" / "results").mkdir()
    (tmp_path / "a" / "run" / "results" / "evaluate_1_test_raw.json").write_text("[1, 2")
    write_run(tmp_path / "b" / "run")
    (tmp_path / "b" / "run" / "metrics.jsonl").write_text("{}\n{}\n")
    (tmp_path / "c").mkdir()
    write_run(tmp_path / "d", done=False)
    write_run(tmp_path / "e", lines=0)
    write_run(tmp_path / "f")
    metrics = tmp_path / "f" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"top1": ', '"top1": null, "other": '))
    folders = [tmp_path / name for name in ("c", "a/run", "b/run", "d", "e", "f")]
    with locks.hold(tmp_path / "d", "training"):
        rows = read_csv(command("report", *folders, "--format", "csv").stdout)
        output = tmp_path / "report.html"
        command("report", *folders, "--output", output)
    assert {name: row["status"] for name, row in rows.items()} == {
        "a/run": "stopped", f"{tmp_path.name}/d": "running", f"{tmp_path.name}/e": "stopped",
        f"{tmp_path.name}/f": "done", "b/run": "broken", f"{tmp_path.name}/c": "empty",
    }  # fmt: skip
    assert "evaluate_1_test_raw.json is not what evaluate writes" in rows["a/run"]["note"]
    assert "metrics.jsonl" in rows["b/run"]["note"]
    assert rows[f"{tmp_path.name}/f"]["top1"] == ""
    for word in ("running", "stopped", "broken", "empty"):
        assert f"<td>{word}</td>" in output.read_text()


def breadth(*cases: Any) -> list[Any]:
    """Marks further cases of a parametrised test, of kinds that it has already."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.breadth)
        for case in cases
    ]


RESULT = "results/evaluate_200_test_average.json"


def wrong(**fields: Any) -> tuple[str, str]:
    """A result of `evaluate` with other values in these fields."""
    return RESULT, json.dumps({"checkpoints": ["a"], "split": "test", "step": 1} | fields)


HOSTILE = [
    (RESULT, "[" * 100_000),
    wrong(step="x"),
    wrong(classes=[{"label": 0, "name": "a", "examples": 1, "top1": None}]),
    ("metrics.jsonl", '{"step": 1, "epoch": NaN}\n'),
    ("metrics.jsonl", f'{{"step": {"9" * 400}}}\n'),
    ("config.json", '{"data.batch_size": 5}'),
    *breadth(
        (RESULT, "[]"), (RESULT, "{}"), (RESULT, '{"checkpoints": ["a"], "split": ["test"]}'),
        wrong(classes=5), wrong(classes=[{}]), wrong(classes="abc"), wrong(confusions=[1]),
        wrong(checkpoints=[1]),
        wrong(classes=[{"label": 0, "name": ["a"], "examples": 1, "top1": 1}]),
        ("metrics.jsonl", '{"step": 1e99}\n'), ("metrics.jsonl", '{"step": true}\n'),
        ("metrics.jsonl", '{"step": 1, "split": ["test"]}\n'),
        ("metrics.jsonl", "[" * 100_000 + "\n"), ("config.json", "[" * 100_000),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content"), HOSTILE)
def test_a_file_with_anything_in_it_is_named_and_breaks_nothing(tmp_path: Path, file, content):
    good = write_run(tmp_path / "good", results=True)
    bad = write_run(tmp_path / "bad", results=True)
    (bad / file).write_text(content)
    found = runs.read([good, bad])
    page.render(found, [], "")
    shown = tables.of_runs(found).values.set_index("run").loc["bad"]
    assert shown["note"]
    assert shown["status"] == ("done" if file.startswith("results") else "broken")


@pytest.mark.parametrize(
    "values",
    [
        {"top1": int("9" * 400)}, {"examples": -3},
        *breadth(
            {"top1": 1.5}, {"top1": -1}, {"top1": None}, {"examples": 0.5}, {"examples": "x"},
            {"loss": "x"}, {"calibration_error": [1]},
        ),
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_left_out(tmp_path: Path, values):
    folders = [write_run(tmp_path / name, f"--config.name={name}") for name in ("a", "b")]
    with (folders[1] / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(evaluation(200, 0.5) | {"split": "test"} | values) + "\n")
    found = runs.read(folders)
    page.render(found, [], "")
    tables.of_runs(found).csv()


def test_costs_are_those_of_the_config(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    (folder / "model.json").write_text('{"parameters": 0, "layers": []}')
    (run,) = runs.read([folder])
    assert run.costs == network_cost(network_config(load_config("configs/digits.py", NETWORK)))


def test_names_are_shown_and_not_obeyed(tmp_path: Path):
    evil = "<script>alert(1)</script><b>|x|</b>\n& y"
    folder = write_run(tmp_path / "evil | <i>run", results=True)
    other = write_run(tmp_path / "other", "--config.model.width=0.5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"name": evil}))
    found = runs.read([folder, other])
    assert found[0].folder.status == "done"
    text = page.render(found, [], "")
    assert "<script>alert" not in text
    assert "<b>|x|" not in text
    assert "\\u003cb\\u003e" not in text  # as Plotly writes what it would take for HTML
    lines = tables.of_runs(found).markdown().splitlines()
    assert len(lines) == 2 + 2
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {len(tables.RUNS) + 2}
    assert "<b>" not in "".join(lines)
    assert list(read_csv(tables.of_runs(found).csv())) == ["evil | <i>run", "other"]


def test_names_need_not_be_utf8(tmp_path: Path):
    """Names of folders may have any bytes, and names of classes lone surrogates."""
    name = b"r\xfcn".decode(errors="surrogateescape")
    folder = write_run(tmp_path / "run", results=True).rename(tmp_path / name)
    path = folder / RESULT
    path.write_text(path.read_text().replace("digit 3", "\\ud800"))
    found = runs.read([folder, write_run(tmp_path / "other")])
    page.render(found, [], "").encode()
    text = tables.of_runs(found).csv() + tables.of_runs(found).markdown()
    assert text.encode().count(rb"r\udcfcn") == 2


def test_classes_and_confusions_are_of_results_measured_alike(tmp_path: Path):
    folders = [
        write_run(tmp_path / str(seed), f"--config.seed={seed}", results=True) for seed in range(3)
    ]
    changes: list[dict] = [{}, {}, {"crops": 144}]
    for number, (folder, change) in enumerate(zip(folders, changes, strict=True)):
        path = folder / "results" / "evaluate_200_test_average.json"
        result = json.loads(path.read_text()) | change
        result["classes"][1]["name"] = "digit 0"  # as two classes of ImageNet are called crane
        result["classes"][1]["top1"] = 0.25 * (1 + number)
        if number:
            del result["confusions"][0]  # that of digit 9
        path.write_text(json.dumps(result))
    found = classes.summarize(runs.read(folders))
    assert found.protocol == "test, 1 crops, 360 images"
    assert found.runs == {"digits": 2}
    first, second = found.table.values[["name", "label", "group0"]].values[:2].tolist()
    assert first == ["digit 0", 0, 1 / 36]
    assert second == ["digit 0", 1, 0.375]
    rows = found.confusions.values.set_index("name")[["listed", "share"]]
    assert rows.loc["digit 9"].tolist() == [1, 9 / 36]
    assert rows.loc["digit 8"].tolist() == [2, 8 / 36]


def test_a_folder_of_folders_has_all_of_them(tmp_path: Path):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "sweep" / "b")
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"runs": [{"name": "b"}]}))
    write_run(tmp_path / "others" / "c")
    found = selection.find([tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "empty", "others/c", "run", "sweep/b",
    ]  # fmt: skip
    assert selection.find([tmp_path / "empty"]) == [tmp_path / "empty"]
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"runs": [{"name": "../b"}]}))
    with pytest.raises(UserError, match=r"sweep\.json is not what a sweep writes"):
        selection.find([tmp_path / "sweep"])


def test_a_folder_of_a_sweep_stands_for_its_runs_in_order(tmp_path: Path):
    for name in ("z", "a"):
        write_run(tmp_path / name)
    (tmp_path / "sweep.json").write_text(
        json.dumps({"runs": [{"name": "z"}, {"name": "to_come"}, {"name": "a"}]})
    )
    found = selection.find([tmp_path, tmp_path / "a"])
    assert [path.name for path in found] == ["z", "to_come", "a"]
    assert [run.folder.status for run in runs.read(found)] == ["done", "done", "empty"]
    with pytest.raises(UserError, match="no folder"):
        selection.find([tmp_path / "nowhere"])


def test_the_base_can_be_chosen(tmp_path: Path):
    narrow = write_run(tmp_path / "narrow", "--config.model.width=0.125")
    wide = write_run(tmp_path / "wide")
    first, second = runs.read([narrow, wide], base=wide)
    assert (first.name, second.changed) == ("wide", {"model.width": 0.125})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty cannot be the base: no config\.json"):
        runs.read([narrow], base=tmp_path / "empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name folders of runs, or a --checkpoint"),
        (["{run}"], "an HTML page needs --output"),
        (["{run}", "--output", "{tmp}/x.html", "--features"], "none of the runs has a good check"),
        (["{tmp}/nowhere", "--format", "csv"], "there is no folder"),
        (["{run}", "--format", "csv", "--features"], "are for an HTML page"),
        (["{run}", "--output", "/dev/full"], "is not an ordinary file"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(command: Command, tmp_path: Path, arguments, message):
    run = write_run(tmp_path / "run")
    arguments = [one.format(run=run, tmp=tmp_path) for one in arguments]
    code = 1 if "none of the runs" in message or "no folder" in message else 2
    assert message in command.fails("report", *arguments, exit_code=code)


WITHOUT = """
import runpy, sys
sys.modules[sys.argv.pop(1)] = None  # importing it fails
runpy.run_module("inception_jax.report", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("package", ["pandas", *breadth("itables", "jinja2", "plotly", "scipy")])
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, package: str):
    arguments = [package, str(tmp_path), "--format", "csv"]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: report needs the package {package}: pip install 'inception_jax[report]'\n"
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, without a screen and without a network."""
    chromium, driver_program = tool("chromium"), tool("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-component-update",
        "disable-background-networking", "disable-sync", f"user-data-dir={profile}",
        "host-resolver-rules=MAP * ~NOTFOUND",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver_program)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(command: Command, digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of six runs, a broken one, and the pictures of a real network."""
    folder = tmp_path_factory.mktemp("reported")
    for seed in range(3):
        flag = f"--config.seed={seed}"
        write_run(folder / f"base_{seed}", flag, top1=0.9 + seed / 100, results=True)
        write_run(
            folder / f"wide_{seed}", flag, "--config.model.width=0.5", top1=0.8 + seed / 100,
            results=True,
        )  # fmt: skip
    write_run(folder / "broken").joinpath("metrics.jsonl").write_text("no JSON\nat all\n")
    (checkpoint,) = (digits_run / "checkpoints").iterdir()
    output = folder / "report.html"
    command("report", folder, "--checkpoint", checkpoint, "--output", output)
    return output


def load(browser: webdriver.Chrome, report: Path, width: int) -> None:
    """Opens the page in a window of this width and waits until its scripts are done."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE},
    )
    browser.get(report.as_uri())
    for _ in range(300):
        tables = browser.find_elements(By.CSS_SELECTOR, "table.sortable")
        ready = browser.find_elements(By.CSS_SELECTOR, "table.dataTable")
        if tables and len(tables) == len(ready):
            return
        time.sleep(0.1)
    raise AssertionError(f"not ready: {browser.get_log('browser')}")


def column(browser: webdriver.Chrome, table: str, heading: str) -> list[str]:
    """The texts that are shown in a column."""
    return browser.execute_script(
        """const table = document.querySelector(`table.${arguments[0]}`);
        const headings = [...table.tHead.rows[0].cells].map(cell => cell.innerText.trim());
        const place = headings.indexOf(arguments[1]);
        return [...table.tBodies[0].rows].map(row => row.cells[place].innerText);""",
        table, heading,
    )  # fmt: skip


def sort(browser: webdriver.Chrome, table: str, heading: str) -> None:
    """Clicks on a heading."""
    browser.execute_script(
        """const table = document.querySelector(`table.${arguments[0]}`);
        const headings = [...table.tHead.rows[0].cells];
        headings.find(cell => cell.innerText.trim() == arguments[1])
          .querySelector('.dt-column-title').click();""",
        table, heading,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, pytest.param(PHONE, marks=pytest.mark.soak)])
def test_the_page_works_in_a_browser(browser: webdriver.Chrome, report: Path, width: int):
    load(browser, report, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    names = column(browser, "runs", "run")
    assert len(names) == 7
    assert "broken" in column(browser, "runs", "status")

    sort(browser, "runs", "top-1")
    ascending = [float(text) for text in column(browser, "runs", "top-1") if text]
    assert ascending == sorted(ascending)
    assert len(ascending) == 6
    sort(browser, "runs", "top-1")
    descending = [float(text) for text in column(browser, "runs", "top-1") if text]
    assert descending == ascending[::-1]

    table = "table.runs"
    search = browser.find_element(By.CSS_SELECTOR, f"{table} thead input")  # of the run's name
    search.send_keys("wide")
    assert sorted(column(browser, "runs", "run")) == ["wide_0", "wide_1", "wide_2"]
    search.clear()

    sizes = browser.execute_script(
        """return [...document.querySelectorAll('.js-plotly-plot')].map(chart => [
          chart.querySelectorAll('.scatterlayer .js-line, .points path').length,
          chart.getBoundingClientRect().width]);"""
    )
    assert len(sizes) == 4  # differences, curves, classes, shares
    for marks, wide in sizes:
        assert marks > 0
        assert 0.7 * width < wide <= width
    lines, _ = sizes[1]
    assert lines >= 6 * 5  # of six runs: loss, top-1, learning rate; loss, top-1 of evaluations
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 1 + 1 + 4  # the filters, an image, four branches
    for picture in pictures:
        assert browser.execute_script("return arguments[0].naturalWidth", picture) > 0
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {
        event["params"]["request"]["url"].partition(":")[0]
        for event in asked
        if event["method"] == "Network.requestWillBeSent"
    }
    assert urls & {"file", "data"}
    assert not urls & {"http", "https", "ws", "wss"}  # it asks nobody for anything


@pytest.mark.slow
def test_curves_and_classes_are_those_of_the_files(browser: webdriver.Chrome, report: Path):
    load(browser, report, DESK)
    curves = browser.execute_script(
        """return document.querySelectorAll('.js-plotly-plot')[1]._fullData
          .filter(trace => trace.name == 'base_1, evaluation')
          .map(trace => [Array.from(trace.x), Array.from(trace.y), trace.yaxis]);"""
    )
    text = (report.parent / "base_1" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in text]
    evaluations = [line for line in lines if "split" in line]
    epochs = [line["epoch"] for line in lines if line["step"] in (100, 200) and "epoch" in line]
    (_, loss, _), (x, top1, _) = curves
    np.testing.assert_allclose(x, epochs, rtol=1e-6)
    np.testing.assert_allclose(loss, [line["loss"] for line in evaluations], rtol=1e-6)
    np.testing.assert_allclose(top1, [line["top1"] for line in evaluations], rtol=1e-6)
    assert column(browser, "classes", "class") == [f"digit {label}" for label in range(10)]
    of_base = column(browser, "classes", "digits: base")
    assert of_base == [f"{(label + 1) / 36:.4f}" for label in range(10)]
    assert column(browser, "confusions", "images")[0] == "27"  # 9 in each of three runs
    assert column(browser, "confusions", "share of the class")[0] == "0.2500"


@pytest.mark.breadth
def test_fifty_long_runs_make_a_page_of_less_than_ten_megabytes(command: Command, tmp_path: Path):
    for number in range(50):
        write_run(
            tmp_path / f"run_{number}", f"--config.seed={number % 5}",
            f"--config.optimizer.weight_decay={number // 5 + 1}e-4", lines=1000, every=50,
            results=True,
        )  # fmt: skip
    output = tmp_path / "report.html"
    command("report", tmp_path, "--output", output)
    assert output.stat().st_size < 10e6
