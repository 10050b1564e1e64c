"""One graph on one stream: contexts, buffers and CUDA graphs of an engine.

A CUDA graph holds addresses, so inputs and outputs have fixed places; what lies at an address
that stays, such as the ring of memories, is bound where it is, and each such address has a
graph of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.errors import SessionError
from ...configs.graphs import GraphSpec, TensorSpec, output_shapes
from ..arrays import Array
from ..gpu import cuda
from ..gpu.graphs import GraphCache, Places
from ..gpu.tensor import ALIGNED, DeviceTensor, Pool
from ..session import Into
from .engine_profiles import choose_profile, is_fixed
from .engine_record import EngineRecord
from .tensorrt_scratch import Scratch

#: sets of shapes whose profile is remembered
_MOST_PLANS = 64


#: runs of the same shapes after which they get a context, and how many such contexts there are
_REPEATED, _MOST_OWN = 8, 8
#: addresses of one output that are written directly; a caller that keeps every result has no end
_MOST_PLACES = 8


#: a graph with the names, shapes, dtypes and kinds of its inputs
Form = tuple[Any, ...]


@dataclass(eq=False)
class Plan:
    """What shapes of inputs decide: the profile, shapes of outputs, and the context they run in.

    fixed: the context never has other shapes, so that a CUDA graph may hold its work.
    """

    profile: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    context: int
    fixed: bool
    runs: int = 0


@dataclass
class _Port:
    """One tensor of a graph: its place on the device and in pinned host memory, largest size."""

    spec: TensorSpec
    device: cuda.Buffer
    host: cuda.PinnedArray

    def view(self, shape: tuple[int, ...]) -> Array:
        return self.host.array[: math.prod(shape)].reshape(shape)

    def close(self) -> None:
        self.device.close()
        self.host.close()


class Runner:
    """One graph on one stream; contexts and buffers for every profile."""

    def __init__(
        self, engine: Any, record: EngineRecord, spec: GraphSpec, stream: cuda.Stream,
        scratch: Scratch,
    ) -> None:  # fmt: skip
        self._engine, self._record, self._spec, self._stream = engine, record, spec, stream
        self._scratch = scratch
        self._contexts: dict[int, Any] = {}
        #: contexts that were made for repeated shapes
        self._repeated = 0
        #: per context, where its tensors are
        self._addresses: dict[int, dict[str, int]] = {}
        #: per context, the shapes it was told
        self._shapes: dict[int, Mapping[str, tuple[int, ...]]] = {}
        #: of fixed shapes, by context and places
        self._graphs = GraphCache(stream)
        scratch.watch(self._graphs)
        #: how often the stream had been waited for when host arrays were last brought
        self._brought = -1
        self._plans: dict[tuple[tuple[str, tuple[int, ...]], ...], Plan] = {}
        self._by_form: dict[Form, Plan] = {}
        #: runs from where inputs lie to where outputs stay, by both
        self._direct: dict[Any, Callable[[], None]] = {}
        #: where blocks of kept outputs are written directly; others are copied out
        self.places = Places(_MOST_PLACES)
        symbols = self._largest_symbols()
        sizes = {
            t.name: tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
            for t in (*spec.inputs, *spec.outputs)
        }
        needed = sum(_nbytes(t, sizes[t.name]) for t in (*spec.inputs, *spec.outputs))
        cuda.require_memory(needed, f"inputs and outputs of {spec.name}")
        self.inputs = {t.name: _port(t, sizes[t.name]) for t in spec.inputs}
        self.outputs = {t.name: _port(t, sizes[t.name]) for t in spec.outputs}
        ports = {**self.inputs, **self.outputs}
        self._own = {name: port.device.pointer for name, port in ports.items()}

    def run(
        self,
        inputs: Mapping[str, Any],
        pool: Pool,
        keep: Collection[str],
        into: Into,
        form: Form,
        direct: bool = False,
    ) -> dict[str, Any]:
        """Outputs as host arrays; those in `keep` as device tensors, those of `into` as given.

        `direct`: kept outputs are written where they stay, for callers that let go of them soon,
        and tensors are read where they lie. Waits for the GPU where there are host arrays alone.
        """
        plan = self._by_form.get(form)
        if plan is None:
            if len(self._by_form) >= _MOST_PLANS:
                self._by_form.clear()
            plan = self.plan({name: array.shape for name, array in inputs.items()})
            self._by_form[form] = plan
        if direct and not into and self._all_stays(plan, inputs, keep):
            made = self._run_direct(plan, inputs, pool)
            if made is not None:
                return made
        bound = {n: a.pointer for n, a in inputs.items() if self._stays(a, direct)}
        # the slots of several objects are apart: theirs are written together, then dealt out
        bound |= {n: s[0].pointer for n, s in into.items() if len(s) == 1 and _fits(s[0])}
        kept = [name for name in plan.outputs if name in keep and name not in into]
        results: dict[str, Any] = {}
        if direct and kept:
            results = self.kept_block(plan, kept, pool)
            if self.places.take(next(iter(results.values())).pointer):
                bound |= {name: tensor.pointer for name, tensor in results.items()}
        self.await_copies(inputs)
        for name, array in inputs.items():
            if name not in bound:
                self._bring(name, array)
        key = (plan.context, tuple(bound.items()))
        enqueue = functools.partial(self.launch, plan, bound)
        self._graphs.run(key, enqueue, plan.fixed)
        for name, shape in plan.outputs.items():
            if name in into:
                results[name] = into[name]
                if name not in bound:
                    self._deal(self.outputs[name], into[name])
            elif name not in bound:
                results[name] = self._take(name, shape, pool, name in keep, results.get(name))
        return self._settled(inputs, {name: results[name] for name in plan.outputs})

    def _all_stays(self, plan: Plan, inputs: Mapping[str, Any], keep: Collection[str]) -> bool:
        """Whether nothing comes from the host or goes there, or is lent."""
        if len(keep) < len(plan.outputs):
            return False
        return all(self._stays(array, direct=True) for array in inputs.values())

    def _run_direct(
        self, plan: Plan, inputs: Mapping[str, DeviceTensor], pool: Pool
    ) -> dict[str, Any] | None:
        """Run from where inputs lie to where outputs stay; None: a graph cannot hold that place."""
        results = self.kept_block(plan, list(plan.outputs), pool)
        first = next(iter(results.values())).pointer
        if not self.places.take(first):
            return None
        key = (plan.context, first, *[array.pointer for array in inputs.values()])
        enqueue = self._direct.get(key)
        if enqueue is None:
            if len(self._direct) >= _MOST_PLANS:
                self._direct.clear()
            bound = {name: tensor.pointer for name, tensor in (*inputs.items(), *results.items())}
            enqueue = self._direct[key] = functools.partial(self.launch, plan, bound)
        self._graphs.run(key, enqueue, plan.fixed)
        return results

    def _settled(self, inputs: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
        """The results, once arrays of the host are there and what was lent is not needed more."""
        hosted = {name: array for name, array in results.items() if isinstance(array, np.ndarray)}
        tensors = [array for array in inputs.values() if isinstance(array, DeviceTensor)]
        if hosted or any(tensor.lent_to(self._stream) for tensor in tensors):
            self._stream.synchronize()
        return {**results, **{name: array.copy() for name, array in hosted.items()}}

    def plan(self, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
        """Profile and output shapes for inputs of those shapes; InputError for larger ones."""
        key = tuple(shapes.items())
        if (known := self._plans.get(key)) is not None:
            return known
        index = choose_profile(self._record.profiles, shapes, self._spec.name)
        fixed = is_fixed(self._record.profiles[index])
        made = Plan(index, dict(shapes), output_shapes(self._spec, shapes), index, fixed)
        if len(self._plans) >= _MOST_PLANS:
            self._plans.pop(next(iter(self._plans)))
        return self._plans.setdefault(key, made)

    def kept_block(self, plan: Plan, names: Sequence[str], pool: Pool) -> dict[str, DeviceTensor]:
        """Tensors for those outputs, in one piece of memory."""
        parts = [(plan.outputs[name], self.outputs[name].spec.dtype) for name in names]
        return dict(zip(names, pool.block(parts, self._stream, use=self._spec.name), strict=True))

    def _deal(self, port: _Port, slots: Sequence[DeviceTensor]) -> None:
        for i, slot in enumerate(slots):
            source = port.device.pointer + i * slot.nbytes
            cuda.copy(slot.pointer, source, slot.nbytes, self._stream)

    def _take(self, name: str, shape: tuple[int, ...], pool: Pool, keep: bool, made: Any) -> Any:
        """Enqueue the copy of an output to where it goes: `made`, where that is already there."""
        port = self.outputs[name]
        if keep:
            made = made or DeviceTensor.pooled(pool, shape, port.spec.dtype, self._stream)
            cuda.copy(made.pointer, port.device.pointer, made.nbytes, self._stream)
            return made
        host = port.view(shape)
        cuda.copy(host.ctypes.data, port.device.pointer, host.nbytes, self._stream)
        return host

    def close(self) -> None:
        self._graphs.close()
        for port in (*self.inputs.values(), *self.outputs.values()):
            port.close()
        self._contexts.clear()

    def _largest_symbols(self) -> dict[str, int]:
        most = {name: shape for name, (_, _, shape) in self._record.profiles[-1].items()}
        return {
            dim: size
            for t in self._spec.inputs
            for dim, size in zip(t.shape, most[t.name], strict=True)
            if isinstance(dim, str)
        }

    def _stays(self, array: Any, direct: bool) -> bool:
        """Whether a CUDA graph may read the array where it lies."""
        if not isinstance(array, DeviceTensor):
            return False
        return (array.stays or (direct and not array.lent_to(self._stream))) and _fits(array)

    def await_copies(self, inputs: Mapping[str, Any]) -> None:
        """Wait, where the copies of an earlier run may still read the pinned arrays."""
        if all(isinstance(array, DeviceTensor) for array in inputs.values()):
            return
        if self._brought == self._stream.waits:
            self._stream.synchronize()
        self._brought = self._stream.waits

    def _bring(self, name: str, array: Any) -> None:
        """Enqueue the copy of an input into its fixed place, which a CUDA graph needs."""
        port = self.inputs[name]
        if isinstance(array, DeviceTensor):
            source = array.pointer
        else:
            port.view(array.shape)[...] = array
            source = port.host.array.ctypes.data
        cuda.copy(port.device.pointer, source, array.nbytes, self._stream)

    def launch(self, plan: Plan, bound: Mapping[str, int]) -> None:
        """Enqueue the engine, tensors in `bound` at those addresses, others in their places."""
        context = self._context(plan)
        self._scratch.ready(self._spec.name)
        self._place(context, plan.context, bound)
        if self._shapes.get(plan.context) is not plan.inputs:
            self._set_shapes(context, plan.inputs)
            self._shapes[plan.context] = plan.inputs
        self._execute(context)

    def settle(self, plan: Plan) -> bool:
        """Whether the shapes are fixed; those that come again and again get a context of their own.

        Such as of two prompted frames, or of fewer objects than the engine takes.
        """
        plan.runs += 1
        if not plan.fixed and plan.runs > _REPEATED and self._repeated < _MOST_OWN:
            plan.context, plan.fixed = len(self._record.profiles) + self._repeated, True
            self._repeated += 1
        return plan.fixed

    def _context(self, plan: Plan) -> Any:
        index = plan.context
        if index in self._contexts:
            return self._contexts[index]
        needed = int(self._engine.device_memory_size_v2)
        context = self._scratch.context(self._engine, needed, self._spec.name)
        if not context.set_optimization_profile_async(plan.profile, self._stream.handle):
            raise self._failed("its profile was refused")
        self._addresses[index] = {}
        self._contexts[index] = context
        return context

    def _place(self, context: Any, index: int, bound: Mapping[str, int]) -> None:
        """Tell the context where its tensors are: in `bound`, else in their own places."""
        known = self._addresses[index]
        for name, own in self._own.items():
            address = bound.get(name, own)
            if known.get(name) != address:
                if not context.set_tensor_address(name, address):
                    raise self._failed(f"it has no tensor '{name}'")
                known[name] = address

    def _set_shapes(self, context: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise self._failed(f"shape {list(shape)} of '{name}' was refused")

    def _execute(self, context: Any) -> None:
        # unchecked, a refused enqueue inside a capture would replay stale buffers
        if not context.execute_async_v3(self._stream.handle):
            raise self._failed("the work could not be enqueued")

    def _failed(self, why: str) -> SessionError:
        return SessionError(
            f"the engine of {self._spec.name} failed ({why}): build it again with 'sam2rt build'"
        )


def _port(tensor: TensorSpec, shape: tuple[int, ...]) -> _Port:
    host = cuda.PinnedArray((math.prod(shape),), tensor.dtype)
    return _Port(tensor, cuda.Buffer(_nbytes(tensor, shape)), host)


def _nbytes(tensor: TensorSpec, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(tensor.dtype).itemsize


def _fits(tensor: DeviceTensor) -> bool:
    return tensor.pointer % ALIGNED == 0
