"""Export and verification end to end at toy size: what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from bundles import SharedBundles

from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.configs.errors import BundleError, CheckpointError, InputError, ProofError, SessionError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import MODELS
from sam2rt.export import bundle as exporting
from sam2rt.export.bundle import bundle_for, export_bundle
from sam2rt.export.checkpoint.load import Checkpoint
from sam2rt.export.graphs import graph_files
from sam2rt.export.model.reference import ReferenceSession
from sam2rt.export.model.sam2 import build_model
from sam2rt.export.model.untrained import untrained_state
from sam2rt.export.proof.record import record
from sam2rt.export.prove import prove
from sam2rt.export.verify import verify_bundle

#: weights whose choices among masks have margins that bfloat16 respects
SEED = 2


@pytest.fixture(scope="module")
def checkpoint_file(shared_bundles: SharedBundles) -> Path:
    return shared_bundles.weights("micro", SEED)


@pytest.fixture(scope="module")
def exported(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.untrained("micro", SEED, seed=5)


def copied(bundle: Bundle, folder: Path) -> Bundle:
    """The same bundle at `folder`, whose files a test may change."""
    return Bundle.load(shutil.copytree(bundle.path, folder))


def loaded(model: str = "micro", seed: int = SEED) -> Checkpoint:
    config = MODELS[model]
    return Checkpoint(config, untrained_state(config, seed), "ab" * 32, "made by the test")


def test_manifest(exported: Bundle, checkpoint_file: Path) -> None:
    assert exported.model == MODELS["micro"]
    assert (exported.precision, exported.opset) == ("fp32", 20)
    assert exported.checkpoint_sha256 == file_sha256(checkpoint_file)
    assert {n: e.spec for n, e in exported.graphs.items()} == graph_specs(exported.model)
    assert exported.generator.startswith("sam2rt ")
    again = Bundle.load(exported.path)  # hashes included
    assert again == exported


def test_graphs_declare_their_contract(exported: Bundle) -> None:
    for name, entry in exported.graphs.items():
        graph = onnx.load(exported.graph_path(name)).graph
        for values, tensors in (
            (graph.input, entry.spec.inputs),
            (graph.output, entry.spec.outputs),
        ):
            found = [
                (v.name, tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim))
                for v in values
            ]
            assert found == [(t.name, t.shape) for t in tensors]


def test_proof_in_the_manifest(exported: Bundle) -> None:
    proof = exported.proof
    assert (proof["status"], proof["seed"], proof["frames"]) == ("passed", 5, 8)
    assert (proof["backend"], proof["device"], proof["emulated"]) == ("onnxruntime", "cpu", False)
    assert proof["clip"]["results"] == proof["clip"]["compared"] == 21
    assert proof["clip"]["lowest_iou"] > 0.999
    for name, row in proof["outputs"].items():
        assert row["max"] <= 1e-4 * row["scale"], name
        assert row["cosine"] > 0.999999, name
    assert len(proof["outputs"]) == sum(len(e.spec.outputs) for e in exported.graphs.values())


def test_same_seed_same_bundle(exported: Bundle, checkpoint_file: Path, tmp_path: Path) -> None:
    again = export_bundle(checkpoint_file, tmp_path / "b", seed=5, threads=1)
    for name, entry in exported.graphs.items():
        assert again.graphs[name].file.sha256 == entry.file.sha256, name
    assert again.proof_files["record"].sha256 == exported.proof_files["record"].sha256


def test_fresh_inputs_each_time(shared_bundles: SharedBundles, tmp_path: Path) -> None:
    again = export_bundle("sam2rt_micro", tmp_path / "b", threads=1)
    assert again.proof["seed"] != shared_bundles.built_in().proof["seed"]


def test_verify_against_the_record(exported: Bundle) -> None:
    outcome = verify_bundle(exported.path, threads=1)
    assert outcome["seed"] == 5
    # the same graphs on the same inputs; the record is a sample
    assert outcome["clip"] == exported.proof["clip"]
    for name, row in outcome["outputs"].items():
        assert row["max"] <= exported.proof["outputs"][name]["max"]


def test_verify_against_the_checkpoint(exported: Bundle, checkpoint_file: Path) -> None:
    outcome = verify_bundle(exported.path, checkpoint_file, seed=123, threads=1)
    assert (outcome["status"], outcome["seed"]) == ("passed", 123)


def test_verify_with_another_checkpoint(exported: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save(untrained_state(MODELS["micro"], 9), other)
    with pytest.raises(CheckpointError) as caught:
        verify_bundle(exported.path, other)
    assert str(caught.value) == (
        f"bundle {exported.path} was made from the checkpoint with sha256 "
        f"{exported.checkpoint_sha256[:12]}..., {other} has {file_sha256(other)[:12]}...: give "
        "that one, or export this one"
    )


def test_verify_needs_neither_torch_nor_onnx(exported: Bundle) -> None:
    code = (
        "import sys\n"
        "from sam2rt.export.verify import verify_bundle\n"
        f"outcome = verify_bundle({str(exported.path)!r}, threads=1)\n"
        "assert outcome['status'] == 'passed'\n"
        "assert not {'torch', 'onnx', 'onnxscript'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def _replace_graph(bundle: Bundle, name: str, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change a graph and sign the bundle again, as a broken exporter would have written it."""
    from sam2rt.configs.bundle import bundle_file, write_manifest

    path = bundle.graph_path(name)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    entry = replace(bundle.graphs[name], file=bundle_file(bundle.path, path.name))
    write_manifest(replace(bundle, graphs={**bundle.graphs, name: entry}))


