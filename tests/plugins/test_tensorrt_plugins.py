"""Registration, shapes and launch of the attention plugin on the vendor's tensorrt.plugin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tensorrt_bindings_stub import VERSIONS, run_with_bindings
from triton_kernels import triton_on_path

from sam2rt.plugins import memory_cross_attention as op
from sam2rt.plugins.tensorrt_plugins import AttentionSettings, precompile

#: stands in for TensorRT's expression builder: expressions are functions of the sizes n, rows, l
_FAKES = """
import json
import tensorrt as trt
import tensorrt.plugin as trtp
from tensorrt.plugin import _plugin_class, _tensor
from sam2rt.plugins import memory_cross_attention as op, tensorrt_plugins as ours

class Expr:
    def __init__(self, value, constant=False):
        self.value, self.constant = value, constant
    def is_constant(self): return self.constant
    def get_constant_value(self): return self.value({})
    def is_size_tensor(self): return False

class Builder:
    def constant(self, number): return Expr(lambda env: number, True)
    def operation(self, kind, a, b):
        d = trt.DimensionOperation
        act = {d.SUM: lambda x, y: x + y, d.SUB: lambda x, y: x - y, d.PROD: lambda x, y: x * y,
               d.CEIL_DIV: lambda x, y: -(-x // y), d.FLOOR_DIV: lambda x, y: x // y}[kind]
        return Expr(lambda env: act(a.value(env), b.value(env)))

class Dims(list):
    def __init__(self, count): super().__init__([None] * count)

class Desc:
    def __init__(self, dtype, dims):
        class Inner: pass
        self.desc, self.dims = Inner(), dims
        self.min = self.max = self.opt = [1] * len(dims)
        self.desc.type, self.desc.format, self.desc.scale = dtype, trt.TensorFormat.LINEAR, 1.0
        self.desc.dims = dims

class Launch: pass
class Setter:
    def __init__(self): self.args = {}
    def __setitem__(self, i, value): self.args[i] = value

class Symbolic:
    def __init__(self, expr):
        assert isinstance(expr, _tensor.SymInt32)
        self.value = expr._expr.value

trt.IDimensionExpr, trt.DimsExprs, _tensor.SymExprImpl = Expr, Dims, Symbolic
_tensor.Shape.__init__ = lambda self, desc=None: None

def symbol(name): return Expr(lambda env: env[name])
def number(value): return Expr(lambda env: value, True)
"""

_RUN = """
settings = ours.AttentionSettings(arch=90, width=256, value=64, splits=4, cubin=CUBIN)
ours.register_attention(trt, trtp, settings, lazy=True)
definition = trtp.op.sam2rt.MemoryCrossAttention
plugin = _plugin_class._TemplateAOTPlugin(op.NAME, "sam2rt", definition.num_outputs)
plugin.init(definition.register_func, {}, definition.aot_impl_attr_names,
            definition.aot_impl_func, definition.autotune_attr_names, definition.autotune_func)
half, full = trt.DataType.BF16, trt.DataType.FLOAT
types = [half, half, half]
n, rows, l = symbol("n"), symbol("rows"), symbol("l")
dims = [[number(1), rows, number(256)], [n, l, number(256)], [n, l, number(64)]]
out_types = plugin.get_output_data_types(types, [3, 3, 3])
builder = Builder()
shapes = plugin.get_output_shapes(dims, [], builder)
env = {"n": 2, "rows": 4096, "l": 28736}
in_out = [Desc(t, d) for t, d in zip(types + [full, full], dims + [list(s) for s in shapes])]
combos = plugin.get_supported_format_combinations(in_out, 3)
plugin.configure_plugin(in_out[:3], in_out[3:])
tactics = sorted(plugin.get_valid_tactics())
launches = []
for tactic in tactics:
    plugin.set_tactic(tactic)
    launch, setter = Launch(), Setter()
    plugin.get_launch_params(dims, in_out, 3, launch, setter, builder)
    name, code = plugin.get_kernel([d.desc for d in in_out[:3]], [d.desc for d in in_out[3:]])
    launches.append({
        "grid": [x.value(env) for x in (launch.grid_x, launch.grid_y, launch.grid_z)],
        "block": launch.block_x.value(env), "shared": launch.shared_mem.value(env),
        "integers": [setter.args[i].value(env) for i in range(setter.nbSymExprs)],
        "name": name, "head": code[:4].decode("latin1"),
        "parameters": 0 if CUBIN else code.decode().count(".param .") })
print(json.dumps({"types": [t.name for t in out_types], "tactics": tactics,
    "shapes": [[x.value(env) for x in s] for s in shapes], "launches": launches,
    "combos": [c.type.name for c in combos[:5]]}))
"""


def _run(version: str, cubin: bool = False) -> dict[str, Any]:
    done = run_with_bindings(version, _FAKES + _RUN.replace("CUBIN", str(cubin)), triton=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("version", VERSIONS)
def test_registered_plugin_gives_shapes_tactics_and_launches(version: str) -> None:
    got = _run(version)
    assert got["types"] == ["FLOAT", "FLOAT"]
    assert got["shapes"] == [[2, 4, 4096, 64], [2, 4, 4096]]
    assert got["combos"] == ["BF16"] * 3 + ["FLOAT"] * 2
    assert got["tactics"] == [1, 2, 3]
    grids = [launch["grid"] for launch in got["launches"]]
    assert grids == [[32, 4, 2], [32, 4, 2], [64, 4, 2]]
    assert [launch["block"] for launch in got["launches"]] == [256, 256, 128]
    assert [launch["shared"] for launch in got["launches"]] == [221184, 180224, 188416]
    for launch in got["launches"]:
        # n_query, n_key, n_split, n_batch: what the kernel takes between inputs and outputs
        assert launch["integers"] == [4096, 28736, 4, 1]
        assert launch["name"] == "memory_cross_attention"
        assert launch["parameters"] == 9


def test_machine_code_instead_of_ptx() -> None:
    heads = {launch["head"] for launch in _run("10.16", cubin=True)["launches"]}
    assert heads == {"\x7fELF"}


@pytest.mark.parametrize("version", VERSIONS)
def test_registering_again_changes_the_settings_alone(version: str) -> None:
    code = """
import dataclasses
a = ours.AttentionSettings(90, 256, 64, 4)
ours.register_attention(trt, trtp, a, lazy=True)
ours.register_attention(trt, trtp, dataclasses.replace(a, splits=2), lazy=True)
print(trtp.op.sam2rt.MemoryCrossAttention.register_func.settings.current.splits)
"""
    done = run_with_bindings(version, _FAKES + code)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2"), done.stderr


def test_candidates_are_compiled_before_a_build() -> None:
    triton_on_path()
    codes = precompile(AttentionSettings(90, 64, 16, 2), "float16")
    assert len(codes) == len(op.ATTENTION.candidates(90))
    assert all(".f32.f16.f16" in code.ptx for code in codes)


def test_a_float32_graph_is_refused_with_a_remedy() -> None:
    code = """
from sam2rt.configs.errors import SessionError
try:
    ours._dtype(trt, trt.DataType.FLOAT)
except SessionError as error:
    print(error)
"""
    done = run_with_bindings("11.4", _FAKES + code)
    assert "takes float16 or bfloat16" in done.stdout
    assert "--attention folded" in done.stdout
