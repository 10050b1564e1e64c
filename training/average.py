"""The mean of several trained weights: what the ends of several falls of the rate have in common.

``python -m sam2rt.training.average A.safetensors B.safetensors -o MEAN.safetensors``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..configs.errors import CheckpointError, Sam2rtError, printable
from ..configs.staging import check_file_target, replaced_file


def average(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of weight files, each tensor in the dtype of the first file.

    Averaging along one training run: Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization" (2018). Raises CheckpointError for files of different tensors, InputError
    for a target that cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save

    check_file_target(target)
    files = []
    for path in paths:
        try:
            files.append(load_file(path))
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is no safetensors file, or truncated ({error}): give weights that the "
                "training wrote"
            ) from None
    shapes = [{name: value.shape for name, value in tensors.items()} for tensors in files]
    for path, found in zip(paths, shapes, strict=True):
        if found != shapes[0]:
            raise CheckpointError(f"{path} has other tensors than {paths[0]}: average one model")
    mean = {
        name: np.mean([f[name].astype(np.float32) for f in files], axis=0).astype(value.dtype)
        for name, value in files[0].items()
    }
    with replaced_file(target) as part:
        part.write_bytes(save(mean))


def main(args: Sequence[str] | None = None) -> None:
    """The command line; what goes wrong is one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m sam2rt.training.average")
    parser.add_argument("weights", nargs="+", type=Path, help="safetensors files of one model")
    parser.add_argument("-o", "--output", required=True, type=Path)
    given = parser.parse_args(args)
    try:
        average(given.weights, given.output)
    except (Sam2rtError, OSError) as error:
        print("sam2rt: " + printable(" ".join(str(error).split())), file=sys.stderr)
        raise SystemExit(1) from None
    print(printable(f"wrote {given.output}, the mean of {len(given.weights)}"))


if __name__ == "__main__":
    main()
