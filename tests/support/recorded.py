"""Play a recorded video scenario against a predictor and compare everything recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from golden import GoldenSet, data_path
from numpy.typing import NDArray

from sam2rt.runtime.bank import restore_memory
from sam2rt.runtime.frames import FrameSource
from sam2rt.runtime.predictors.video import VideoPredictor
from sam2rt.runtime.predictors.video_state import VideoState
from sam2rt.runtime.session import Into, Session, SessionWrapper

Array = NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """Largest absolute differences allowed; memories are of scale 20, their bound is 1e-4 of it."""

    logits: float = 1e-3
    scores: float = 1e-4
    memory: float = 2e-3


FLOAT32 = Bounds()
#: a difference of 1e-6 makes a stored value round the other way: one unit in the last place is
#: 0.0625 for the largest memories, and moves logits by up to 1e-2 within a few frames
BFLOAT16 = Bounds(logits=1e-2, scores=1e-3, memory=0.0625)


class CallLog(SessionWrapper):
    """A session that passes calls on and keeps them until taken.

    The separate graphs run, so that what passes between them is seen.
    """

    fused = per_object = False

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.calls: list[tuple[str, Mapping[str, Array], dict[str, Array]]] = []

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        outputs = super().run(graph, inputs, into)
        # the memory array is reused by the next call
        kept = {k: v.copy() if k == "memory" else v for k, v in inputs.items()}
        self.calls.append((graph, kept, outputs))
        return outputs

    def take(self) -> list[tuple[str, Mapping[str, Array], dict[str, Array]]]:
        calls, self.calls = self.calls, []
        return calls


class ResizedFrames(FrameSource):
    """Frames recorded at the model's size, standing for a video of another size."""

    def __init__(self, frames: Array, height: int, width: int) -> None:
        super().__init__()
        self.frames, self._shown = frames, (height, width)

    def _count(self) -> int:
        return len(self.frames)

    height = property(lambda self: self._shown[0])
    width = property(lambda self: self._shown[1])

    def _load(self, index: int) -> Array:
        return self.frames[index]


def recorded_frames(golden: GoldenSet, num_frames: int) -> Any:
    """The frames of a scenario: the stored resized ones, or the clip's own pictures."""
    if golden.manifest["image_size"] == 256:
        micro = GoldenSet(golden.root.parent / "micro")
        return ResizedFrames(micro.array("resized_u8", "v_frames")[:num_frames], 540, 960)
    return sorted(data_path("bedroom").glob("*.jpg"))[:num_frames]


def recorded_mask(text: str) -> Array:
    """The mask prompts of scenario V4, from their description in the manifest."""
    mask = np.zeros((540, 960), bool)
    if text == "all false":
        return mask
    rows, cols = np.mgrid[100:420, 150:480]
    height, width = 320, 330
    centre_y, centre_x = 100 + height / 2, 150 + width / 2
    inside = ((rows - centre_y) / height) ** 2 + ((cols - centre_x) / width) ** 2 < 0.2
    mask[100:420, 150:480] = inside
    return mask


