"""Tables in Markdown, as GitHub reads it."""

from collections.abc import Iterable, Sequence


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] | None = None
) -> str:
    """A table; `right` says which columns are aligned to the right, by default all."""
    marks = ["---:" if one else "---" for one in right or [True] * len(headings)]
    return "".join(map(_line, (headings, marks, *rows)))


def _line(texts: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escaped, texts)) + " |\n"


def _escaped(text: str) -> str:
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(mark, instead)
    return " ".join(text.split())
