"""Bundles by name, for predictors' ``from_pretrained``.

Making a bundle is the exporter's work, which the runtime does not know: it asks the front door,
the one place that knows where every public name lives.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from ...configs.bundle import Bundle
from ...configs.checks import shown
from ...configs.errors import InputError, MissingExtraError
from ...configs.manifest import MANIFEST


def pretrained_bundle(model_id: str | os.PathLike[str]) -> Bundle:
    """The bundle in folder `model_id`, or of the model of that name.

    A name is what ``sam2rt export`` takes, such as ``facebook/sam2.1-hiera-tiny`` or the path
    of a checkpoint: it is exported once, into the user's cache, and again when the checkpoint
    changes. That needs the extra ``export`` (MissingExtraError); a folder does not.
    """
    is_path = isinstance(model_id, (str, os.PathLike))
    # no name of the system's holds a NUL
    if not is_path or "\0" in str(model_id):
        raise InputError(
            f"model_id is {shown(model_id)}: expected the folder of a bundle, or a model's name"
        )
    if not os.fspath(model_id):
        # it would be the working folder
        raise InputError("model_id is empty: expected the folder of a bundle, or a model's name")
    if os.path.isfile(Path(model_id) / MANIFEST):
        return Bundle.load(model_id)
    front_door = importlib.import_module(__name__.split(".runtime.")[0])
    try:
        bundle: Bundle = front_door.bundle_for(os.fspath(model_id))
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "torch").partition(".")[0]
        raise MissingExtraError(f"exporting {model_id}", package, "export") from None
    return bundle