class Scenario:
    """One recorded scenario being replayed."""

    def __init__(
        self, golden: GoldenSet, name: str, session: Session, bounds: Bounds = FLOAT32
    ) -> None:
        self.bounds = bounds
        self.golden, self.file = golden, f"v_{name}"
        self.recorded = golden.manifest["scenarios"][name]
        self.log = CallLog(session)
        options = self.recorded.get("extra") or {}
        dtype = golden.manifest["memory_features_dtype"]
        self.video = VideoPredictor(
            session.bundle,
            session=self.log,
            fill_hole_area=0,
            memory_dtype=None if dtype == "float32" else dtype,
            **options,
        )
        self.state: VideoState = self.video.init_state(
            recorded_frames(golden, self.recorded["num_frames"])
        )
        self.worst: dict[str, float] = {}

    def play(self, frames: int | None = None) -> dict[str, float]:
        """Replay all events (or the first `frames` tracked frames); the largest differences."""
        propagation: Iterator[Any] = iter(())
        seen = 0
        for event in self.recorded["events"]:
            self.log.take()
            if event["op"] == "propagate_in_video":
                propagation = self.video.propagate_in_video(self.state, **event["args"])
                continue
            if event["op"] == "frame":
                seen += 1
                if frames is not None and seen > frames:
                    break
                result = next(propagation)
            else:
                result = self._prompt(event)
            if event["op"] == "remove_object":
                self._check_removal(event, result)
            else:
                self._check(event, result)
        else:
            assert next(propagation, None) is None
        return self.worst

    def _prompt(self, event: dict[str, Any]) -> Any:
        if event["op"] == "add_new_mask":
            mask = recorded_mask(event["mask"])
            return self.video.add_new_mask(self.state, event["frame"], event["obj_id"], mask)
        if event["op"] == "remove_object":
            return self.video.remove_object(self.state, event["obj_id"])
        assert event["op"] == "add_new_points_or_box"
        return self.video.add_new_points_or_box(
            self.state, frame_idx=event["frame"], obj_id=event["obj_id"], **event["args"]
        )

    def _compare(self, name: str, actual: Array, atol: float, rtol: float = 0.0) -> None:
        worst = self.golden.compare(name, actual, atol=atol, rtol=rtol, file=self.file)
        kind = name.rsplit(".", 1)[1]
        self.worst[kind] = max(self.worst.get(kind, 0.0), worst)

    def _check(self, event: dict[str, Any], result: Any) -> None:
        key, (frame_idx, obj_ids, logits) = event["event"], result
        assert frame_idx == event["frame"]
        assert obj_ids == event["obj_ids"]
        objects = self.state.objects.values()
        first = any(frame_idx in o.fresh.cond for o in objects)
        outputs = [o.result(frame_idx, first) for o in objects]
        stored = [
            "cond_frame_outputs"
            if frame_idx in o.fresh.cond or (
                frame_idx in o.history.cond and frame_idx not in o.fresh.non_cond
            )
            else "non_cond_frame_outputs"
            for o in objects
        ]  # fmt: skip
        assert stored == event["storage"]
        self._compare(
            f"{key}.low_res", np.stack([o.mask_logits for o in outputs]), self.bounds.logits
        )
        self._compare(
            f"{key}.obj_score", np.array([o.object_score for o in outputs]), self.bounds.scores
        )
        self._compare(f"{key}.obj_ptr", np.stack([o.obj_ptr for o in outputs]), self.bounds.scores)
        self._compare(f"{key}.video", logits[:, 0], self.bounds.logits)
        for obj_id, item in zip(obj_ids, objects, strict=True):
            name = f"{key}.obj{obj_id}.maskmem"
            if any(self.golden.has(name + end, self.file) for end in ("", "__sample")):
                memory = restore_memory(item.history.at(frame_idx).memory)
                self._compare(name, memory[None], self.bounds.memory)
        self._check_calls(event)

    def _check_calls(self, event: dict[str, Any]) -> None:
        key, calls = event["event"], self.log.take()
        decoded = [
            row for g, i, _ in calls if g == "mask_decoder" for row in i["conditioned_embed"]
        ]
        multimask = [
            bool(i["multimask_output"][0])
            for g, i, _ in calls if g == "mask_decoder" for _ in i["conditioned_embed"]
        ]  # fmt: skip
        assert multimask == [c["multimask"] for c in event["calls"]]
        attended = [
            (i["memory"][n], i["memory_tpos"][n], i["obj_ptrs"][n])
            for g, i, _ in calls if g == "memory_attention" for n in range(len(i["memory"]))
        ]  # fmt: skip
        for j, call in enumerate(event["calls"]):
            name = f"{key}.call{j}"
            if self.golden.has(f"{name}.pix_feat__sample", self.file):
                self._compare(f"{name}.pix_feat", decoded[j][None], self.bounds.logits)
            if "n_spatial_memories" in call:
                memory, tpos, pointers = attended[j]
                assert len(memory) == call["n_spatial_memories"]
                # slots lie in another order than the original's; the table row gives it back
                order = np.argsort(-tpos, kind="stable")
                tokens = pointers.reshape(-1, memory.shape[1])
                assert len(tokens) == call["n_ptr_tokens"]
                rows = np.concatenate([memory[order, :, 0, 0], tokens])
                self._compare(f"{name}.memory_rows", rows, self.bounds.memory)

    def _check_removal(self, event: dict[str, Any], result: Any) -> None:
        obj_ids, updated = result
        assert obj_ids == event["obj_ids"]
        assert [t for t, _ in updated] == event["updated_frames"]
        for n, (_, logits) in enumerate(updated):
            self._compare(f"{event['event']}.upd{n}.video", logits[:, 0], self.bounds.logits)
