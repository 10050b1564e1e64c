"""Bundles and proofs as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..configs.bundle import Bundle
from ..configs.graphs import TensorSpec

#: what every proof of ours holds
_PARTS = (
    "status", "backend", "device", "emulated", "seed", "frames", "bounds", "outputs", "clip",
    "flips", "presence_flips",
)  # fmt: skip


def bundle_lines(bundle: Bundle) -> Iterator[str]:
    """What ``sam2rt inspect`` prints: model, graphs with shapes and sizes, the proof."""
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


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _tensor(tensor: TensorSpec) -> str:
    shape = ", ".join(map(str, tensor.shape))
    return f"{tensor.name:<18} {tensor.dtype:<8} [{shape}]"


def proof_lines(proof: Mapping[str, Any]) -> Iterator[str]:
    """A proof's outcome as a table; what was emulated or not compared is said."""
    if missing := [part for part in _PARTS if part not in proof]:
        yield f"proof       {proof.get('status', 'none')}, without {', '.join(missing)}"
        return
    emulated = ", rounding emulated in float32" if proof["emulated"] else ""
    where = f"{proof['backend']} {proof['device']}{emulated}"
    yield f"proof       {proof['status']} on {where}, seed {proof['seed']}"
    yield f"  {'output':<36} {'largest difference':>18} {'mean':>9} {'scale':>9} {'cosine':>10}"
    for name, found in proof["outputs"].items():
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
