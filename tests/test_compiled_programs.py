"""Compiled programs are kept between starts, and what goes wrong with them ends no run."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT
from jax._src import compilation_cache

from inception_jax.runtime import compiled_programs
from inception_jax.runtime.compiled_programs import Store

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def cache_home(tmp_path, monkeypatch) -> Iterator[Path]:
    """The user's cache folder, empty, and JAX as a user has it."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    monkeypatch.setattr(compilation_cache, "_cache", None)
    for name in SETTINGS:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_compilation_cache_max_size", -1)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def said(caplog, monkeypatch) -> pytest.LogCaptureFixture:
    """The package's messages, also after a command that kept them for the console."""
    monkeypatch.setattr(logging.getLogger("inception_jax"), "propagate", True)
    return caplog


def folder_in(cache_home: Path) -> Path:
    return cache_home / "inception_jax" / "compiled"


def compile_and_run() -> float:
    """A program that JAX has not compiled in this process."""

    @jax.jit
    def kept_program(x):
        return jnp.sin(x) * 2 + 1

    return float(kept_program(jnp.float32(3)))


def programs(folder: Path) -> list[Path]:
    return sorted(folder.glob("jit_kept_program-*.program"))


def test_programs_are_kept_in_the_users_cache_folder(cache_home, said):
    with said.at_level(logging.INFO, "inception_jax"):
        compiled_programs.keep()
    (line,) = said.messages
    folder = folder_in(cache_home)
    assert str(folder) in line
    assert "1,024 MiB" in line
    assert "JAX_ENABLE_COMPILATION_CACHE=0" in line
    assert folder.stat().st_mode & 0o777 == 0o700
    first = compile_and_run()
    (program,) = programs(folder)
    before = program.read_bytes()
    os.utime(program, (0, 0))
    assert compile_and_run() == first
    assert program.read_bytes() == before
    assert program.stat().st_mtime > 0  # read, not compiled and put in its place


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:50],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["cut short", "empty", "a bit flipped"],
)
@pytest.mark.filterwarnings("error")
def test_a_damaged_program_is_replaced(cache_home, said, harm):
    compiled_programs.keep()
    first = compile_and_run()
    (program,) = programs(folder_in(cache_home))
    good = program.read_bytes()
    program.write_bytes(harm(good))
    assert compile_and_run() == first
    assert [message for message in said.messages if "damaged" in message] == said.messages[-1:]
    assert len(program.read_bytes()) > 50
    said.clear()
    assert compile_and_run() == first
    assert said.messages == []


@pytest.mark.filterwarnings("error")
def test_a_whole_program_that_jax_cannot_load_is_replaced(cache_home, said):
    """Warnings are errors here: JAX's own of this must not end a run."""
    compiled_programs.keep()
    first = compile_and_run()
    folder = folder_in(cache_home)
    (program,) = programs(folder)
    key = program.name.rpartition("-")[0]
    Store(folder, -1).put(key, b"something else")
    assert compile_and_run() == first
    assert "could not load" in said.messages[-1]
    assert len(program.read_bytes()) > 50


def test_settings_of_jax_win(cache_home, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(cache_home / "another"))
    compiled_programs.keep()
    assert jax.config.values["jax_compilation_cache_dir"] == str(cache_home / "another")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compiled_programs.keep()
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert not folder_in(cache_home).exists()
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_max_size", 10)  # bytes: none fits
    compiled_programs.keep()
    compile_and_run()
    assert programs(folder_in(cache_home)) == []


def others_can_write(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def it_is_a_file(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("")


@pytest.mark.parametrize("odd", [others_can_write, it_is_a_file])
def test_an_odd_folder_is_a_warning(cache_home, said, odd):
    odd(folder_in(cache_home))
    compiled_programs.keep()
    (record,) = said.records
    assert record.levelname == "WARNING"
    assert str(folder_in(cache_home)) in record.message
    assert "JAX_COMPILATION_CACHE_DIR" in record.message
    compile_and_run()


def test_somebody_elses_folder_is_refused(cache_home, monkeypatch):
    folder_in(cache_home).mkdir(parents=True, mode=0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(OSError, match="somebody else"):
        compiled_programs.private_folder()


def test_without_a_home_nothing_is_written_beside_the_code(monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="HOME"):
        compiled_programs.private_folder()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_no_longer_be_written_is_one_warning(tmp_path, said):
    store = Store(tmp_path / "gone", -1)
    store.put("first", b"1")
    store.put("second", b"2")
    (message,) = said.messages
    assert "not all compiled programs are kept" in message
    assert store.get("first") is None


def test_those_not_used_for_longest_go(tmp_path):
    store = Store(tmp_path, 3 * 132)  # three with their checksums
    for age, key in enumerate("abc"):
        store.put(key, bytes(100))
        (file,) = tmp_path.glob(f"{key}-*")
        os.utime(file, (age, age))
    assert store.get("a") == bytes(100)  # used now
    store.put("d", bytes(100))
    assert [store.get(key) is not None for key in "abcd"] == [True, False, True, True]


def test_what_a_killed_process_left_behind_goes(tmp_path):
    old, new = tmp_path / "old.unfinished", tmp_path / "new.unfinished"
    for file in (old, new):
        file.write_bytes(bytes(10))
    os.utime(old, (0, 0))
    Store(tmp_path, -1).put("key", b"program")
    assert not old.exists()
    assert new.exists()  # another process may be writing it
    assert new.stat().st_mtime > time.time() - 3600


def test_another_processor_has_programs_of_its_own(tmp_path, monkeypatch):
    Store(tmp_path, -1).put("key", b"program")
    monkeypatch.setattr(compiled_programs, "_PROCESSOR", "another")
    assert Store(tmp_path, -1).get("key") is None


def test_a_program_that_another_process_removed_is_no_news(tmp_path, said):
    store = Store(tmp_path, -1)
    store.put("key", b"program")
    assert store.get("key") == b"program"
    (file,) = tmp_path.iterdir()
    file.unlink()
    assert store.get("key") is None
    store.put("key", b"program")
    assert said.messages == []


WRITER = """
import sys
from pathlib import Path
from inception_jax.runtime.compiled_programs import Store
store = Store(Path(sys.argv[1]), 40_000)
for round in range(300):
    key = str(round % 7)
    found = store.get(key)
    assert found is None or found == key.encode() * 10_000, "half a program"
    if found is None:
        store.put(key, key.encode() * 10_000)
"""


def test_processes_write_at_once_and_one_is_killed(tmp_path):
    """Four programs have room, of seven: they remove one another's all the time."""
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    while not list(tmp_path.glob("*.program")):
        time.sleep(0.01)
    processes[0].kill()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes[1:]] == [0, 0], errors
    assert errors[1:] == ["", ""]
    store = Store(tmp_path, -1)
    kept = [store.get(str(key)) for key in range(7)]
    assert 1 <= sum(program is not None for program in kept) <= 4
