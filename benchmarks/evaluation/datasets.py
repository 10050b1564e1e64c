"""Videos with annotations: the folder layouts of public datasets, and synthetic clips.

========  ==============================  ==================================  ================
layout    frames                          annotations                         list of videos
========  ==============================  ==================================  ================
davis     JPEGImages/480p/VIDEO/*.jpg     Annotations/480p/VIDEO/*.png        ImageSets/2017/
mose      JPEGImages/VIDEO/*.jpg          Annotations/VIDEO/*.png             all folders
sav       JPEGImages_24fps/VIDEO/*.jpg    Annotations_6fps/VIDEO/OBJECT/*.png  sav_*.txt
lvos      JPEGImages/VIDEO/*.jpg          Annotations/VIDEO/*.png             *_meta.json
========  ==============================  ==================================  ================

In ``davis`` the folder 480p (or Full-Resolution) and the list may be missing: then videos lie right
below JPEGImages and Annotations, and all count. Annotations are indexed or grey PNGs of object
ids; in ``sav`` one folder of masks per object, and only every fourth frame is annotated. Frames
and annotations belong together by file name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ...configs.errors import InputError
from ...configs.remedies import line_of, remedy_of
from ...runtime.frames import FrameSource
from ...runtime.media.images import image_files
from ...runtime.media.sequences import SequenceFrames
from ...runtime.packages import pillow_image
from .metrics import RULES, UNDECIDED, Mask, Rule

Layout = Literal["davis", "mose", "sav", "lvos"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Truth:
    """The annotation of one frame: a mask [H, W] per object id; void pixels count nowhere."""

    masks: Mapping[int, Mask]
    void: Mask | None = None


class Video(Protocol):
    """One video to evaluate on; plain data that can be sent to another process."""

    @property
    def name(self) -> str: ...

    @property
    def frame_names(self) -> tuple[str, ...]:
        """Names of the frames, which files of predictions get."""
        ...

    @property
    def spans(self) -> Mapping[int, tuple[int, int]]:
        """First and last frame of an object's own range, for objects that have one."""
        ...

    def frames(self) -> FrameSource:
        """The frames; FrameError when unreadable."""
        ...

    def truth(self, index: int) -> Truth | None:
        """The annotation of frame `index`, None where it has none. Raises InputError."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Videos and the rule they are scored by.

    merged: objects share one map of ids, so predictions must not overlap. groups: names of
    videos that are also averaged apart, such as LVOS' unseen categories.
    """

    name: str
    rule: Rule
    videos: tuple[Video, ...]
    merged: bool = True
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class FolderVideo:
    """A folder of images with PNG annotations; see :class:`Video`."""

    name: str
    images: tuple[Path, ...]
    #: frame index -> map of ids; or object id -> frame index -> mask
    merged: Mapping[int, Path] = field(default_factory=dict)
    per_object: Mapping[int, Mapping[int, Path]] = field(default_factory=dict)
    void: int | None = None
    spans: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def frame_names(self) -> tuple[str, ...]:
        return tuple(p.stem for p in self.images)

    def frames(self) -> FrameSource:
        return SequenceFrames(self.images)

    def truth(self, index: int) -> Truth | None:
        if index in self.merged:
            labels = read_labels(self.merged[index])
            ids = set(np.unique(labels).tolist()) - {0, UNDECIDED}
            void = None if self.void is None else labels == self.void
            return Truth({i: labels == i for i in sorted(ids)}, void)
        masks = {
            i: read_labels(files[index]) > 0
            for i, files in self.per_object.items()
            if index in files
        }
        return Truth(masks) if masks else None


def read_labels(path: Path) -> NDArray[Any]:
    """An annotation PNG as object ids [H, W]. InputError: unreadable, or a colour image."""
    image_module = pillow_image()
    try:
        with image_module.open(path) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise InputError(
                    f"{path} has pixels of mode {image.mode}: expected an indexed or grey PNG of "
                    "object ids"
                )
            # of one bit: 0 and 1, which are ids like others
            one_bit = image.mode == "1"
            labels: NDArray[Any] = np.array(image, np.uint8 if one_bit else None)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(_unreadable(f"the annotation {path}", error)) from None
    return labels