def test_verify_finds_a_changed_weight(exported: Bundle, tmp_path: Path) -> None:
    bundle = copied(exported, tmp_path / "b")

    def double(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name.endswith("matrix"))
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.01), tensor.name))

    _replace_graph(bundle, "memory_attention", double)
    with pytest.raises(ProofError) as caught:
        verify_bundle(bundle.path, threads=1)
    start = (
        "the fp32 bundle on onnxruntime cpu does not equal the reference: "
        "memory_attention.conditioned_embed differs by "
    )
    assert str(caught.value).startswith(start)


def test_a_wrong_export_leaves_no_bundle(
    exported: Bundle, checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = graph_files.onnx_from_module

    def wrong(module: Any, spec: Any, opset: int) -> onnx.ModelProto:
        model = right(module, spec, opset)
        if spec.name == "memory_encoder":
            for node in model.graph.node:
                if node.op_type == "Gelu":
                    del node.attribute[:]
                    node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))
        return model

    copied(exported, tmp_path / "old")
    before = json.loads((tmp_path / "old" / "manifest.json").read_text())
    monkeypatch.setattr(graph_files, "onnx_from_module", wrong)
    for name in ("new", "old"):
        with pytest.raises(ProofError, match=r"memory_encoder\.memory differs by"):
            export_bundle(checkpoint_file, tmp_path / name, image_size=64, seed=5, threads=1)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert json.loads((tmp_path / "old" / "manifest.json").read_text()) == before


