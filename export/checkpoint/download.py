"""Fetch checkpoints: the official files and files of the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from ...configs.errors import CheckpointError
from ...configs.progress import Progress, silent
from .official import OFFICIAL, HubName, names_a_download, official_name
from .transfer import Remote, fetch


def cache_folder() -> Path:
    """Where downloads go: $SAM2RT_CACHE, else the user's cache folder."""
    if named := os.environ.get("SAM2RT_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sam2rt"


def download_size(source: str, *, folder: Path | None = None) -> int | None:
    """Bytes of the official file that `source` means, if it is not here yet; else None.

    What a hub id means is known when the hub answers.
    """
    name = official_name(source)
    root = cache_folder() if folder is None else folder
    if name is None or os.path.exists(source) or (root / f"{name}.pt").is_file():
        return None
    return OFFICIAL[name].size


def download_checkpoint(
    source: str,
    *,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Path:
    """The local copy of an official checkpoint or of a hub id's weights, fetched if need be.

    `source` is an official name (``sam2.1_hiera_tiny``, short forms too) or URL, or a hub id
    such as ``facebook/sam2.1-hiera-tiny``, of which ``model.safetensors`` is taken unless the
    repository is an official one. `folder` replaces the cache folder.

    Raises CheckpointError when it cannot be fetched or is not the file it should be.
    """
    root = cache_folder() if folder is None else folder
    if name := official_name(source):
        remote = OFFICIAL[name]
        if source.startswith("facebook/"):
            url = HubName(source).url(f"{name}.pt")
            remote = Remote(url, remote.size, remote.sha256, hub=True)
        return fetch(remote, root / f"{name}.pt", progress=progress)
    if not names_a_download(source):
        known = ", ".join(OFFICIAL)
        raise CheckpointError(f"nothing to download is called '{source}': known are {known}")
    remote = Remote(HubName(source).url("model.safetensors"), hub=True)
    target = root / "hub" / source.replace("/", "--") / "model.safetensors"
    return fetch(remote, target, progress=progress)
