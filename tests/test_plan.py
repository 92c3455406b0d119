"""The plan command without a TPU, and what it reads from a compiled program."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import ROOT

from inception_jax.config.load import load_config
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import devices
from inception_jax.tools.fake_batch import fake_batch
from inception_jax.tools.plan import compiled_step, compiler, estimate, hlo_text, topology
from inception_jax.tools.plan.compiled_step import CompiledStep
from inception_jax.tools.plan.compiler import OutOfMemory
from inception_jax.tools.plan.hlo_text import Collective, LayerCycles
from inception_jax.tools.plan.largest_batch import (
    COMPILATIONS,
    Trial,
    conclude,
    guess_largest,
    search_largest,
)

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is for Linux on x86"
)

# Lines as the CPU's and the TPU's compiler write them, shortened.
PROGRAM = """\
HloModule jit_train_step, is_scheduled=true

%region_1.2 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add.1 = f32[]{:T(128)} add(%a, %b)
}

%fused_computation.7 (p: bf16[256,28,28,192]) -> bf16[256,28,28,64] {
  %p = bf16[256,28,28,192]{0,3,2,1:T(8,128)(2,1)} parameter(0)
  ROOT %convolution.1 = bf16[256,28,28,64]{0,3,2,1} convolution(%p, %p), window={size=1x1}
}

ENTRY %main.1_spmd (x: bf16[256,28,28,192]) -> (f32[8], f32[]) {
  %x = bf16[256,28,28,192]{0,3,2,1:T(8,128)(2,1)} parameter(0)
  %fusion.7 = bf16[256,28,28,64]{0,3,2,1:T(8,128)(2,1)S(1)} fusion(%x), kind=kOutput, \
calls=%fused_computation.7, \
metadata={op_name="jit(train_step)/jvp(inception_3a)/1x1/conv_general_dilated" stack_frame_id=3}, \
backend_config={"window_config":{"estimated_cycles":"1825"}}
  %fusion.8 = f32[3,3]{1,0} fusion(%x), kind=kLoop, calls=%fused_computation.7, \
metadata={op_name="jit(train_step)/transpose(jvp(inception_3a))/3x3/reduce_sum"}, \
backend_config={"window_config":{"estimated_cycles":"75"}}
  %select-and-scatter.1 = bf16[256,28,28,192]{0,3,2,1} select-and-scatter(%x, %fusion.7, %x), \
select=%region_1.2, scatter=%region_1.2, \
metadata={op_name="jit(train_step)/transpose(jvp(pool1/3x3_s2))/select_and_scatter"}
  %copy.3 = u32[256,28]{0,1} copy(%x), backend_config={"window_config":{"estimated_cycles":"10"}}
  %all-reduce.1 = (bf16[64]{0:T(256)(128)(2,1)S(1)}, bf16[7,7,3,64]{3,1,2,0}, \
/*index=2*/f32[8]{0}) all-reduce(%x, %x, %x), channel_id=1, \
replica_groups=mesh['a'=8] {'a'}, to_apply=%region_1.2
  %all-gather-start.1 = (f32[2]{0}, f32[16]{0}) all-gather-start(%x), dimensions={0}
  %all-gather-done.1 = f32[16]{0} all-gather-done(%all-gather-start.1)
  all-reduce.9 = f32[] all-reduce(%x), channel_id=2, to_apply=%region_1.2
  %get-tuple-element.1 = f32[8]{0} get-tuple-element(%all-reduce.1), index=2
  ROOT %tuple.1 = (f32[8]{0}, f32[]) tuple(%get-tuple-element.1, all-reduce.9)
}
"""


def test_a_batch_is_described_as_it_comes(monkeypatch):
    """A task's batch may have tuples of arrays, too."""
    config = load_config(str(ROOT / "configs" / "smoke.py"))

    def read(config, part):
        rows = fake_batch(config, part)
        return {**rows, "two": (rows["image"][:, :3], {"index": rows["index"]})}

    monkeypatch.setattr(compiled_step, "fake_batch", read)
    mesh = devices.make_mesh()
    real = devices.to_devices(read(config, slice(config.data.batch_size)), mesh)
    described = compiled_step.describe_batch(config, mesh)

    def parts(batch):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), batch)

    assert parts(described) == parts(real)


