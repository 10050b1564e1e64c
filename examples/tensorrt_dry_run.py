"""What NVIDIA's builder makes of each graph: tensorrt_dry_run.py BUNDLE [GRAPH ...]

Needs TensorRT with a GPU, or TensorRT-RTX without one; nothing is run and nothing is kept. On the
machine with the GPU `sam2rt build BUNDLE` then builds and proves the engines.
"""

import sys

from sam2rt import Bundle, SessionError
from sam2rt.export.engines.dry_run import dry_run
from sam2rt.export.engines.options import BuildOptions


def main(folder: str, *graphs: str) -> None:
    options = BuildOptions(graphs=graphs or None)
    try:
        found = dry_run(Bundle.load(folder), options)
    except SessionError as error:
        sys.exit(str(error))  # no builder: the line says what to install
    print(f"{found.library}, {found.precision}")
    for graph in found.graphs:
        built = f"{graph.size >> 20} MB" if graph.size is not None else f"refused: {graph.error}"
        print(f"{graph.source}: {built}")


if __name__ == "__main__":
    main(*sys.argv[1:])
