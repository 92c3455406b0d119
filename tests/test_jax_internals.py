"""The private names of JAX that we use: where one is gone, the failure says what it was for."""

import ast
import inspect
import socket
import subprocess
import sys

import jax
import pytest
from conftest import ROOT
from jax._src import clusters, compilation_cache, distributed

WHAT_TO_DO = """
JAX {version} has no {name} any more, or it is another thing. {purpose}
Look in the release notes of JAX for a public name. The only module to change is
inception_jax/runtime/jax_internals.py; until then, say so in the versions of requirements.txt."""

CLUSTERS = (
    "It finds the coordinator and the number of processes in the environment of Slurm, Open MPI, "
    "Cloud TPU and Kubernetes. Without it `processes.join` still works with --coordinator, "
    "--num_processes and --process_id, which launch/ can give."
)
CLIENT = (
    "It is the key-value store by which processes agree, find out who is lost and say why "
    "(processes.py, lost_processes.py). Without it write a small server beside rendezvous.py."
)
CACHE = (
    "JAX takes the store of compiled programs from there (compiled_programs.py). Without it name "
    "JAX's own store with jax.config's jax_compilation_cache_dir; the docstring of "
    "compiled_programs.py says what that costs."
)


def need(condition: object, name: str, purpose: str) -> None:
    if not condition:
        pytest.fail(WHAT_TO_DO.format(version=jax.__version__, name=name, purpose=purpose))


def test_clusters_are_detected():
    detect = getattr(clusters.ClusterEnv, "auto_detect_unset_distributed_params", None)
    name = "jax._src.clusters.ClusterEnv.auto_detect_unset_distributed_params"
    need(detect, name, CLUSTERS)
    assert detect is not None
    expected = [
        "coordinator_address", "num_processes", "process_id", "local_device_ids",
        "cluster_detection_method", "initialization_timeout",
    ]  # fmt: skip
    need(list(inspect.signature(detect).parameters) == expected, f"{name} as it was", CLUSTERS)


CLIENT_PROGRAM = """
import jax, sys
from inception_jax.runtime import jax_internals
jax.distributed.initialize(sys.argv[1], 1, 0, cluster_detection_method="deactivate")
client = jax_internals.coordinator_client()
client.key_value_set("folder/a", "1")
client.key_value_set("folder/a", "2", allow_overwrite=True)
try:
    client.key_value_set("folder/a", "3")
except Exception:
    pass  # the first counts
else:
    sys.exit("set twice")
assert client.blocking_key_value_get("folder/a", 1000) == "2"
assert client.key_value_dir_get("folder") == [("folder/a", "2")]
client.wait_at_barrier("name", 1000)
print("done")
"""


def test_the_coordinator_has_a_store_and_barriers():
    state = getattr(distributed, "global_state", None)
    need(hasattr(state, "client"), "jax._src.distributed.global_state.client", CLIENT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    result = subprocess.run(
        [sys.executable, "-c", CLIENT_PROGRAM, address], cwd=ROOT, capture_output=True, text=True
    )
    methods = "key_value_set, key_value_dir_get, blocking_key_value_get or wait_at_barrier"
    need(result.stdout == "done\n", f"{methods} as it was:\n{result.stderr[-2000:]}", CLIENT)


def test_jax_takes_a_store_of_programs():
    """That it uses the store: test_compiled_programs.py."""
    for name in ("_cache", "reset_cache"):
        need(hasattr(compilation_cache, name), f"jax._src.compilation_cache.{name}", CACHE)


def test_private_names_of_jax_are_in_one_module():
    found = set()
    for path in (ROOT / "inception_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules.append(node.module or "")
            if any("_src" in module.split(".") for module in modules):
                found.add(path.name)
    assert found <= {"jax_internals.py"}
