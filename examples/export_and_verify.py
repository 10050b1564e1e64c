"""A checkpoint becomes a bundle, and is proved again: export_and_verify.py CHECKPOINT BUNDLE

CHECKPOINT is your own file, an official name such as sam2.1_hiera_tiny, or sam2rt_micro.
"""

import sys

from sam2rt.export.bundle import export_bundle
from sam2rt.export.verify import verify_bundle


def main(checkpoint: str, folder: str) -> None:
    bundle = export_bundle(checkpoint, folder)  # ProofError, and no bundle, if it is out of bounds
    print(f"{bundle.model.name} at {bundle.model.image_size} pixels, {bundle.precision}")
    # later, on the machine that will do the work; neither torch nor the checkpoint is needed
    proof = verify_bundle(folder)
    worst = max(proof["outputs"], key=lambda name: proof["outputs"][name]["max"])
    print(f"largest difference {proof['outputs'][worst]['max']:.1e}, in {worst}")
    print(f"lowest mask IoU in a clip {proof['clip']['lowest_iou']:.4f}: {proof['status']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
