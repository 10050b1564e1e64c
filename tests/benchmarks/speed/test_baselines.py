"""Other implementations: the same weights give the same masks, stages and errors are told apart."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper, save_model
from transformers.models.sam2_video import modeling_sam2_video
from transformers_oracle import small_config, weights

from sam2rt.benchmarks.speed.clip import compared, scored_clip
from sam2rt.benchmarks.speed.operations import graph_operations
from sam2rt.benchmarks.speed.systems.onnx_folder import OnnxFolderSystem, read_matching, stage_of
from sam2rt.benchmarks.speed.systems.original import OriginalSystem, original_config
from sam2rt.benchmarks.speed.systems.sam2rt_runtime import TimedSession, tracked_by
from sam2rt.benchmarks.speed.systems.system import Work
from sam2rt.benchmarks.speed.systems.torch_baseline import autocast
from sam2rt.benchmarks.speed.systems.transformers_baseline import TransformersSystem
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError, SessionError
from sam2rt.configs.models import model_config

WORK = Work(objects=2, threads=1, frame_size=(48, 64), scored_frames=3)
STAGES = {"image_encoder", "memory_attention", "mask_decoder", "memory_encoder"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save({"model": weights(small_config("2.1"))}, path)
    return path


@pytest.fixture
def theirs(saved: Path, monkeypatch: pytest.MonkeyPatch) -> TransformersSystem:
    # what a process of its own may change is put back here
    monkeypatch.setattr(modeling_sam2_video, "torch", modeling_sam2_video.torch)
    system = TransformersSystem(WORK, small_config("2.1"), checkpoint=str(saved))
    system.load()
    return system


def test_transformers_with_our_weights_gives_the_references_masks(
    theirs: TransformersSystem,
) -> None:
    from sam2rt.export.model.reference import ReferenceSession
    from sam2rt.export.model.sam2 import build_model

    config = small_config("2.1")
    model = build_model(config)
    model.load_state_dict(weights(config))
    timed = TimedSession(ReferenceSession(model))
    clip = scored_clip(WORK)
    found = theirs.tracked(WORK)
    assert found is not None
    assert found.masks.shape == (3, 2, 256, 256)
    result = compared(tracked_by(timed, clip.frames, clip.points, {}), found)
    assert result["lowest_iou"] > 0.99
    assert (result["flips"], result["results"]) == (0, 6)


def test_autocast_computes_in_bfloat16(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are as far from float32 as eight bits of mantissa are; on the CPU too."""
    monkeypatch.setattr(modeling_sam2_video, "torch", modeling_sam2_video.torch)
    features = []
    for precision in ("fp32", "bf16"):
        system = TransformersSystem(
            WORK, small_config("2.1"), checkpoint=str(saved), precision=precision
        )
        system.load()
        pixels = torch.ones(1, 3, 256, 256)
        with torch.inference_mode(), autocast("cpu", precision):
            made = system._model.get_image_features(pixels)
        features.append(made.fpn_hidden_states[-1])
        masks = system.tracked(WORK)
        assert masks is not None
        assert masks.masks.shape == (3, 2, 256, 256)
    exact, low = features
    assert (exact.dtype, low.dtype) == (torch.float32, torch.bfloat16)
    difference = (exact - low.float()).abs().max() / exact.abs().max()
    assert 1e-3 < difference < 0.1


@pytest.mark.parametrize(("memories", "pointers"), [(7, 16), (2, 2)])
def test_transformers_attends_to_what_the_work_says(
    theirs: TransformersSystem, memories: int, pointers: int
) -> None:
    seen = []
    inner = theirs._model.memory_attention.forward

    def forward(**named: Any) -> Any:
        seen.append(named["memory"].shape[0])
        return inner(**named)

    theirs._model.memory_attention.forward = forward
    theirs.set_up(replace(WORK, memories=memories, pointers=pointers))
    seen.clear()
    frame = [theirs.frame() for _ in range(2)][-1]
    config = small_config("2.1")
    tokens = memories * config.embed_size**2 + pointers * config.pointer_tokens
    assert seen == [tokens] * 4
    assert set(frame) > STAGES
    assert sum(v for k, v in frame.items() if k in {*STAGES, "other"}) == pytest.approx(
        frame["total"]
    )