def test_transfers_with_their_sizes():
    """A start and its done are one transfer; the arrays of a tuple count by dtype."""
    assert hlo_text.collectives(hlo_text.instructions(PROGRAM)) == [
        Collective("all-reduce", "bf16", arrays=2, bytes=2 * (64 + 7 * 7 * 3 * 64)),
        Collective("all-gather", "f32", arrays=1, bytes=64),
        Collective("all-reduce", "f32", arrays=2, bytes=32 + 4),
    ]


def test_cycles_by_layer():
    program = hlo_text.instructions(PROGRAM)
    assert hlo_text.total_cycles(program) == 1825 + 75 + 10
    assert hlo_text.unestimated(program) == {"select-and-scatter": 1}
    layers = ["pool1/3x3_s2", "inception_3a", "inception_3b"]
    assert hlo_text.cycles_by_layer(program, layers) == [
        LayerCycles("pool1/3x3_s2", 0, 0, unestimated=1),
        LayerCycles("inception_3a", 1825, 75, unestimated=0),
        LayerCycles(hlo_text.UNNAMED, 10, 0, unestimated=0),
    ]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("jit(train_step)/jvp(conv1/7x7_s2)/conv_general_dilated", "conv1/7x7_s2"),
        ("jit(train_step)/transpose(jvp(loss3))/classifier/dot_general", "loss3/classifier"),
        ("jit(train_step)/jvp(loss3)/jit(_bernoulli)/jit(_uniform)/add", "loss3"),
        ("jit(train_step)/jvp(conv1/7x7_s2)/pool1/cond/reduce_window_max", "pool1"),
        ("jit(train_step)/update/mul", "update"),
        ("jit(train_step)/vmap(update)/mul", "update"),
        ("jit(train_step)/transpose(jvp(conv1/7x7_s2x))/mul", hlo_text.OTHER),
        ("jit(train_step)/reduce_sum", hlo_text.OTHER),
        ("", hlo_text.UNNAMED),
    ],
)
def test_names_of_layers(name, layer):
    layers = ["conv1/7x7_s2", "pool1", "loss3", "loss3/classifier", "update"]
    assert hlo_text.layer_of(name, layers) == layer


def test_refusals():
    """The messages of libtpu 0.0.42 and of XLA."""
    told = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    told += "temporaries (24.06G) exceeds available HBM (15.75G)."
    expected = OutOfMemory(needed=round(24.06 * 2**30), available=round(15.75 * 2**30))
    assert compiler.parse_out_of_memory(told) == expected
    used = "Ran out of memory in memory space hbm. Used 24.06G of 15.75G hbm. Exceeded hbm capacity"
    assert compiler.parse_out_of_memory(used) == expected
    assert compiler.parse_out_of_memory("INTERNAL: something else") is None


def fixed_and_growing(fixed: int, each: int, available: int):
    """A compiler whose programs take `fixed + each * batch` bytes, and the batches it was given."""
    asked = []

    def try_batch(batch_size: int) -> Trial:
        asked.append(batch_size)
        needed = fixed + each * batch_size
        return Trial(batch_size, needed, needed <= available)

    return try_batch, asked


