"""The project's own files against one another."""

import ast
import re
import tomllib

from conftest import ROOT


def test_every_room_and_config_is_in_the_readme():
    """The layout names each package of modules and each config."""
    layout = (ROOT / "README.md").read_text().partition("## Layout")[2]
    for init in sorted((ROOT / "inception_jax").rglob("__init__.py")):
        if init.parent.name not in ("inception_jax", "peers"):
            assert f"{init.parent.name}/" in layout, init
    for path in sorted((ROOT / "configs").glob("*.py")):
        assert path.name in layout, path


# Beginnings of lines that need the line above them, or are not about the thing itself.
LEANING = re.compile(r"(Of|What|Whether|Those|The same|How|Which|As|Like|Where|When|Who|It)\b")


def test_first_lines_of_docstrings_stand_alone():
    """Each module has one, and the first line of any says what the thing is or does."""
    for path in sorted((ROOT / "inception_jax").rglob("*.py")):
        module = ast.parse(path.read_text())
        assert ast.get_docstring(module), path
        for node in ast.walk(module):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                assert not LEANING.match(first), f"{path}: {first}"


def test_dependencies_have_one_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dynamic = project["tool"]["setuptools"]["dynamic"]["dependencies"]
    assert dynamic == {"file": ["requirements.txt"]}
    assert {"tpu", "cuda", "prepare", "test"} <= set(project["project"]["optional-dependencies"])