def test_a_graph_that_tensorrt_cannot_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = graph_files.onnx_from_module

    def planted(module: Any, spec: Any, opset: int) -> onnx.ModelProto:
        model = right(module, spec, opset)
        matrix = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "matrix_2x2")
        model.graph.initializer.append(matrix)
        model.graph.node.append(onnx.helper.make_node("Det", ["matrix_2x2"], ["d"], name="planted"))
        return model

    monkeypatch.setattr(graph_files, "onnx_from_module", planted)
    with pytest.raises(SessionError) as caught:
        export_bundle(loaded(), tmp_path / "b", engine_variants=True, seed=5, threads=1)
    assert str(caught.value) == (
        "TensorRT cannot take the graph image_encoder (Det planted: the parser does not import "
        "this operator): export it without --engine-variants, for ONNX Runtime alone"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(exported: Bundle, shared_bundles: SharedBundles, precision: Any) -> None:
    bundle = shared_bundles.untrained("micro", SEED, precision=precision, seed=4)
    assert bundle.precision == precision
    assert bundle.proof["emulated"] is True
    clip = bundle.proof["clip"]
    assert clip["lowest_iou"] >= bundle.proof["bounds"]["iou"] >= 0.93
    assert 2 * clip["compared"] >= clip["results"]
    embed = bundle.proof["outputs"]["image_encoder.image_embed"]
    low, high = (2e-4, 4e-3) if precision == "fp16" else (2e-3, 4e-2)
    assert low < embed["max"] / embed["scale"] < high
    sizes = [b.graphs["image_encoder"].external[0].size for b in (bundle, exported)]
    assert sizes[0] < 0.65 * sizes[1]
    assert verify_bundle(bundle.path, threads=1)["clip"] == clip


def test_fp16_runs_on_the_cpu(shared_bundles: SharedBundles) -> None:
    from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

    bundle = shared_bundles.untrained("micro", SEED, precision="fp16", seed=4)
    image = np.random.default_rng(0).standard_normal((1, 3, 256, 256), np.float32)
    with OnnxRuntimeSession(bundle, threads=1) as session:
        found = session.run("image_encoder", {"image": image})
    assert {a.dtype for a in found.values()} == {np.dtype(np.float32)}
    assert np.isfinite(found["image_embed"]).all()


def test_image_size(tmp_path: Path) -> None:
    bundle = export_bundle(loaded(), tmp_path / "b", image_size=128, seed=5, threads=1)
    assert bundle.model == MODELS["micro"].with_image_size(128)
    assert bundle.graphs["image_encoder"].spec.inputs[0].shape == ("B", 3, 128, 128)
    assert bundle.proof["status"] == "passed"


def test_family_2_0(shared_bundles: SharedBundles) -> None:
    bundle = shared_bundles.untrained("micro20", SEED, seed=5)
    assert bundle.model == MODELS["micro20"]
    assert bundle.proof["clip"]["lowest_iou"] > 0.999


def test_own_model(tmp_path: Path) -> None:
    config = replace(
        MODELS["micro"], name="own", stages=(1, 1, 2, 1), global_att_blocks=(3,), image_size=128
    )
    checkpoint = Checkpoint(config, untrained_state(config, SEED), "cd" * 32, "x")
    bundle = export_bundle(checkpoint, tmp_path / "b", seed=5, threads=1)
    assert Bundle.load(bundle.path).model == config
    assert verify_bundle(bundle.path, checkpoint, threads=1)["status"] == "passed"


@pytest.mark.parametrize("opset", [18, 19])
def test_older_opsets(tmp_path: Path, opset: int) -> None:
    bundle = export_bundle(loaded(), tmp_path / "b", opset=opset, seed=5, threads=1)
    assert bundle.opset == opset
    imports = onnx.load(bundle.graph_path("mask_decoder")).opset_import
    assert {(o.domain, o.version) for o in imports} == {("", opset)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"precision": "int4"}, "unknown precision 'int4': expected one of fp32, fp16, bf16, int8"),
        ({"image_size": 100}, "image size 100 is not legal"),
        ({"opset": 11}, "opset 11 is not supported"),
        (
            {"precision": "fp16", "cpu_variants": True},
            "variants for CPUs are of bf16 and int8 bundles, this one is fp16: use --precision",
        ),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        export_bundle(loaded(), tmp_path / "b", **options)
    assert list(tmp_path.iterdir()) == []


def test_target_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "thesis.pdf").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"is not empty and holds no manifest\.json"):
        export_bundle(loaded(), tmp_path)


def test_bundle_without_record(exported: Bundle, tmp_path: Path) -> None:
    from sam2rt.configs.bundle import write_manifest

    path = shutil.copytree(exported.path, tmp_path / "b")
    write_manifest(replace(exported, path=path, proof_files={}))
    with pytest.raises(BundleError) as caught:
        verify_bundle(path)
    assert str(caught.value) == (
        f"bundle {path} holds no record of the reference: give the checkpoint, or make it again "
        "with 'sam2rt export CHECKPOINT -o BUNDLE'"
    )


def test_undecided_clips_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def undecided(bundle: Bundle, recorded: Any, **_: object) -> dict[str, Any]:
        seeds.append(recorded.seed)
        return {"clip": {"compared": 3, "results": 21}}

    monkeypatch.setattr(exporting, "prove", undecided)
    with pytest.raises(ProofError, match="only 3 of 21 results could be compared"):
        export_bundle(loaded(), tmp_path / "b", image_size=64, threads=1)
    assert len(set(seeds)) == 3
    assert not (tmp_path / "b").exists()


def test_bundle_for_exports_once(
    checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM2RT_CACHE", str(tmp_path))
    first = bundle_for(str(checkpoint_file))
    assert first.path.parent == tmp_path / "bundles"
    assert bundle_for(str(checkpoint_file)).proof["seed"] == first.proof["seed"]
    (first.path / "mask_decoder.onnx").write_bytes(b"broken")
    assert bundle_for(str(checkpoint_file)).proof["seed"] != first.proof["seed"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["micro", "micro20"])
def test_two_hundred_frames(shared_bundles: SharedBundles, model: str) -> None:
    """Some mistakes show only once the bank is full and has turned over many times."""
    checkpoint = loaded(model)
    bundle = shared_bundles.untrained(model, SEED, seed=5)
    network = build_model(checkpoint.config)
    network.load_state_dict(checkpoint.state)
    recorded = record(ReferenceSession(network), 6, frames=200)
    proof = prove(bundle, recorded, threads=1)
    assert proof["clip"]["results"] == proof["clip"]["compared"] == 200 + 199 + 198
    assert proof["clip"]["lowest_iou"] > 0.99