@pytest.mark.parametrize("first", [64, 512, 6400])
@pytest.mark.parametrize("fixed", [0, 2000, 9000])
def test_the_largest_batch_is_found_by_few_compilations(first, fixed):
    available, each, step = 10_000, 3, 64
    try_batch, asked = fixed_and_growing(fixed, each, available)
    trials = [Trial(0, fixed // 2, True), try_batch(first)]
    search_largest(trials, try_batch, available, step)
    assert len(asked) == len(set(asked)) == len(trials) - 1 <= 1 + COMPILATIONS
    assert all(size % step == 0 for size in asked)
    largest = max(trial.batch_size for trial in trials if trial.fits)
    exact = (available - fixed) // each // step * step
    assert 0.9 * exact - step <= largest <= exact


def test_nothing_is_promised_where_no_batch_fits():
    try_batch, _ = fixed_and_growing(20_000, 1, 10_000)
    trials = [Trial(0, 5000, True), try_batch(64)]
    search_largest(trials, try_batch, 10_000, 64)
    assert [trial.batch_size for trial in trials if trial.fits] == [0]


def test_one_program_and_the_state_alone_give_a_line():
    assert guess_largest([Trial(0, 1000, True), Trial(100, 4000, True)], 10_000, 8) == 296


def test_no_largest_batch_is_guessed_where_memory_does_not_grow():
    """As for a network so small that its images fit into the compiler's rounding."""
    for needed in (1000, 900):
        trials = [Trial(0, 1000, True), Trial(8, needed, True)]
        assert guess_largest(trials, 10_000, 8) is None
        found = conclude(trials, 10_000, 8)
        assert (found["largest_batch_size"], found["largest_batch_size_known"]) == (None, "unknown")
    try_batch, asked = fixed_and_growing(1000, 0, 10_000)
    search_largest(trials, try_batch, 10_000, 8)
    assert asked == [16, 32, 64, 128]


def test_a_guessed_batch_is_not_negative():
    trials = [Trial(0, 20_000, False), Trial(64, 30_000, False)]
    assert guess_largest(trials, 10_000, 8) == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5:2x4", "did you mean v5e:2x4?"),
        ("V5E:2x4", "did you mean v5e:2x4?"),
        ("h100:8", "there are such as v2:2x2"),
        ("v5e", "the grid of chips of v5e has 2 sizes, as in v5e:2x4"),
        ("v5e-8", "did you mean v5e:2x4?"),
        ("v5p:2x4", "has 3 sizes, as in v5p:2x2x2"),
        ("v5e:0x4", "has 2 sizes"),
    ],
)
def test_unknown_slices(name, said):
    with pytest.raises(UsageError, match="topology") as error:
        topology.find_slice(name)
    assert said in str(error.value)


def test_without_the_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'inception_jax\[plan\]'"):
        topology.find_slice("v5e:2x4")


COMPILES_A_LITTLE = """
import json, sys
import jax, jax.numpy as jnp
from pathlib import Path
from inception_jax.runtime import devices
from inception_jax.tools.plan import compiler, topology

found = {}
for name in ("v5e:1x1", "v5e:2x4", "v5e:16x16", "v4:2x2x2", "v3:2x2", "v5p:2x2x2", "v6e:2x4"):
    one = topology.find_slice(name)
    found[name] = [one.kind, one.chips, len(one.devices), one.hosts, one.device_bytes]
row = devices.make_mesh(topology.find_slice("v5e:4x4").devices).devices
found["processes"] = [device.process_index for device in row]
try:
    topology.find_slice("v5e:3x3")
except Exception as error:
    found["v5e:3x3"] = str(error)

def loss(w, x):
    with jax.named_scope("inception_3a"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("pool3/3x3_s2"):
        pooled = jax.lax.reduce_window(
            x.reshape(-1, 32, 32, 128), -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    return jnp.mean(pooled * pooled)

mesh = devices.make_mesh(topology.find_slice("v5e:2x4").devices)
w = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=devices.replicated(mesh))
for rows, file in ((64 * 1024, "fits"), (512 * 1024 * 1024, "refused")):
    x = jax.ShapeDtypeStruct((rows, 64), jnp.float32, sharding=devices.split_batch(mesh))
    step = jax.jit(jax.grad(loss), out_shardings=devices.replicated(mesh))
    program = compiler.compile_within_memory(step.lower(w, x))
    if isinstance(program, compiler.OutOfMemory):
        found[file] = [program.needed, program.available]
    else:
        Path(sys.argv[1]).write_text(program.as_text())
        found[file] = program.cost_analysis()["flops"]
print(json.dumps(found))
"""


