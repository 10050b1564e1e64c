"""``python -m sam2rt.benchmarks.gpu``: see :mod:`.run`."""

from .run import main

if __name__ == "__main__":
    main()
