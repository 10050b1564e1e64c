"""The graph ``track_step`` as the three engines it stands for, replayed as one CUDA graph.

Memory attention, mask decoder and memory encoder read what the one before has written, where it
lies. What every frame without prompts gives the decoder is on the device for good. What comes from
the host and what goes there is copied inside the CUDA graph, in one piece each way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...configs.graphs import GraphSpec
from ..arrays import Array
from ..gpu import cuda
from ..gpu.arrivals import Late, Packed
from ..gpu.graphs import GraphCache
from ..gpu.tensor import ALIGNED, DeviceTensor, Pool
from ..session import Into
from .tensorrt_runner import Form, Plan, Runner
from .tensorrt_scratch import Scratch

#: outputs of the decoder that the host reads
_NUMBERS = ("iou", "obj_ptr", "object_score", "all_ious")
#: sets of shapes and of addresses that are remembered
_MOST_LAYOUTS, _MOST_STEPS = 64, 256
#: (to, from, bytes)
_Copy = tuple[int, int, int]


class _Layout:
    """What shapes of inputs decide: plans of the engines, and what travels to and from the host."""

    def __init__(self, plans: tuple[Plan, Plan, Plan], up: Packed, down: Packed) -> None:
        self.plans, self.up, self.down = plans, up, down
        self.fixed = False

    def close(self) -> None:
        self.up.close()
        self.down.close()


class _Step:
    """One frame's work: each engine's plan and places, and the copies before and after them."""

    def __init__(
        self,
        runners: Sequence[Runner],
        plans: Sequence[Plan],
        bound: Sequence[Mapping[str, int]],
        before: Sequence[_Copy],
        after: Sequence[_Copy],
        stream: cuda.Stream,
    ) -> None:
        self._engines = list(zip(runners, plans, bound, strict=True))
        self._before, self._after, self._stream = before, after, stream

    def __call__(self) -> None:
        for copied in self._before:
            cuda.copy(*copied, self._stream)
        for runner, plan, bound in self._engines:
            runner.launch(plan, bound)
        for copied in self._after:
            cuda.copy(*copied, self._stream)


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
        self._runners = self._attention, self._decoder, self._encoder = tuple(map(runner, names))
        self._hosted = _NUMBERS if masks else (*_NUMBERS, "mask_logits")
        self._constants: dict[int, dict[str, DeviceTensor]] = {}
        self._layouts: dict[Any, _Layout] = {}
        self._steps: dict[Any, _Step] = {}
        self._graphs = GraphCache(stream)
        scratch.watch(self._graphs)

    def run(self, inputs: Mapping[str, Any], into: Into, form: Form) -> dict[str, Any]:
        """The outputs of ``track_step``: numbers for the host, memories as `into` says.

        The memory is a tensor on the device, or in `into` the slots it was written to. Numbers
        are on their way while work is put off, else they are waited for.
        """
        layout = self._layouts.get(form) or self._new_layout(inputs, form)
        if not layout.fixed:
            pairs = zip(self._runners, layout.plans, strict=True)
            settled = [runner.settle(plan) for runner, plan in pairs]
            layout.fixed = all(settled)
        turn, back = layout.up.turn(), layout.down.turn()
        layout.up.fill(turn, inputs)
        slots = into.get("new_memory", ())
        logits = self._logits(layout)
        direct = logits is not None and self._decoder.places.take(logits.pointer)
        known = [a.pointer for a in inputs.values() if isinstance(a, DeviceTensor)]
        written = logits.pointer if logits is not None and direct else None
        key = (layout, turn, back, written, *known, *[slot.pointer for slot in slots])
        step = self._steps.get(key)
        if step is None:
            step = self._remembered(key, self._step(layout, turn, back, inputs, slots, written))
        self._graphs.run(key, step, layout.fixed)
        results: dict[str, Any] = {}
        if logits is not None:
            results["mask_logits"] = logits
            if not direct:
                source = self._decoder.outputs["mask_logits"].device.pointer
                cuda.copy(logits.pointer, source, logits.nbytes, self._stream)
        results["new_memory"] = into.get("new_memory") or self._memory(layout.plans[2])
        return self._arriving(layout.down, back, inputs, results)

    def close(self) -> None:
        self._graphs.close()
        self._steps.clear()
        for layout in self._layouts.values():
            layout.close()
        self._layouts.clear()
        self._constants.clear()

    def _arriving(
        self, down: Packed, back: int, inputs: Mapping[str, Any], results: dict[str, Any]
    ) -> dict[str, Any]:
        """The results with the host's among them; what was lent is kept until the work is done."""
        arrival = down.arrival(back)
        collector = self._stream.collector
        if collector is None:
            arrival.keep()
            return results | {name: arrival.read(name) for name in self._hosted}
        for array in inputs.values():
            if isinstance(array, DeviceTensor) and array.lent_to(self._stream):
                collector.hold(array)
        return results | {name: Late(arrival, name) for name in self._hosted}

    def _new_layout(self, inputs: Mapping[str, Any], form: Form) -> _Layout:
        hosted = [name for name, a in inputs.items() if not isinstance(a, DeviceTensor)]
        if len(self._layouts) >= _MOST_LAYOUTS:
            self._forget_layouts()
        plans = self._plans(inputs)
        up = {name: (inputs[name].shape, inputs[name].dtype) for name in hosted}
        specs = self._decoder.outputs
        down = {n: (plans[1].outputs[n], np.dtype(specs[n].spec.dtype)) for n in self._hosted}
        made = _Layout(
            plans,
            Packed(up, self._pool, self._stream, "track inputs"),
            Packed(down, self._pool, self._stream, "track numbers"),
        )
        return self._layouts.setdefault(form, made)

    def _forget_layouts(self) -> None:
        # copies may be under way, and graphs hold the addresses
        self._stream.synchronize()
        self._graphs.close()
        self._steps.clear()
        for layout in self._layouts.values():
            layout.close()
        self._layouts.clear()

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

    def _remembered(self, key: Any, step: _Step) -> _Step:
        if len(self._steps) >= _MOST_STEPS:
            self._steps.pop(next(iter(self._steps)))
        return self._steps.setdefault(key, step)

    def _step(
        self,
        layout: _Layout,
        turn: int,
        back: int,
        inputs: Mapping[str, Any],
        slots: Sequence[DeviceTensor],
        logits: int | None,
    ) -> _Step:
        """The work, mask logits written to the address `logits`, or to the decoder's own place."""
        known = self._known(layout, inputs)
        if logits is not None:
            known["mask_logits"] = logits
        up, down = layout.up, layout.down
        before = [(up.device, up.address(turn), up.nbytes)]
        before += self._aligned(inputs, known)
        after = [(down.address(back), down.device, down.nbytes)]
        if len(slots) == 1 and slots[0].pointer % ALIGNED == 0:
            known["new_memory"] = slots[0].pointer
        else:
            # the slots of several objects are apart: theirs are written together, then dealt out
            start = known["new_memory"]
            after += [(s.pointer, start + i * s.nbytes, s.nbytes) for i, s in enumerate(slots)]
        written = {**{n: known[n] for n in self._encoder.inputs}, "memory": known["new_memory"]}
        attention = {n: known[n] for n in (*self._attention.inputs, "conditioned_embed")}
        decoder = {n: known[n] for n in (*self._decoder.inputs, *self._decoder.outputs)}
        bound = (attention, decoder, written)
        return _Step(self._runners, layout.plans, bound, before, after, self._stream)

    def _known(self, layout: _Layout, inputs: Mapping[str, Any]) -> dict[str, int]:
        """Where each tensor of the three engines lies; new_memory: what the last one writes."""
        given = {n: a.pointer for n, a in inputs.items() if isinstance(a, DeviceTensor)}
        constants = self._constant(layout.plans[1].inputs["conditioned_embed"][0])
        decoded = {name: port.device.pointer for name, port in self._decoder.outputs.items()}
        packed = {**constants, **layout.up.tensors, **layout.down.tensors}
        own = {
            "conditioned_embed": self._decoder.inputs["conditioned_embed"].device.pointer,
            "new_memory": self._encoder.outputs["memory"].device.pointer,
        }
        return {**given, **decoded, **{n: t.pointer for n, t in packed.items()}, **own}

    def _aligned(self, inputs: Mapping[str, Any], known: dict[str, int]) -> list[_Copy]:
        """Copies of tensors that lie where TensorRT cannot read, to places it can, in `known`."""
        copies: list[_Copy] = []
        for name, array in inputs.items():
            if isinstance(array, DeviceTensor) and array.pointer % ALIGNED:
                runner = self._attention if name in self._attention.inputs else self._decoder
                known[name] = runner.inputs[name].device.pointer
                copies.append((known[name], array.pointer, array.nbytes))
        return copies

    def _logits(self, layout: _Layout) -> DeviceTensor | None:
        """Where mask logits go that stay on the device."""
        if not self._masks:
            return None
        return self._decoder.kept_block(layout.plans[1], ["mask_logits"], self._pool)["mask_logits"]

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