@pytest.mark.soak
@needs_compiler
def test_small_programs_for_slices_that_are_not_here(tmp_path):
    """Runs in a process of its own: the compiler, once loaded, stays."""
    file = tmp_path / "program"
    result = subprocess.run(
        [sys.executable, "-c", COMPILES_A_LITTLE, file],
        cwd=ROOT, text=True, capture_output=True, timeout=100, check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "0",
                          "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["v5e:1x1"][:4] == ["TPU v5 lite", 1, 1, 1]
    assert found["v5e:2x4"] == ["TPU v5 lite", 8, 8, 2, round(15.75 * 2**30)]
    assert found["v5e:16x16"][1] == 256
    assert found["v4:2x2x2"][1:4] == [8, 8, 2]
    assert found["v3:2x2"][1:3] == [4, 8]
    assert found["v5p:2x2x2"][1] == found["v6e:2x4"][1] == 8
    # A process has one part of a batch, wherever its chips lie.
    assert found["processes"] == sorted(found["processes"])
    assert set(found["processes"]) == {0, 1, 2, 3}
    assert found["v5e:3x3"].startswith("no slice 'v5e:3x3'; the TPU compiler says:")

    assert found["fits"] == pytest.approx(2 * 2 * 64 * 128 * 64 * 1024 / 8, rel=0.1)
    needed, available = found["refused"]
    assert needed > 512 * 2**20 * (64 + 128) * 4 / 8 > available
    program = hlo_text.instructions(Path(file).read_text())
    (gradient,) = hlo_text.collectives(program)
    assert (gradient.kind, gradient.dtype, gradient.bytes) == ("all-reduce", "f32", 4 * 64 * 128)
    layers = {row.name: row for row in hlo_text.cycles_by_layer(program, ["inception_3a", "pool3"])}
    assert layers["inception_3a"].forward > 0
    assert layers["inception_3a"].backward > 0
    assert sum(row.forward + row.backward for row in layers.values()) == (
        hlo_text.total_cycles(program)
    )


def test_help_fits_one_screen(command):
    assert len(command("plan", "--help", process=True).stdout.splitlines()) < 30


@pytest.fixture
def small_slice(monkeypatch) -> topology.Slice:
    """Every slice becomes one device, this machine's CPU."""
    cpu = jax.devices()[:1]
    small = topology.Slice("v5e:1x1", "cpu", chips=1, hosts=1, devices=cpu, device_bytes=2**30)
    monkeypatch.setattr(topology, "find_slice", lambda name: small)
    monkeypatch.setattr(topology, "compiler_version", lambda: "none")
    return small


PLAN = ("plan", "--config", "configs/smoke.py", "--topology", "v5e:1x1")


def test_the_command_tells_what_the_compiler_says(command, small_slice):
    """The CPU's compiler estimates the step that `train` runs, without cycles."""
    found = json.loads(command(*PLAN, "--json").stdout)
    assert (found["chips"], found["batch_size_per_device"], found["fits"]) == (1, 16, True)
    assert found["flops"] == pytest.approx(found["describe_flops"], rel=0.2)
    assert found["peak_bytes"] < found["device_bytes"] == 2**30
    assert found["largest_batch_size_known"] == "extrapolated"
    assert found["largest_batch_size"] > 16
    assert found["estimated_cycles"] == 0
    assert set(found["versions"]) == {"jax", "jaxlib", "libtpu"}


def test_a_table_of_a_step_that_fits_and_of_one_that_does_not(command, small_slice, monkeypatch):
    """The larger one is refused as by a TPU's compiler: no program, only the memory it needs."""

    def compile_step(config, mesh):
        size = config.data.batch_size
        if size > 64:
            return CompiledStep(OutOfMemory(2**24 * size, 2**30), state_bytes=0)
        program = jax.jit(lambda x: x + 1).lower(np.zeros(size, np.float32)).compile()
        return CompiledStep(program, state_bytes=2**20 if size == 1 else 0)

    monkeypatch.setattr(estimate, "compile_step", compile_step)
    fits = command(*PLAN, "--batch_size", 64, "--search")
    assert "yes" in fits.stdout
    assert "estimated cycles" in fits.stdout
    assert "compiling for 64 images a step: a matter of minutes" in fits.stderr.splitlines()
    unknown = command(*PLAN, "--batch_size", 1, "--json")
    assert json.loads(unknown.stdout)["largest_batch_size"] is None
    assert "unknown: these images need no more" in command(*PLAN, "--batch_size", 1).stdout
    refused = command(*PLAN, "--batch_size", 4096)
    assert "NO" in refused.stdout
    assert "extrapolated" in refused.stdout
    assert "nothing ran" in refused.stdout
    assert "estimated cycles" not in refused.stdout


def test_wrong_use_is_one_line(command, small_slice, monkeypatch):
    monkeypatch.setattr(devices, "make_mesh", lambda of: SimpleNamespace(size=8))
    batch = command.fails(*PLAN, "--batch_size", 12, exit_code=2)
    assert "cannot be split evenly over 8 devices: use a multiple of 8" in batch


@needs_compiler
@pytest.mark.soak
def test_errors_of_the_compiler_are_one_line(command):
    arguments = ("--config", "configs/smoke.py", "--topology", "v5e:2x5")
    name = command.fails("plan", *arguments, exit_code=2, process=True)
    assert "no slice 'v5e:2x5'" in name


@needs_compiler
@pytest.mark.soak
def test_googlenet_on_a_slice(command):
    """With few images a chip: the compiler takes a minute instead of three."""
    arguments = ("--config", "configs/googlenet.py", "--config.model.dtype=bfloat16")
    result = command("plan", *arguments, "--topology", "v5e:2x4", "--batch_size", 64, "--json",
                     process=True)  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["chips"], found["batch_size_per_device"], found["fits"]) == (8, 8, True)
    multiply_adds = 1_582_671_872 + 8_400_000  # describe's, and about those of the auxiliary heads
    assert found["flops"] == pytest.approx(2 * 3 * multiply_adds * 8, rel=0.06)
    assert found["flops"] == pytest.approx(found["describe_flops"], rel=0.05)
    parameters = 13_378_280
    # Parameters, momentum and the average in float32 are there all the time.
    assert 3 * 4 * parameters < found["peak_bytes"] < found["device_bytes"] == 15.75 * 2**30
    gradients = found["collectives"][0]
    assert (gradients["kind"], gradients["dtype"]) == ("all-reduce", "bf16")
    assert gradients["bytes"] == pytest.approx(2 * parameters, rel=0.001)
    rows = found["cycles_by_layer"]
    assert sum(row["forward"] + row["backward"] for row in rows) == found["estimated_cycles"] > 0
    names = [row["name"] for row in rows]
    assert {"distortions", "conv1/7x7_s2", "inception_5b", "loss1", "loss2", "update"} < set(names)
    # Backward max pools: conv1's, conv2's, one in each of nine modules, those after 3b and 4e on
    # each of four branches.
    assert found["without_estimate"]["select-and-scatter"] == 2 + 9 + 2 * 4
    assert found["largest_batch_size_known"] == "extrapolated"
    assert found["largest_batch_size"] > 64
    assert set(found["versions"]) == {"jax", "jaxlib", "libtpu"}


@needs_compiler
@pytest.mark.soak
def test_a_step_that_does_not_fit_is_an_answer(command):
    arguments = ("--config", "configs/smoke.py", "--topology", "v5e:1x1", "--batch_size", 2**18)
    result = command("plan", *arguments, process=True)
    assert "fits" in result.stdout
    assert "NO" in result.stdout
    assert "extrapolated" in result.stdout
    assert "nothing ran" in result.stdout
    assert result.stderr.splitlines() == [
        "compiling for 262,144 images a step: a matter of minutes"
    ]
