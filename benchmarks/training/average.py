"""The mean of several trained weights: what the ends of several falls of the rate have in common.

``python -m sam2rt.benchmarks.training.average A.safetensors B.safetensors -o MEAN.safetensors``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from ...configs.errors import CheckpointError
from ...configs.staging import check_file_target
from ...runtime.overlay import replaced_file
from .script import run_script


def average(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of weight files, each tensor in the dtype of the first file.

    Averaging along one training run: Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization" (2018). Raises CheckpointError for files of different tensors, InputError
    for a target that cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

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
        save_file(mean, part)


@click.command("average")
@click.argument("weights", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(weights: tuple[Path, ...], output: Path) -> None:
    """Write the mean of WEIGHTS, safetensors files of one model."""
    average(weights, output)
    click.echo(f"wrote {output}, the mean of {len(weights)}")


if __name__ == "__main__":
    run_script(main)
