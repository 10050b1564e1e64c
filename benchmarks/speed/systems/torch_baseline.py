"""What the systems written in PyTorch have in common: stages timed, their operations counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....configs.errors import CheckpointError
from ....configs.models import ModelConfig
from ....runtime.arrays import Array
from ....runtime.pixels.frame_tensor import video_frame_tensor
from .system import CPU, Work, whole_frame

if TYPE_CHECKING:
    from torch import Tensor


class Stages:
    """Adds up seconds, and on demand matrix operations, of methods that stand for stages."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self.operations: dict[str, float] = {}
        #: masks taken by the decoder since it was last emptied
        self.choices: list[int] = []
        self._device = device
        self._counter: Any = None

    def wrap(
        self, owner: Any, method: str, stage: str, see: Callable[[Any], None] | None = None
    ) -> None:
        """Time owner.method as part of a stage; `see` is given what it returns."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            before = 0 if self._counter is None else self._counter.get_total_flops()
            start, cpu = self.now(), time.process_time()
            result = inner(*arguments, **named)
            spent = {stage: self.now() - start, CPU + stage: time.process_time() - cpu}
            for name, seconds in spent.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            if self._counter is not None:
                done = self._counter.get_total_flops() - before
                self.operations[stage] = self.operations.get(stage, 0.0) + done
            if see is not None:
                see(result)
            return result

        setattr(owner, method, timed)

    def now(self) -> float:
        """Seconds, once the device has done what it was given."""
        if self._device != "cpu":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def see_decoded(self, result: Any) -> None:
        """Note which of the three masks of a multimask call is the best; of a single one none."""
        ious = result[1].detach().float().cpu().numpy()
        ious = ious.reshape(-1, ious.shape[-1])
        several = ious.shape[1] > 1
        self.choices += [int(row.argmax()) + 1 if several else -1 for row in ious]

    def frame(self, run: Callable[[], object]) -> dict[str, float]:
        """Seconds of one frame: per stage, whole, and of the process."""
        self.seconds.clear()
        start, cpu = self.now(), time.process_time()
        run()
        total, cpu = self.now() - start, time.process_time() - cpu
        return whole_frame(self.seconds, total, cpu)

    def counted(self, run: Callable[[], object]) -> dict[str, float]:
        """Matrix operations of one frame, per stage."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

        def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
            count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
            return count

        # the counter knows the kernels of GPUs alone
        on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        self.operations.clear()
        with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as self._counter:
            run()
        self._counter = None
        return dict(self.operations)


class TorchBaseline:
    """What the predictors written in PyTorch are given: work, weights, device, precision."""

    def __init__(
        self,
        work: Work,
        model: ModelConfig,
        *,
        checkpoint: str | None = None,
        compile: bool = False,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.work, self.config, self._checkpoint = work, model, checkpoint
        self._compile, self._precision = compile, precision
        self._device = torch_device(device)
        self._stages = Stages(self._device)
        self._frames: Iterator[Array]
        self._now = 0

    def _pixels(self, frame: Array) -> Any:
        return pixel_tensor(frame, self.config, self._device)


def torch_device(device: str) -> str:
    """Where PyTorch runs for one of sam2rt's devices: on the CPU, or on the GPU they all mean."""
    return "cpu" if device == "cpu" else "cuda"


def autocast(device: str, precision: str) -> Any:
    """The context that runs a model in that precision."""
    import torch

    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16}
    wanted = dtypes.get(precision)
    return torch.autocast(device, dtype=wanted or torch.bfloat16, enabled=wanted is not None)


def compiled(module: Any) -> None:
    """Compile a module's forward in place."""
    import torch

    module.forward = torch.compile(module.forward)


def pixel_tensor(frame: Array, config: ModelConfig, device: str) -> Tensor:
    """A frame as every system's input [3, S, S]: resizing is sam2rt's and not timed for others."""
    import torch

    return torch.from_numpy(video_frame_tensor(frame, config.image_size)).to(device)


def state_of(checkpoint: str, config: ModelConfig) -> Mapping[str, Tensor]:
    """A checkpoint's tensors under the original's names."""
    from ....export.checkpoint.load import load_checkpoint

    return load_checkpoint(checkpoint, model=config).state


def scaled_points(
    points: Sequence[tuple[float, float]], frame_size: tuple[int, int], side: int
) -> list[tuple[float, float]]:
    """Pixels of a frame (height, width) to pixels of the model's square input."""
    height, width = frame_size
    return [(x * side / width, y * side / height) for x, y in points]


def stacked_choices(rows: Sequence[Sequence[int]], objects: int) -> Array:
    """Choices of each frame as [T, N]; CheckpointError when a frame's are not one per object."""
    if any(len(row) != objects for row in rows):
        raise CheckpointError("the decoder was not called once for each object and frame")
    return np.array([list(row) for row in rows])
