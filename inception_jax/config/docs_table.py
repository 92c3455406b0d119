"""Prints every config field as Markdown: `python -m inception_jax.config.docs_table`."""

from inception_jax.config import schema
from inception_jax.config.declaration import Option, options
from inception_jax.config.rules import Anything

HEAD = """# Config fields

Printed by `python -m inception_jax.config.docs_table` from `inception_jax/config/schema.py`; a test
keeps it current. The defaults are the paper's configuration, "Going Deeper with Convolutions"
(arXiv 1409.4842); sections, figures and tables are the paper's. What it leaves open is taken from
Caffe's bvlc_googlenet (BVLC/caffe, models/bvlc_googlenet): `solver`, `train_val`, `quick_solver`
are its files.

A field is set in a config file, or on the command line: `--config.optimizer.momentum=0.8`. A float
is always finite. A duration is a number of steps, epochs or examples. A run may go on with another
value of a field marked "resumable".
"""
EVALUATIONS = """## evaluations

Further evaluations in a run, by name: each names some fields of `evaluation` and takes the others
from there.

```python
config.evaluations = {
    "ten_crops": {"crops": 10, "every": "8 epochs"},
    "train": {"split": "train[:1000]"},
}
```

`--config.evaluations.ten_crops.every="2 epochs"` sets a field of one that the config has.
"""


def markdown() -> str:
    """The page with a table for each section."""
    parts = [HEAD, _section("top level", schema.Run)]
    parts += [_section(name, section) for name, section in schema.SECTIONS.items()]
    return "\n".join([*parts, EVALUATIONS])


def _section(title: str, section: type) -> str:
    lines = [
        f"## {title}\n",
        f"{section.__doc__}\n",
        "| field | default | may be | meaning | source |",
        "|---|---|---|---|---|",
        *(_row(name, option) for name, option in options(section).items()),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, option: Option) -> str:
    allowed = option.types[0].__name__ if isinstance(option.rule, Anything) else str(option.rule)
    if option.unit:
        allowed += f" ({option.unit})"
    meaning = option.reason + "; resumable" * option.resume_safe
    cells = (f"`{name}`", f"`{option.default!r}`", allowed, meaning, option.source)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(markdown(), end="")
