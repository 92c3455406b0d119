"""The project's own files against one another."""

import ast
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


def test_every_module_says_what_it_is_for():
    """The first line of a module stands for it where modules are listed."""
    for path in sorted((ROOT / "inception_jax").rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, path


def test_dependencies_have_one_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dynamic = project["tool"]["setuptools"]["dynamic"]["dependencies"]
    assert dynamic == {"file": ["requirements.txt"]}
    assert {"tpu", "cuda", "prepare", "test"} <= set(project["project"]["optional-dependencies"])
