"""The graph ``track_step`` as the three engines it stands for, replayed as one CUDA graph.

Memory attention, mask decoder and memory encoder read what the one before has written, where it
lies. What every frame without prompts gives the decoder is on the device for good. What comes from
the host and what goes there is copied inside the CUDA graph, so that a frame is one launch and one
wait.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.graphs import GraphSpec
from ..arrays import Array
from ..gpu import cuda
from ..gpu.graphs import GraphCache
from ..gpu.tensor import ALIGNED, DeviceTensor, Pool
from ..session import Into
from .tensorrt_runner import Plan, Runner
from .tensorrt_scratch import Scratch

#: outputs of the decoder that the host reads
_NUMBERS = ("iou", "obj_ptr", "object_score", "all_ious")
#: (to, from, bytes)
_Copy = tuple[int, int, int]


@dataclass(frozen=True)
class _Step:
    """One frame's work: each engine's plan and places, and the copies before and after them."""

    plans: tuple[Plan, Plan, Plan]
    bound: tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]
    before: tuple[_Copy, ...]
    after: tuple[_Copy, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What a CUDA graph of it holds."""
        places = tuple(tuple(bound.values()) for bound in self.bound)
        return (*(plan.profile for plan in self.plans), places, self.before, self.after)


class TrackChain:
    """Runs ``track_step`` on one stream. runner: gives the engine of a graph.

    masks: mask logits stay on the device, where there are kernels that take them.
    """

    def __init__(
        self, spec: GraphSpec, runner: Callable[[str], Runner], pool: Pool, stream: cuda.Stream,
        masks: bool, scratch: Scratch,
    ) -> None:  # fmt: skip
        self._spec, self._pool, self._stream, self._masks = spec, pool, stream, masks
        names = ("memory_attention", "mask_decoder", "memory_encoder")
        self._attention, self._decoder, self._encoder = (runner(name) for name in names)
        self._constants: dict[int, dict[str, DeviceTensor]] = {}
        self._graphs = GraphCache(stream)
        scratch.watch(self._graphs)

    def run(self, inputs: Mapping[str, Any], into: Into) -> dict[str, Any]:
        """The outputs of ``track_step``: numbers as host arrays, memories as `into` says.

        The memory is a tensor on the device, or in `into` the slots it was written to.
        """
        self._attention.await_copies(inputs)
        places, before = self._brought(inputs)
        plans = self._plans(inputs)
        logits = self._decoder.kept_block(plans[1], ["mask_logits"], self._pool)["mask_logits"]
        direct = self._masks and self._decoder.places.take(logits.pointer)
        step = self._step(plans, places, before, into, logits.pointer if direct else None)
        self._graphs.run(step.key, functools.partial(self._enqueue, step), self._fixed(plans))
        results: dict[str, Any] = {}
        if self._masks:
            results["mask_logits"] = logits
            if not direct:
                source = self._decoder.outputs["mask_logits"].device.pointer
                cuda.copy(logits.pointer, source, logits.nbytes, self._stream)
        memory = into.get("new_memory") or self._memory(plans[2])
        self._stream.synchronize()
        for name in self._hosted:
            results[name] = self._decoder.outputs[name].view(plans[1].outputs[name]).copy()
        results["new_memory"] = memory
        return {tensor.name: results[tensor.name] for tensor in self._spec.outputs}

    def close(self) -> None:
        self._graphs.close()
        self._constants.clear()

    @property
    def _hosted(self) -> tuple[str, ...]:
        return _NUMBERS if self._masks else (*_NUMBERS, "mask_logits")

    def _fixed(self, plans: Sequence[Plan]) -> bool:
        runners = (self._attention, self._decoder, self._encoder)
        return all(r.is_fixed(plan) for r, plan in zip(runners, plans, strict=True))

    def _brought(self, inputs: Mapping[str, Any]) -> tuple[dict[str, int], list[_Copy]]:
        """Where each input is on the device, and the copies that bring those of the host there."""
        places: dict[str, int] = {}
        copies: list[_Copy] = []
        for name, array in inputs.items():
            port = (self._attention if name in self._attention.inputs else self._decoder).inputs
            own = port[name].device.pointer
            if isinstance(array, DeviceTensor):
                places[name] = array.pointer
                if array.pointer % ALIGNED:
                    cuda.copy(own, array.pointer, array.nbytes, self._stream)
                    places[name] = own
                continue
            port[name].view(array.shape)[...] = array
            copies.append((own, port[name].host.array.ctypes.data, array.nbytes))
            places[name] = own
        return places, copies

    def _plans(self, inputs: Mapping[str, Any]) -> tuple[Plan, Plan, Plan]:
        shapes = {name: array.shape for name, array in inputs.items()}
        attention = self._attention.plan({n: shapes[n] for n in self._attention.inputs})
        constants = self._constant(len(inputs["memory"]))
        embed = attention.outputs["conditioned_embed"]
        known = {**shapes, "conditioned_embed": embed, **{n: t.shape for n, t in constants.items()}}
        decoder = self._decoder.plan({n: known[n] for n in self._decoder.inputs})
        known |= decoder.outputs
        encoder = self._encoder.plan({n: known[n] for n in self._encoder.inputs})
        return attention, decoder, encoder

    def _step(
        self,
        plans: tuple[Plan, Plan, Plan],
        places: Mapping[str, int],
        before: list[_Copy],
        into: Into,
        logits: int | None,
    ) -> _Step:
        """The work, mask logits written to the address `logits`, or to the decoder's own place."""
        known = self._known(places, plans[1].inputs["conditioned_embed"][0])
        if logits is not None:
            known["mask_logits"] = logits
        after = [self._download(name, plans[1].outputs[name]) for name in self._hosted]
        slots = into.get("new_memory", ())
        if len(slots) == 1 and slots[0].pointer % ALIGNED == 0:
            known["new_memory"] = slots[0].pointer
        else:
            # the slots of several objects are apart: theirs are written together, then dealt out
            start = known["new_memory"]
            after += [(s.pointer, start + i * s.nbytes, s.nbytes) for i, s in enumerate(slots)]
        written = {**{n: known[n] for n in self._encoder.inputs}, "memory": known["new_memory"]}
        attention = {n: known[n] for n in (*self._attention.inputs, "conditioned_embed")}
        decoder = {n: known[n] for n in (*self._decoder.inputs, *self._decoder.outputs)}
        return _Step(plans, (attention, decoder, written), tuple(before), tuple(after))

    def _known(self, places: Mapping[str, int], n: int) -> dict[str, int]:
        """Where each tensor of the three engines lies; new_memory: what the last one writes."""
        constants = {name: tensor.pointer for name, tensor in self._constant(n).items()}
        decoded = {name: port.device.pointer for name, port in self._decoder.outputs.items()}
        own = {
            "conditioned_embed": self._decoder.inputs["conditioned_embed"].device.pointer,
            "new_memory": self._encoder.outputs["memory"].device.pointer,
        }
        return {**places, **constants, **decoded, **own}

    def _enqueue(self, step: _Step) -> None:
        for copied in step.before:
            cuda.copy(*copied, self._stream)
        runners = (self._attention, self._decoder, self._encoder)
        for runner, plan, bound in zip(runners, step.plans, step.bound, strict=True):
            runner.launch(plan, bound)
        for copied in step.after:
            cuda.copy(*copied, self._stream)

    def _download(self, name: str, shape: tuple[int, ...]) -> _Copy:
        port = self._decoder.outputs[name]
        host = port.view(shape)
        return host.ctypes.data, port.device.pointer, host.nbytes

    def _memory(self, plan: Plan) -> DeviceTensor:
        """The memory in memory of its own, for callers that keep it."""
        made = self._encoder.kept_block(plan, ["memory"], self._pool)["memory"]
        source = self._encoder.outputs["memory"].device.pointer
        cuda.copy(made.pointer, source, made.nbytes, self._stream)
        return made

    def _constant(self, n: int) -> dict[str, DeviceTensor]:
        """What a frame without prompts gives the decoder and the memory encoder, on the device."""
        if n not in self._constants:
            side = self._decoder.outputs["mask_logits"].spec.shape[-1]
            assert isinstance(side, int)
            # an empty point and the padding point, both "not a point"; masks are not binarised
            values: dict[str, Array] = {
                "point_coords": np.zeros((n, 2, 2), np.float32),
                "point_labels": np.full((n, 2), -1, np.int32),
                "mask_input": np.zeros((n, 1, side, side), np.float32),
                "has_mask_input": np.zeros(n, np.float32),
                "multimask_output": np.array([True]),
                "binarize": np.array([False]),
            }  # fmt: skip
            parts = [(array.shape, array.dtype) for array in values.values()]
            made = dict(
                zip(values, self._pool.block(parts, self._stream, use="constants"), strict=True)
            )
            for name, array in values.items():
                cuda.copy(made[name].pointer, array.ctypes.data, array.nbytes, self._stream)
            # the host arrays go away
            self._stream.synchronize()
            self._constants[n] = made
        return self._constants[n]