def test_operations_of_transformers_are_counted_per_stage(theirs: TransformersSystem) -> None:
    theirs.set_up(WORK)
    found = theirs.operations()
    assert set(found) == STAGES
    c = small_config("2.1")
    area, width, tokens = c.embed_size**2, c.hidden_dim, 7 * c.embed_size**2 + 16 * c.pointer_tokens
    own = 4 * area * width**2 + 2 * area**2 * width
    cross = 2 * area * width**2 + 2 * tokens * c.mem_dim * width + 2 * area * tokens * width
    rest = 2 * area * width * c.memory_attention_ffn
    once = 2 * c.memory_attention_layers * (own + cross + rest)
    assert found["memory_attention"] == pytest.approx(WORK.objects * once, rel=1e-3)


def test_the_original_that_is_absent_is_named_in_a_line() -> None:
    if "sam2" in sys.modules:
        pytest.skip("the package sam2 is here")
    with pytest.raises(SessionError, match="the package sam2 is not installed: pip install"):
        OriginalSystem(WORK, model_config("sam2.1_hiera_tiny")).load()


def test_configurations_have_the_originals_names() -> None:
    names = [
        original_config(model_config(n)) for n in ("sam2.1_hiera_tiny", "sam2_hiera_base_plus")
    ]
    assert names == ["configs/sam2.1/sam2.1_hiera_t.yaml", "configs/sam2/sam2_hiera_b+.yaml"]
    with pytest.raises(SessionError, match="no configuration of the model micro"):
        original_config(model_config("micro"))


class _Part(torch.nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, *_: Any) -> Any:
        return self.result


class _FakePredictor(torch.nn.Module):
    """The parts of SAM2VideoPredictor that are relied on, as its public source has them."""

    num_maskmem = 7

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder, self.memory_attention = _Part(0), _Part(0)
        self.sam_prompt_encoder, self.memory_encoder = _Part(0), _Part(0)
        self.sam_mask_decoder = _Part((0, torch.tensor([[0.1, 0.9, 0.3]])))
        self.attended: list[tuple[int, int]] = []

    def init_state(self, video_path: str) -> dict[str, Any]:
        assert [p.name for p in Path(video_path).iterdir()] == ["0.jpg"]
        return {
            "output_dict_per_obj": {},
            "images": None,
            "num_frames": 1,
            "cached_features": {0: 1},
        }

    def add_new_points_or_box(
        self, inference_state: Any, frame_idx: int, obj_id: int, points: Any, labels: Any
    ) -> None:
        assert inference_state["cached_features"] == {}
        assert points.shape == (1, 2)
        self.sam_mask_decoder()
        outputs = {"cond_frame_outputs": {0: {}}, "non_cond_frame_outputs": {}}
        inference_state["output_dict_per_obj"][obj_id - 1] = outputs

    def propagate_in_video(
        self, state: Any, start_frame_idx: int = 0
    ) -> Iterator[tuple[int, list[int], torch.Tensor]]:
        per_object = state["output_dict_per_obj"].values()
        for t in range(start_frame_idx, state["num_frames"]):
            mean = float(state["images"][t].mean())
            for outputs in per_object if t else ():
                before = outputs["non_cond_frame_outputs"]
                near = [k for k in before if t - 7 < k < t]
                self.attended.append((1 + len(near), 1 + sum(t - 16 < k < t for k in before)))
                for part in (self.image_encoder, self.memory_attention, self.sam_prompt_encoder):
                    part.forward()
                self.sam_mask_decoder.forward()
                self.memory_encoder.forward()
                before[t] = {"at": t}
            yield t, [1, 2], torch.full((2, 1, 6, 8), mean)


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> tuple[OriginalSystem, _FakePredictor, list[Any]]:
    predictor, asked = _FakePredictor(), []

    def build(*arguments: Any, **named: Any) -> _FakePredictor:
        asked.append((arguments, named))
        return predictor

    module = ModuleType("sam2.build_sam")
    module.build_sam2_video_predictor = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sam2", ModuleType("sam2"))
    monkeypatch.setitem(sys.modules, "sam2.build_sam", module)
    monkeypatch.setenv("TQDM_DISABLE", "")
    config = model_config("sam2.1_hiera_tiny").with_image_size(64)
    system = OriginalSystem(WORK, config, compile=True)
    system.load()
    return system, predictor, asked


