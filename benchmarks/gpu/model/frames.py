"""The model itself on torch: the very graphs of a bundle, captured, whole frames per second.

Weights are untrained, which changes no time. A frame is the steady state of one object: image
encoder, memory attention over seven memories and sixteen pointers, mask decoder, memory encoder,
the new memory into its slot. "device": frames lie on the card; "host": frames come from pinned
memory as uint8 of video size, and masks of that size go back, one frame after the other.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....configs.bundle import Half, Precision
from ....configs.graphs import FULL, WHOLE, graph_specs, variant_name
from ....configs.models import ModelConfig, model_config
from ....plugins import memory_cross_attention as op
from ....runtime.pixels.frame_tensor import MEAN, STD
from ..kernels import Inputs, attention_kernel, run_attention
from ..needs import one_line
from ..stage import Stage, captured, milliseconds
from .executor import GraphExecutor, load_graph

if TYPE_CHECKING:
    from ....export.graphs.graph_files import MadeGraph
    from ....export.model.sam2 import Sam2

_ATTENTION = "memory_attention"
#: variants of memory attention: file, whether our kernel takes the node
ATTENTIONS = {
    "plugin": (variant_name(_ATTENTION, WHOLE), True),
    "full": (variant_name(_ATTENTION, FULL), False),
    # the node's plain body: scores go through memory
    "body": (variant_name(_ATTENTION, WHOLE), False),
}


def written_graphs(stage: Stage, name: str, precision: Precision) -> Path:
    """Folder with the ONNX files an export with engine variants writes; made once, unproved.

    Without the proof of an export, which runs the model on a CPU. Each graph is traced once for
    both half precisions. Needs onnx and onnxscript.
    """
    folder = _folder(stage, name, precision)
    if not folder.is_dir():
        if precision == "fp32":
            _write(folder, _reference_graphs(model_config(name)))
        else:
            traced = list(_engine_graphs(model_config(name)))
            for half in stage.precisions:
                _write(_folder(stage, name, half), _lowered(traced, model_config(name), half))
    return folder


def _folder(stage: Stage, name: str, precision: str) -> Path:
    return stage.folder / f"{name}-{precision}"


def _write(folder: Path, graphs: Iterable[MadeGraph]) -> None:
    from ....export.graphs.graph_files import write_graphs

    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_graphs(part, graphs)
    part.rename(folder)


def _untrained(config: ModelConfig) -> Sam2:
    from ....export.model.sam2 import build_model
    from ....export.model.untrained import untrained_state

    model = build_model(config)
    model.load_state_dict(untrained_state(config))
    return model


def _reference_graphs(config: ModelConfig) -> Iterator[MadeGraph]:
    """Every graph, float32, as CPUs run it."""
    from ....export.graphs.graph_files import DEFAULT_OPSET, MadeGraph
    from ....export.graphs.modules import graph_modules
    from ....export.graphs.onnx_from_module import onnx_from_module

    modules = graph_modules(_untrained(config))
    for name, spec in graph_specs(config).items():
        yield MadeGraph(name, spec, onnx_from_module(modules[name], spec, DEFAULT_OPSET))


def _engine_graphs(config: ModelConfig) -> Iterator[MadeGraph]:
    """The graphs that engines are built from, float32, without nodes of ours."""
    from ....export.graphs.graph_files import DEFAULT_OPSET, MadeGraph
    from ....export.graphs.modules import graph_modules
    from ....export.graphs.onnx_from_module import onnx_from_module
    from ....export.graphs.variants import FULL_VALUES, WHOLE_ATTENTION

    model, specs = _untrained(config), graph_specs(config)
    whole, full = (graph_modules(model, variant) for variant in (WHOLE_ATTENTION, FULL_VALUES))
    chosen = [
        *((name, name, whole[name]) for name in ("mask_decoder", "mask_prompt", "memory_encoder")),
        *((variant_name(n, WHOLE), n, whole[n]) for n in ("image_encoder", _ATTENTION)),
        (variant_name(_ATTENTION, FULL), _ATTENTION, full[_ATTENTION]),
    ]
    for name, contract, module in chosen:
        spec = specs[contract]
        yield MadeGraph(name, spec, onnx_from_module(module, spec, DEFAULT_OPSET))


def _lowered(
    graphs: Iterable[MadeGraph], config: ModelConfig, precision: Half
) -> Iterator[MadeGraph]:
    from ....export.graphs.plugin_nodes import with_attention_nodes
    from ....export.graphs.precision import EXACT_GRAPHS, lowered

    for graph in graphs:
        made = graph.model if graph.name in EXACT_GRAPHS else lowered(graph.model, precision)
        if graph.name == variant_name(_ATTENTION, WHOLE):
            made = with_attention_nodes(made, config)
        # writing takes the weights out of a model
        yield dataclasses.replace(graph, model=type(made).FromString(made.SerializeToString()))


def executors(stage: Stage, folder: Path, *names: str, fused: bool) -> dict[str, GraphExecutor]:
    """Executors of the folder's graphs by the name of their contract."""
    found = {}
    for name in names:
        whole = folder / f"{variant_name(name, WHOLE)}.onnx"
        path = whole if whole.is_file() else folder / f"{name}.onnx"
        found[name] = load_graph(path, stage.device, fused=fused)
    return found


