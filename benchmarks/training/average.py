"""The mean of several trained weights: what the ends of several falls of the rate have in common.

``python -m sam2rt.benchmarks.training.average A.safetensors B.safetensors -o MEAN.safetensors``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from ...configs.errors import CheckpointError, Sam2rtError


def average(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of weight files, each tensor in the dtype of the first file.

    Averaging along one training run: Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization" (2018). Raises CheckpointError for files of different tensors.
    """
    from safetensors.numpy import load_file, save_file

    files = [load_file(path) for path in paths]
    shapes = [{name: value.shape for name, value in tensors.items()} for tensors in files]
    for path, found in zip(paths, shapes, strict=True):
        if found != shapes[0]:
            raise CheckpointError(f"{path} has other tensors than {paths[0]}: average one model")
    save_file(
        {
            name: np.mean([f[name].astype(np.float32) for f in files], axis=0).astype(value.dtype)
            for name, value in files[0].items()
        },
        target,
    )


@click.command("average")
@click.argument("weights", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(weights: tuple[Path, ...], output: Path) -> None:
    """Write the mean of WEIGHTS, safetensors files of one model."""
    average(weights, output)
    click.echo(f"wrote {output}, the mean of {len(weights)}")


if __name__ == "__main__":
    try:
        main()
    except Sam2rtError as error:
        raise SystemExit(f"sam2rt: {error}") from None