def test_the_original_is_built_by_its_public_function(
    original: tuple[OriginalSystem, _FakePredictor, list[Any]],
) -> None:
    (arguments, named) = original[2][0]
    assert arguments == ("configs/sam2.1/sam2.1_hiera_t.yaml", None)
    assert named["vos_optimized"] is True
    assert named["device"] == "cpu"
    assert named["hydra_overrides_extra"] == ["++model.image_size=64"]
    assert original[1].fill_hole_area == 0


@pytest.mark.parametrize(
    ("memories", "pointers", "seen"), [(7, 16, (7, 16)), (3, 3, (3, 3)), (1, 1, (1, 1))]
)
def test_the_original_attends_to_what_the_work_says(
    original: tuple[OriginalSystem, _FakePredictor, list[Any]], memories: int, pointers: int,
    seen: tuple[int, int],
) -> None:  # fmt: skip
    system, predictor, _ = original
    system.set_up(replace(WORK, memories=memories, pointers=pointers))
    predictor.attended.clear()
    frames = [system.frame() for _ in range(3)]
    assert predictor.attended == [seen] * 2 * 3
    assert all(set(frame) > STAGES for frame in frames)


def test_masks_of_the_original_follow_the_frames(
    original: tuple[OriginalSystem, _FakePredictor, list[Any]], saved: Path
) -> None:
    system = original[0]
    assert system.tracked(WORK) is None
    system._checkpoint = str(saved)
    found = system.tracked(WORK)
    assert found is not None
    clip = scored_clip(WORK)
    means = [float(system._pixels(frame).mean()) > 0 for frame in clip.frames]
    assert found.masks.shape == (3, 2, 6, 8)
    assert [bool(m.all()) for m in found.masks] == means
    assert found.choices.tolist() == [[2, 2]] * 3


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("image_encoder", "image_encoder"), ("tiny.encoder", "image_encoder"),
        ("memory-attention_tiny", "memory_attention"), ("memory_encoder_fp16", "memory_encoder"),
        ("image_decoder", "mask_decoder"), ("prompt_encoder", "mask_decoder"),
        ("track_step", "track_step"), ("mlp", None),
    ],
)  # fmt: skip
def test_files_are_matched_by_their_names(name: str, stage: str | None) -> None:
    assert stage_of(name) == stage


def _foreign(bundle: Bundle, folder: Path, matching: dict[str, Any]) -> OnnxFolderSystem:
    folder.mkdir()
    for name in (*STAGES, "mask_prompt"):
        (folder / f"{name}.onnx").symlink_to(bundle.graph_path(name))
        for entry in bundle.graphs[name].external:
            if not (folder / entry.path).exists():
                (folder / entry.path).symlink_to(bundle.path / entry.path)
    if matching:
        (folder / "stages.json").write_text(json.dumps(matching))
    return OnnxFolderSystem(WORK, str(folder))


