"""Bundles by name, for predictors' ``from_pretrained``.

Making a bundle is the exporter's work, which the runtime does not know: it asks the front door,
the one place that knows where every public name lives.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from ...configs.bundle import MANIFEST, Bundle
from ...configs.checks import shown
from ...configs.errors import InputError, MissingExtraError


def pretrained_bundle(model_id: str | os.PathLike[str]) -> Bundle:
    """The bundle in folder `model_id`, or of the model of that name.

    A name is what ``sam2rt export`` takes, such as ``facebook/sam2.1-hiera-tiny``: its
    checkpoint is downloaded and exported once, into the user's cache. That needs the extra
    ``export`` (MissingExtraError); a folder does not.
    """
    if not isinstance(model_id, (str, os.PathLike)):
        raise InputError(
            f"model_id is {shown(model_id)}: expected the folder of a bundle, or a model's name"
        )
    if not os.fspath(model_id):
        # it would be the working folder
        raise InputError("model_id is empty: expected the folder of a bundle, or a model's name")
    if (Path(model_id) / MANIFEST).is_file():
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
