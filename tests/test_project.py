"""The project's own files against one another."""

import tomllib

from conftest import ROOT


def test_every_module_is_in_the_readme():
    """ "One line a file": a new module has its line, a removed one has none."""
    readme = (ROOT / "README.md").read_text()
    for path in sorted((ROOT / "inception_jax").rglob("*.py")):
        if path.name != "__init__.py":
            assert f"{path.name}" in readme, path
    for path in sorted((ROOT / "configs").glob("*.py")):
        assert f"configs/{path.name}" in readme, path


def test_dependencies_have_one_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dynamic = project["tool"]["setuptools"]["dynamic"]["dependencies"]
    assert dynamic == {"file": ["requirements.txt"]}
    assert {"tpu", "cuda", "prepare", "test"} <= set(project["project"]["optional-dependencies"])