def open_dataset(
    root: Path, layout: Layout | None = None, *, subset: str = "val", only: tuple[str, ...] = ()
) -> Dataset:
    """The dataset in folder `root`, its layout recognised by its folders unless named.

    subset: which list of a davis dataset. only: names of the videos to take, all if empty.
    A relative path is of the working folder at the time of the call. Raises InputError: no known
    layout, no videos, an annotation without its frame, unknown names.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder: expected a dataset, or 'synthetic'")
    kind = layout or _recognised(root)
    # its files are read later, perhaps from another working folder
    dataset = _READERS[kind](Path(os.path.abspath(root)), subset)
    if not dataset.videos:
        raise InputError(f"{root} holds no video with frames and annotations of layout {kind}")
    if unknown := set(only) - {v.name for v in dataset.videos}:
        raise InputError(f"{root} has no video {sorted(unknown)[0]!r}")
    if not only:
        return dataset
    videos = tuple(v for v in dataset.videos if v.name in only)
    return Dataset(dataset.name, dataset.rule, videos, dataset.merged, dataset.groups)


def _recognised(root: Path) -> Layout:
    if (root / "JPEGImages_24fps").is_dir():
        return "sav"
    if (root / "ImageSets" / "2017").is_dir():
        return "davis"
    if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
        return "lvos" if _lvos_meta(root) else "mose"
    raise InputError(
        f"{root} has none of the known layouts ({', '.join(LAYOUTS)}): expected folders "
        "JPEGImages and Annotations, or JPEGImages_24fps and Annotations_6fps"
    )


def _davis(root: Path, subset: str) -> Dataset:
    images, maps = davis_folders(root)
    listing = root / "ImageSets" / "2017" / f"{subset}.txt"
    rule = RULES["davis"]
    names = _listed(listing) if (root / "ImageSets").is_dir() else _folders(maps)
    videos = [_video(images, maps, name, rule.void) for name in names]
    return Dataset("davis", rule, tuple(videos))


def _mose(root: Path, subset: str) -> Dataset:
    images, maps = root / "JPEGImages", root / "Annotations"
    videos = [_video(images, maps, name, None) for name in _folders(maps)]
    return Dataset("mose", RULES["mose"], tuple(videos))


def _sav(root: Path, subset: str) -> Dataset:
    images, maps = root / "JPEGImages_24fps", root / "Annotations_6fps"
    # named after the folder, which may have got another name since
    lists = [root / f"{root.resolve().name}.txt", *sorted(root.glob("sav_*.txt"))]
    listing = next((path for path in lists if path.is_file()), None)
    names = _listed(listing) if listing else _folders(maps)
    videos = []
    for name in names:
        files = _images(images / name)
        objects = {int(o): maps / name / o for o in _folders(maps / name) if o.isdecimal()}
        per_object = {i: _annotations(folder, files) for i, folder in sorted(objects.items())}
        videos.append(FolderVideo(name, files, per_object=per_object))
    return Dataset("sav", RULES["sav"], tuple(videos), merged=False)


def _lvos(root: Path, subset: str) -> Dataset:
    images, maps = root / "JPEGImages", root / "Annotations"
    meta = _lvos_meta(root)
    ranges = _read_ranges(meta) if meta else {name: {} for name in _folders(maps)}
    videos = []
    for name in sorted(ranges):
        video = _video(images, maps, name, None)
        spans = {i: _span(video, *numbers) for i, numbers in ranges[name].items()}
        videos.append(FolderVideo(name, video.images, video.merged, spans=spans))
    unseen = root / "unseen_videos.txt"
    groups = {}
    if unseen.is_file():
        names = frozenset(_listed(unseen))
        seen = frozenset(ranges) - names
        groups = {"seen": seen, "unseen": names & frozenset(ranges)}
    return Dataset("lvos", RULES["lvos"], tuple(videos), groups=groups)


_READERS = {"davis": _davis, "mose": _mose, "sav": _sav, "lvos": _lvos}


def _video(images: Path, maps: Path, name: str, void: int | None) -> FolderVideo:
    files = _images(images / name)
    return FolderVideo(name, files, _annotations(maps / name, files), void=void)


def _images(folder: Path) -> tuple[Path, ...]:
    files = tuple(image_files(folder)) if folder.is_dir() else ()
    if not files:
        raise InputError(f"{folder} holds no frames: expected images of the annotated video")
    return files


def _annotations(folder: Path, images: tuple[Path, ...]) -> dict[int, Path]:
    """Frame index -> annotation, by equal file names."""
    index = {p.stem: i for i, p in enumerate(images)}
    # copies from a Mac hold a ._00000.png beside each file
    found = folder.glob("*.png") if folder.is_dir() else ()
    files = sorted(f for f in found if not f.name.startswith("."))
    if not files:
        raise InputError(f"{folder} holds no annotations: expected PNG files of object ids")
    if stray := [f for f in files if f.stem not in index]:
        raise InputError(f"{stray[0]} annotates no frame: {images[0].parent} lacks its image")
    return {index[f.stem]: f for f in files}


def _lvos_meta(root: Path) -> Path | None:
    """The list of videos and objects; another of each video's expressions lies beside it."""
    files = sorted(root.glob("*_meta.json"))
    return next((f for f in files if not f.name.endswith("_expression_meta.json")), None)


