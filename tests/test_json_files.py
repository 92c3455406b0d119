"""JSON that any program can read."""

import json
import math

import numpy as np
import pytest

from inception_jax.storage import json_files


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@pytest.mark.parametrize("indent", [None, 2])
def test_null_stands_for_what_is_not_a_number_at_any_depth(indent):
    values = {
        "loss": math.nan,
        "table": [{"top1": math.inf, "top5": 0.5}, (1.5, -math.inf)],
        "deep": {"er": {"est": np.float64("nan")}},
        "text": "NaN",
        "count": 3,
        "flag": True,
    }
    text = json_files.to_text(values, indent=indent)
    assert json.loads(text, parse_constant=refuse) == {
        "loss": None,
        "table": [{"top1": None, "top5": 0.5}, [1.5, None]],
        "deep": {"er": {"est": None}},
        "text": "NaN",
        "count": 3,
        "flag": True,
    }
    assert math.isnan(values["loss"])  # type: ignore[arg-type]  # the values themselves stay


def test_finite_values_are_as_json_writes_them():
    values = {"a": [1, 2.5, None, "ä"], "b": {"c": []}}
    assert json_files.to_text(values) == json.dumps(values)
