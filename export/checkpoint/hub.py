"""Ready bundles from the Hugging Face hub, kept by content in the cache.

Neither torch nor a package of the hub's is needed. A manifest is checked against the hub's hash of
it, every other file against the manifest's; nothing that the manifest does not list is fetched.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...configs.bundle import Bundle, BundleFile, file_sha256, staged_folder
from ...configs.errors import BundleError, InputError
from ...configs.formats.manifest import MANIFEST, read_manifest
from ...configs.progress import Progress, silent
from ...configs.remedies import line_of, remedy_of
from ...configs.staging import replaced_file, temporary_folder
from .download import cache_folder
from .official import HubName, hub_name, official_name
from .transfer import MissingFileError, Remote, fetch

_COMMIT = re.compile("[0-9a-f]{40}", re.ASCII)


def download_bundle(
    name: str, *, folder: Path | None = None, progress: Progress = silent
) -> Bundle | None:
    """The bundle in the hub's repository `name`, fetched once; None when it holds no manifest.

    The official repositories hold checkpoints; they are not asked. `name` is ``USER/REPO`` or
    ``USER/REPO@REVISION`` (a branch, a tag or a commit). A commit that was fetched before needs
    no network. `folder` replaces the cache folder.

    Raises InputError for another name, CheckpointError when something cannot be fetched or is
    not the file it should be, BundleError for a manifest that is none.
    """
    source = hub_name(name)
    if source is None:
        raise InputError(f"'{name}' is no name on the hub: expected USER/REPO[@REVISION]")
    if official_name(name) is not None:
        return None
    root = (cache_folder() if folder is None else folder) / "hub"
    if (kept := _kept(root, source)) is not None:
        return kept
    with _work_folder(root) as work:
        try:
            said = _fetch_manifest(source, work, progress)
        except MissingFileError:
            return None
        described = _described(work, source)
        place = root / "bundles" / file_sha256(work / MANIFEST)[:32]
        # it becomes a name of ours: from a server that is no hub it could be a path
        named = said.get("x-repo-commit", "")
        commit = HubName(source.name, named) if _COMMIT.fullmatch(named) else None
        if (bundle := _loaded(place)) is None:
            bundle = _fetched(described, commit or source, place, progress)
    if commit is not None:
        note = _note(root, commit)
        note.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(note) as part:
            part.write_text(place.name, encoding="utf-8")
    return bundle


def _kept(root: Path, source: HubName) -> Bundle | None:
    """The bundle of a commit, which never changes, if it was fetched before."""
    note = _note(root, source)
    if not _COMMIT.fullmatch(source.revision) or not note.is_file():
        return None
    return _loaded(root / "bundles" / note.read_text("utf-8").strip())


def _note(root: Path, source: HubName) -> Path:
    return root / "commits" / f"{source.name.replace('/', '--')}@{source.revision}"


def _loaded(place: Path) -> Bundle | None:
    with suppress(BundleError):
        return Bundle.load(place)
    return None


@contextmanager
def _work_folder(root: Path) -> Iterator[Path]:
    remedy = "name another folder, with -o or in SAM2RT_CACHE"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why, what = line_of(error), remedy_of(error, remedy, writing=True)
        raise InputError(f"nothing can be written to {root} ({why}): {what}") from None
    with temporary_folder(root, remedy) as work:
        yield work


def _fetch_manifest(source: HubName, work: Path, progress: Progress) -> dict[str, str]:
    said: dict[str, str] = {}
    remote = Remote(source.url(MANIFEST), hub=True)
    fetch(remote, work / MANIFEST, progress=progress, said=said)
    return said


def _described(work: Path, source: HubName) -> Bundle:
    try:
        # hashes become names of files: the manifest's schema allows nothing but hexadecimal
        return Bundle.of_manifest(work, read_manifest(work))
    except BundleError as error:
        text = str(error).replace(str(work / MANIFEST), f"{source.url(MANIFEST)}")
        raise BundleError(text) from None


def _fetched(described: Bundle, source: HubName, place: Path, progress: Progress) -> Bundle:
    """Fetch what a manifest lists, then put the folder together: whole or not at all."""
    blobs = place.parent.parent / "blobs"
    files = {file: blobs / file.sha256 for file in described.files()}
    for file, blob in files.items():
        fetch(Remote(source.url(file.path), file.size, file.sha256, hub=True), blob,
              progress=progress)  # fmt: skip
    with staged_folder(place) as stage:
        for file, blob in files.items():
            _place(file, blob, stage)
        shutil.copyfile(described.path / MANIFEST, stage / MANIFEST)
    return Bundle.load(place)


def _place(file: BundleFile, blob: Path, stage: Path) -> None:
    target = stage / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(blob, target)
    except OSError:  # a file system without links
        shutil.copyfile(blob, target)
