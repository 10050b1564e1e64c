"""Bundles by name, for predictors' ``from_pretrained``.

Making a bundle is the exporter's work, which the runtime does not know: it asks the front door,
the one place that knows where every public name lives.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from ...configs.bundle import Bundle, bundle_on_hub, is_hub_name
from ...configs.checks import shown
from ...configs.errors import InputError
from ...configs.extras import extras_of
from ...configs.formats.manifest import MANIFEST


def pretrained_bundle(model_id: str | os.PathLike[str]) -> Bundle:
    """The bundle in folder `model_id`, or of the model of that name.

    ``USER/REPO[@REVISION]`` is a ready bundle on the Hugging Face hub, fetched once, if the
    repository holds one. Any other name is what ``sam2rt export`` takes, such as
    ``facebook/sam2.1-hiera-tiny`` or the path of a checkpoint: it is exported once, into the
    user's cache, and again when the checkpoint
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
        return Bundle.load(Path(model_id))
    if is_hub_name(model_id) and (found := bundle_on_hub(os.fspath(model_id))) is not None:
        return found
    front_door = importlib.import_module(__name__.split(".runtime.")[0])
    with extras_of(f"exporting {model_id}"):
        bundle: Bundle = front_door.bundle_for(os.fspath(model_id))
    return bundle