def test_stages_of_a_foreign_folder_are_timed_alone(bundle: Bundle, tmp_path: Path) -> None:
    system = _foreign(bundle, tmp_path / "f", {"ignore": ["mask_prompt.onnx"], "dims": {"M": 4}})
    system.load()
    system.set_up(WORK)
    frame = system.frame()
    assert {n for n in frame if not n.startswith("cpu")} == {*STAGES, "total"}
    assert sum(frame[s] for s in STAGES) == pytest.approx(frame["total"])
    sizes = {"B": 1, "I": 1, "G": 1, "N": 2, "M": 4, "K": 16, "P": 2}
    for stage, count in system.operations().items():
        path, spec = bundle.graph_path(stage), bundle.graphs[stage].spec
        assert count == graph_operations(path, spec, sizes), stage
    assert system.tracked(WORK) is None


def _product(
    folder: Path, name: str, shape: list[int | str], kind: int = TensorProto.FLOAT
) -> None:
    x = helper.make_tensor_value_info("x", kind, shape)
    y = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(exist_ok=True)
    save_model(model, folder / f"{name}.onnx")


def test_a_graph_of_one_object_is_called_for_each(tmp_path: Path) -> None:
    _product(tmp_path / "f", "memory_attention", [1, 4, 4])
    _product(tmp_path / "f", "memory_encoder", ["batch", 4, 4])
    _product(tmp_path / "f", "image_encoder", [1, 4, 4])
    system = OnnxFolderSystem(replace(WORK, objects=3), str(tmp_path / "f"))
    system.load()
    system.set_up(replace(WORK, objects=3))
    once = 2 * 4**3
    assert system.operations() == {
        "image_encoder": once, "memory_attention": 3 * once, "memory_encoder": 3 * once
    }  # fmt: skip
    assert {g.stage: g.calls for g in system._graphs} == {
        "image_encoder": 1, "memory_attention": 3, "memory_encoder": 1
    }  # fmt: skip


def test_a_size_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    _product(tmp_path / "f", "memory_attention", ["tokens", "tokens"])
    system = OnnxFolderSystem(WORK, str(tmp_path / "f"))
    system.load()
    with pytest.raises(InputError, match=r"memory_attention\.onnx: no size is known for dimension "
                       "'tokens' of input 'x': give --onnx-dim tokens=SIZE"):  # fmt: skip
        system.set_up(WORK)
    asked = OnnxFolderSystem(WORK, str(tmp_path / "f"), dims={"tokens": 9})
    asked.load()
    asked.set_up(WORK)
    assert asked.operations() == {"memory_attention": 2 * 2 * 9**3}


@pytest.mark.parametrize(
    ("files", "matching", "why"),
    [
        ([], None, "holds no .onnx files"),
        (["mlp"], None, "mlp.onnx cannot be matched to a stage: write stages.json"),
        (["mlp"], {"stages": {"attention": ["mlp.onnx"]}}, "unknown stage 'attention'"),
        (["mlp"], {"stages": {"memory_attention": ["x.onnx"]}, "ignore": ["mlp.onnx"]},
         "x.onnx is missing"),
        (["mlp"], [], "expected an object"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_matched_say_why(
    tmp_path: Path, files: list[str], matching: Any, why: str
) -> None:
    for name in files:
        (tmp_path / f"{name}.onnx").touch()
    if matching is not None:
        (tmp_path / "stages.json").write_text(json.dumps(matching))
    with pytest.raises(InputError, match=why):
        read_matching(tmp_path)


def test_stages_may_be_told(tmp_path: Path) -> None:
    for name in ("a", "b", "decoder"):
        (tmp_path / f"{name}.onnx").touch()
    told = {"stages": {"memory_attention": ["b.onnx", "a.onnx"]}, "dims": {"t": 3}}
    (tmp_path / "stages.json").write_text(json.dumps(told))
    found = read_matching(tmp_path)
    assert found.stages == {
        "memory_attention": [tmp_path / "b.onnx", tmp_path / "a.onnx"],
        "mask_decoder": [tmp_path / "decoder.onnx"],
    }
    assert found.dims == {"t": 3}