def _read_ranges(meta: Path) -> dict[str, dict[int, tuple[int, int, int]]]:
    """Video -> object id -> start, end, frame_nums of LVOS' ``frame_range``."""
    try:
        videos = json.loads(meta.read_text(encoding="utf-8"))["videos"]
        return {
            name: {int(i): _range(o["frame_range"]) for i, o in video["objects"].items()}
            for name, video in videos.items()
        }
    except OSError as error:
        raise InputError(_unreadable(f"the LVOS meta file {meta}", error)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{meta} is no LVOS meta file ({type(error).__name__}: {error})") from None


def _range(data: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(data["start"]), int(data["end"]), int(data["frame_nums"])


def _span(video: FolderVideo, start: int, end: int, count: int) -> tuple[int, int]:
    """First and last frame index of an object's range, the two that its score leaves out.

    The evaluator walks from `start` up to but without `end` and leaves out the first frame and
    the one numbered count - 1: where `end` itself is the object's last frame, that is left out
    by the walk already.
    """
    annotated = sorted(video.merged)
    inside = [i for i in annotated if start <= _number(video.images[i]) < end]
    if not inside:
        raise InputError(f"video {video.name}: no annotated frame from {start} to {end}")
    return inside[0], inside[count - 1] if count <= len(inside) else inside[-1] + 1


def _number(image: Path) -> int:
    try:
        return int(image.stem)
    except ValueError:
        raise InputError(f"{image}: expected a frame number as its name") from None


def davis_folders(root: Path) -> tuple[Path, Path]:
    """Where the videos' frames and annotations are, with the resolution's folder or without."""
    images, maps = root / "JPEGImages", root / "Annotations"
    for name in ("480p", "Full-Resolution"):
        if (images / name).is_dir() and (maps / name).is_dir():
            return images / name, maps / name
    return images, maps


def check_ids(dataset: Dataset, *, written: bool) -> list[str]:
    """Read all maps of ids before any work; what to tell the user about them, a line each.

    written: predictions are written, as 8-bit maps. Raises InputError for masks of 0 and 255 in
    place of ids, and for ids that do not fit the maps.
    """
    dropped = []
    for video in dataset.videos:
        maps = video.merged.values() if isinstance(video, FolderVideo) else ()
        ids: set[int] = set()
        for path in maps:
            ids.update(np.unique(read_labels(path)).tolist())
        if ids - {0} == {UNDECIDED}:
            raise no_ids(video.name)
        if written and max(ids, default=0) > UNDECIDED:
            raise InputError(
                f"video {video.name}: object id {max(ids)} does not fit 8-bit maps: number the "
                "objects from 1, or leave the predictions out"
            )
        if UNDECIDED in ids:
            dropped.append(video.name)
    if not dropped:
        return []
    more = f" and {len(dropped) - 1} more" if dropped[1:] else ""
    counted = "not scored" if dataset.rule.void == UNDECIDED else "background"
    return [f"pixels of id 255 are no object but {counted}, in video {dropped[0]}{more}"]


def no_ids(video: str) -> InputError:
    """For annotations of 0 and 255 in place of ids."""
    return InputError(
        f"video {video}: its annotations hold 0 and 255 alone, expected ids of objects: 255 means "
        "undecided, so write 1 for the object (labels[labels > 0] = 1)"
    )


def _unreadable(what: str, error: Exception) -> str:
    return f"cannot read {what} ({line_of(error)}): {remedy_of(error, 'restore the file')}"


def _folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        raise InputError(f"{parent} does not exist: expected a folder per video")
    return sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(_unreadable(f"the list of videos {path}", error)) from None
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