def attention_executor(stage: Stage, folder: Path, attention: str) -> GraphExecutor:
    """Memory attention in one of :data:`ATTENTIONS`."""
    file, plugin = ATTENTIONS[attention]
    custom = {op.NAME: _Kernel(stage)} if plugin else None
    return load_graph(folder / f"{file}.onnx", stage.device, custom=custom, fused=True)


class _Kernel:
    """Our attention kernel in the place of the operator's plain body."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._kernel = stage, attention_kernel()
        self._launch = op.ATTENTION.candidates(stage.arch)[0]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        given = [t.contiguous() for t in (query, key, value)]
        if self._stage.rehearsal:
            # the interpreter multiplies no half precision
            given = [t.float() for t in given]
        inputs = Inputs(given[0].expand(len(key), -1, -1).contiguous(), *given[1:])
        n, rows, _ = inputs.query.shape
        splits = op.split_count(rows, n, self._stage.processors)
        partial = torch.empty((n, splits, rows, value.shape[2]), device=query.device)
        lse = torch.empty((n, splits, rows), device=query.device)
        run_attention(self._kernel, inputs, splits, self._launch, partial, lse)
        return partial, lse


class SteadyFrame:
    """The steady state of one object as calls of graphs on tensors that stay where they are."""

    def __init__(
        self, stage: Stage, config: ModelConfig, run: Mapping[str, GraphExecutor], frame: Any
    ) -> None:
        self._run, self._size = run, config.image_size
        generator = torch.Generator(stage.device).manual_seed(0)
        c, m, h, low = config.hidden_dim, config.mem_dim, config.embed_size, config.mask_size

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=stage.device)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=stage.device)

        self.image = normal(1, 3, config.image_size, config.image_size)
        memories, pointers = config.num_maskmem, config.max_obj_ptrs
        self.memories = {
            "memory": normal(1, memories, m, h, h),
            "memory_tpos": torch.arange(memories, device=stage.device)[None],
            "obj_ptrs": normal(1, pointers, c),
            "obj_ptr_pos": torch.linspace(0, 1, pointers, device=stage.device)[None],
        }
        self._prompt = {
            "point_coords": zeros(1, 2, 2),
            "point_labels": zeros(1, 2, dtype=torch.int32) - 1,
            "mask_input": zeros(1, 1, low, low),
            "has_mask_input": zeros(1),
            "multimask_output": zeros(1, dtype=torch.bool) | True,
        }
        self._binarize = zeros(1, dtype=torch.bool)
        self._video = frame
        self._raw = zeros(*frame, 3, dtype=torch.uint8)
        self._mean, self._std = (
            torch.from_numpy(x.reshape(1, 3, 1, 1).copy()).to(stage.device) for x in (MEAN, STD)
        )
        self.mask = zeros(*frame, dtype=torch.bool)
        # what each step takes is there, so that each can be measured alone
        self.whole()

    def encode(self) -> None:
        self._features = self._run["image_encoder"]({"image": self.image})

    def attend(self) -> None:
        given = {"image_embed": self._features["image_embed"], **self.memories}
        self._conditioned = self._run[_ATTENTION](given)

    def decode(self) -> None:
        high = {n: self._features[n] for n in ("high_res_0", "high_res_1")}
        self._decoded = self._run["mask_decoder"]({**self._conditioned, **high, **self._prompt})

    def remember(self) -> None:
        given = {n: self._decoded[n] for n in ("mask_logits", "object_score")}
        embed = self._features["image_embed"]
        made = self._run["memory_encoder"](
            {"image_embed": embed, **given, "binarize": self._binarize}
        )
        self.memories["memory"][:, 0].copy_(made["memory"])

    def whole(self) -> None:
        for step in (self.encode, self.attend, self.decode, self.remember):
            step()

    def from_host(self, frame: Tensor, mask: Tensor) -> None:
        """A frame [H,W,3] uint8 in pinned memory to its mask [H,W] bool there."""
        self._raw.copy_(frame, non_blocking=True)
        planes = self._raw.permute(2, 0, 1)[None].float() / 255
        size = [self._size, self._size]
        small = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
        self.image.copy_((small - self._mean) / self._std)
        self.whole()
        logits = self._decoded["mask_logits"]
        wide = F.interpolate(logits, list(self._video), mode="bilinear", align_corners=False)
        self.mask.copy_(wide[0, 0] > 0)
        mask.copy_(self.mask, non_blocking=True)


def model_speeds(stage: Stage) -> Iterator[list[dict[str, Any]]]:
    """Frames per second of each model and precision, fastest model first, told step by step."""
    torch.backends.cudnn.benchmark = True
    found: list[dict[str, Any]] = []
    first, *others = stage.models
    pairs = [(first, p) for p in stage.precisions]
    # exporting takes most of the time: then one precision of every model
    pairs += [(name, p) for p in stage.precisions for name in others]
    for name, precision in pairs:
        entry: dict[str, Any] = {"model": name, "precision": precision}
        found.append(entry)
        try:
            for _ in _measured(stage, name, precision, entry):
                yield found
        except Exception as error:
            # one model must not cost the others their figures
            entry["failed"] = one_line(error)
            yield found


def _measured(stage: Stage, name: str, precision: Half, entry: dict[str, Any]) -> Iterator[None]:
    started = time.monotonic()
    folder, config = written_graphs(stage, name, precision), model_config(name)
    entry["seconds_to_export"] = time.monotonic() - started
    rest = ("image_encoder", "mask_decoder", "memory_encoder")
    run = executors(stage, folder, *rest, fused=True)
    attentions: dict[str, Any] = {}
    entry["attentions"] = attentions
    for attention in ATTENTIONS:
        try:
            run[_ATTENTION] = attention_executor(stage, folder, attention)
            with torch.inference_mode():
                frame = SteadyFrame(stage, config, run, stage.frame)
                attentions[attention] = _speeds(stage, frame, detailed=not attentions)
        except Exception as error:
            attentions[attention] = {"failed": one_line(error)}
        yield


def _speeds(stage: Stage, frame: SteadyFrame, detailed: bool) -> dict[str, Any]:
    """One graph for the whole frame, each step alone, and from the host."""
    found: dict[str, Any] = {"memory_attention_ms": milliseconds(stage, frame.attend)}
    found["frame_ms"] = milliseconds(stage, frame.whole)
    found["fps_device"] = 1e3 / found["frame_ms"]
    if detailed:
        steps = {"image_encoder": frame.encode, "mask_decoder": frame.decode}
        for name, step in {**steps, "memory_encoder": frame.remember}.items():
            found[f"{name}_ms"] = milliseconds(stage, step)
    found["fps_host"] = 1 / _seconds_from_host(stage, frame)
    return found


def _seconds_from_host(stage: Stage, frame: SteadyFrame) -> float:
    h, w = stage.frame
    host = torch.randint(0, 256, (h, w, 3), dtype=torch.uint8).pin_memory()
    mask = torch.zeros(h, w, dtype=torch.bool).pin_memory()
    run = captured(stage, lambda: frame.from_host(host, mask))
    times: list[float] = []
    until = time.perf_counter() + stage.patience
    while time.perf_counter() < until or not times:
        started = time.perf_counter()
        run()
        stage.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
