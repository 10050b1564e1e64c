"""A bundle of the real format around five tiny files that no backend has to open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sam2rt.configs.bundle import Bundle, GraphEntry, bundle_file, staged_folder, write_manifest
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config


def empty_graph(name: str) -> bytes:
    """The file of a graph without operators: ONNX, of which a loader has nothing to say."""
    producer, graph = f"graph {name}".encode() * 5, b"\x12\x04main"
    return bytes([0x12, len(producer)]) + producer + bytes([0x3A, len(graph)]) + graph


def write_bundle(target: Path, *, generator: str = "test", image_size: int = 256) -> None:
    model = replace(model_config("micro"), image_size=image_size)
    with staged_folder(target) as work:
        graphs = {}
        for name, spec in graph_specs(model).items():
            (work / f"{name}.onnx").write_bytes(empty_graph(name))
            graphs[name] = GraphEntry(spec, bundle_file(work, f"{name}.onnx"))
        (work / "image_encoder.data").write_bytes(bytes(range(256)))
        encoder = graphs["image_encoder"]
        external = (bundle_file(work, "image_encoder.data"),)
        graphs["image_encoder"] = GraphEntry(encoder.spec, encoder.file, external)
        (work / "proof").mkdir()
        (work / "proof" / "clip.npz").write_bytes(b"recorded")
        write_manifest(
            Bundle(
                path=work,
                model=model,
                precision="fp32",
                opset=18,
                checkpoint_sha256="c0" * 32,
                generator=generator,
                graphs=graphs,
                proof={"status": "passed", "worst": 1.5e-7},
                proof_files={"clip": bundle_file(work, "proof/clip.npz")},
            )
        )
