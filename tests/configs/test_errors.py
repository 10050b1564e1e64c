"""Each error is also the built-in type a caller of the original predictors would catch."""

from __future__ import annotations

import pytest

from sam2rt.configs import errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("FrameError", ValueError),
        ("StateError", RuntimeError),
        ("BundleError", ValueError),
        ("CheckpointError", ValueError),
        ("ProofError", ValueError),
        ("SessionError", RuntimeError),
        ("MissingExtraError", ImportError),
        ("StorageError", OSError),
    ],
)
def test_errors_are_ours_and_built_in(name: str, builtin: type[Exception]) -> None:
    import sam2rt

    kind = getattr(errors, name)
    assert issubclass(kind, errors.Sam2rtError)
    assert issubclass(kind, builtin)
    assert getattr(sam2rt, name) is kind


def test_missing_extra_names_the_line_that_installs_it() -> None:
    error = errors.MissingExtraError("the command line", "click", "media")
    expected = "the command line needs the package 'click': pip install 'sam2rt[media]'"
    assert str(error) == expected
