"""Bundles and proofs as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..configs.bundle import Bundle
from ..configs.graphs import TensorSpec
from ..configs.models import BUILT_IN
from ..export.checkpoint.official import OFFICIAL
from ..runtime.backends.usable import usable_backends

#: what every proof of ours holds
_PARTS = (
    "status", "backend", "device", "emulated", "seed", "frames", "bounds", "outputs", "clip",
    "flips", "presence_flips",
)  # fmt: skip


#: the end of the help of commands that take a name; \\b keeps click from joining the lines
NAMES = "\n".join(
    [
        "\b",
        "Names, with what is downloaded once:",
        f"  {BUILT_IN:24} nothing: a toy that ships with the package",
        *(f"  {name:24} {(remote.size or 0) / 1e6:.0f} MB" for name, remote in OFFICIAL.items()),
    ]
)


def bundle_lines(bundle: Bundle) -> Iterator[str]:
    """What ``sam2rt inspect`` prints: model, graphs with shapes and sizes, proof, where it runs."""
    model = bundle.model
    yield f"model       {model.name} (SAM {model.family}), {model.image_size} pixels"
    yield f"precision   {bundle.precision}, opset {bundle.opset}"
    yield f"checkpoint  sha256 {bundle.checkpoint_sha256}"
    yield f"made by     {bundle.generator}"
    for name, entry in bundle.graphs.items():
        beside = "".join(f" + {file.path}" for file in entry.external)
        yield f"\n{name}  {_size(entry.file.size)}{beside}"
        for arrow, tensors in (("<-", entry.spec.inputs), ("->", entry.spec.outputs)):
            yield from (f"  {arrow} {_tensor(t)}" for t in tensors)
    yield ""
    size = sum(file.size for file in bundle.files())
    yield f"{_size(size)} in all"
    yield ""
    yield from proof_lines(bundle.proof)
    yield ""
    yield from usable_lines(bundle)


def bundle_document(bundle: Bundle) -> dict[str, Any]:
    """What ``sam2rt inspect --json`` prints: the same as :func:`bundle_lines`, for programs."""
    model = bundle.model
    return {
        "path": str(bundle.path),
        "model": model.name,
        "family": model.family,
        "image_size": model.image_size,
        "precision": bundle.precision,
        "opset": bundle.opset,
        "checkpoint_sha256": bundle.checkpoint_sha256,
        "generator": bundle.generator,
        "bytes": sum(file.size for file in bundle.files()),
        "graphs": {
            name: {
                "file": entry.file.path,
                "bytes": entry.file.size,
                "external": [file.path for file in entry.external],
                "inputs": [asdict(tensor) for tensor in entry.spec.inputs],
                "outputs": [asdict(tensor) for tensor in entry.spec.outputs],
            }
            for name, entry in bundle.graphs.items()
        },
        "proof": dict(bundle.proof),
        "runs_on": usable_document(bundle),
    }


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _tensor(tensor: TensorSpec) -> str:
    shape = ", ".join(map(str, tensor.shape))
    return f"{tensor.name:<18} {tensor.dtype:<8} [{shape}]"


def usable_lines(bundle: Bundle) -> Iterator[str]:
    """Where the bundle runs on this machine, and why not elsewhere."""
    for place in usable_backends(bundle):
        answer = "yes" if place.usable else f"no: {place.why}"
        yield f"runs on {place!s:<20} {answer}"


def usable_document(bundle: Bundle) -> list[dict[str, Any]]:
    """The same as :func:`usable_lines`, for programs."""
    return [{**asdict(place), "usable": place.usable} for place in usable_backends(bundle)]


def proof_lines(proof: Mapping[str, Any]) -> Iterator[str]:
    """A proof's outcome as a table; what was emulated or not compared is said."""
    if missing := [part for part in _PARTS if part not in proof]:
        yield f"proof       {proof.get('status', 'none')}, without {', '.join(missing)}"
        return
    where = f"{proof['backend']} {proof['device']}"
    yield f"proof       {proof['status']} on {where}, seed {proof['seed']}"
    if proof["emulated"]:
        yield (
            "  not of the graphs as they stand: every operator in float32, its result rounded to "
            "half precision"
        )
    yield f"  {'output':<36} {'largest difference':>18} {'mean':>9} {'scale':>9} {'cosine':>10}"
    for name, found in proof["outputs"].items():
        # older manifests do not count what was compared
        if not found.get("compared", found["scale"]):
            yield f"  {name:<36} left out: no object is present in its single calls"
            continue
        yield (
            f"  {name:<36} {found['max']:>18.2e} {found['mean']:>9.1e} {found['scale']:>9.3g} "
            f"{found['cosine']:>10.7f}"
        )
    clip = proof["clip"]
    yield (
        f"  clip of {proof['frames']} frames: lowest mask IoU {clip['lowest_iou']:.4f}, "
        f"{clip['compared']} of {clip['results']} results compared, {proof['flips']} other masks "
        f"chosen, {proof['presence_flips']} objects lost or found"
    )
    bounds = proof["bounds"]
    yield (
        f"  bounds: {bounds['relative']:g} of the scale, cosine {bounds['cosine']:g}, "
        f"IoU {bounds['iou']:g}"
    )
