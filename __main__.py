"""``python -m sam2rt``: the command ``sam2rt``, for where scripts are not on the search path."""

from .cli import main

if __name__ == "__main__":
    main()
