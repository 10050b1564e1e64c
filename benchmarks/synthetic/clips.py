"""Synthetic clips with ground truth: textured objects that move, deform, hide and return.

Three levels. `plain`: objects of distinct colours in cells of their own, so nothing overlaps.
`standard`: patterned objects that overlap, leave and return, some with a look-alike, under a
moving camera with light changes, noise and blur. `hard`: colours close to the background, more
look-alikes, stronger deformation, blur and noise. numpy and cv2 only; a seed fixes every pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ...configs.errors import InputError
from . import looks, motion

Level = Literal["plain", "standard", "hard"]
LEVELS: tuple[Level, ...] = get_args(Level)
UInt8 = NDArray[np.uint8]
Path2D = Callable[[float], NDArray[np.float64]]

_MARGIN = 0.15  # of the image side, background beyond each border for the camera to move in


@dataclass(frozen=True)
class _Rules:
    objects: tuple[int, int]
    radius: tuple[float, float]
    colour_distance: float
    pattern_distance: float
    lookalike: float
    leaving: float
    crossing: float
    deform: float
    turn: float
    camera: float
    light: float
    noise: float
    blur: float
    clutter: int
    grain: float


_RULES: dict[Level, _Rules] = {
    "plain": _Rules((1, 4), (0.09, 0.2), 38, 12, 0, 0, 0, 0.08, 0.5, 0, 0.05, 2, 0, 0, 14),
    "standard": _Rules(
        (2, 5), (0.08, 0.22), 24, 40, 0.5, 0.3, 0.4, 0.14, 1.0, 0.5, 0.15, 5, 0.6, 6, 30
    ),
    "hard": _Rules((3, 6), (0.06, 0.22), 10, 40, 1, 0.5, 0.7, 0.22, 2.0, 1, 0.3, 10, 1.2, 12, 50),
}


@dataclass(frozen=True)
class SyntheticObject:
    """One object: its look and its motion. Lengths are in image sides."""

    contours: list[NDArray[np.float32]]
    texture: UInt8
    radius: float
    path: Path2D
    #: turn (radians), log scale, log aspect
    pose: motion.Wave
    #: amplitudes of two bending modes
    bend: motion.Wave
    spin: float


@dataclass(frozen=True)
class SyntheticClip:
    """frames [T,S,S,3] uint8 RGB; labels [T,S,S] uint8, 0 background, 1..num_objects visible."""

    frames: UInt8
    labels: UInt8
    num_objects: int


@dataclass(frozen=True)
class Scene:
    """A drawable scene. Object k (0-based) has label k + 1; a larger label lies in front."""

    size: int
    background: UInt8
    objects: list[SyntheticObject]
    #: x, y (image sides), turn (radians), log zoom
    camera: motion.Wave
    #: brightness, and one gain per channel (log)
    light: motion.Wave
    noise: NDArray[np.int16]
    blur: float

    def contours_px(self, k: int, t: float) -> list[NDArray[np.float64]]:
        """Contours of object k at time t, each [K,2] (x, y) in pixels, camera included."""
        thing = self.objects[k]
        linear, shift = self._placement(thing, t)
        first, second = thing.bend(t)
        placed = []
        for contour in thing.contours:
            x, y = contour[:, 0].astype(np.float64), contour[:, 1].astype(np.float64)
            bent = np.stack([x + first * (y * y - 0.3), y + second * np.sin(2.5 * x)], axis=1)
            placed.append(bent @ linear.T + shift)
        return placed

    def silhouette(self, k: int, t: float) -> NDArray[np.bool_]:
        """[S,S] bool: object k at time t as if nothing were in front of it."""
        alpha = np.zeros((self.size, self.size), np.uint8)
        _fill(alpha, self.contours_px(k, t), (0, 0))
        return alpha >= 128

    def render(self, t: float, rng: np.random.Generator) -> tuple[UInt8, UInt8]:
        """Frame [S,S,3] uint8 RGB and labels [S,S] uint8 at time t; rng places the noise."""
        frame = self._draw_background(t)
        labels = np.zeros((self.size, self.size), np.uint8)
        for k in range(len(self.objects)):
            self._draw_object(k, t, frame, labels)
        if self.blur > 0.15:
            frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), self.blur), np.uint8)
        return self._expose(frame, t, rng), labels

    def _placement(
        self, thing: SyntheticObject, t: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        turn, scale, aspect = thing.pose(t)
        stretch = np.diag([np.exp(scale + aspect), np.exp(scale - aspect)]) * thing.radius
        camera_linear, camera_shift = self._camera(t)
        linear = camera_linear @ _rotation(turn + thing.spin * t) @ stretch * self.size
        centre = (camera_linear @ (thing.path(t) - 0.5) + 0.5 + camera_shift) * self.size
        return linear, centre

    def _camera(self, t: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x, y, turn, zoom = self.camera(t)
        return _rotation(turn) * np.exp(zoom), np.array([x, y])

    def _draw_background(self, t: float) -> UInt8:
        linear, shift = self._camera(t)
        middle = self.background.shape[0] / 2
        offset = (0.5 + shift) * self.size - linear @ np.array([middle, middle])
        matrix = np.concatenate([linear, offset[:, None]], axis=1)
        warped = cv2.warpAffine(
            self.background, matrix, (self.size, self.size), borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(warped, np.uint8)

    def _draw_object(self, k: int, t: float, frame: UInt8, labels: UInt8) -> None:
        contours = self.contours_px(k, t)
        low = np.maximum(np.floor(contours[0].min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(contours[0].max(axis=0)).astype(int) + 2, self.size)
        if (high <= low).any():
            return
        (x0, y0), (x1, y1) = low, high
        alpha = np.zeros((y1 - y0, x1 - x0), np.uint8)
        _fill(alpha, contours, (x0, y0))
        linear, shift = self._placement(self.objects[k], t)
        texture = self.objects[k].texture
        unit = 2 * looks.TEXTURE_REACH / texture.shape[0]
        step = linear * unit
        offset = shift - (x0, y0) - step @ np.full(2, texture.shape[0] / 2)
        skin = cv2.warpAffine(
            texture,
            np.concatenate([step, offset[:, None]], axis=1),
            (x1 - x0, y1 - y0),
            borderMode=cv2.BORDER_REFLECT,
        )
        patch, weight = frame[y0:y1, x0:x1], alpha[..., None].astype(np.uint16)
        patch[:] = (patch * (255 - weight) + skin * weight + 127) // 255
        labels[y0:y1, x0:x1][alpha >= 128] = k + 1

    def _expose(self, frame: UInt8, t: float, rng: np.random.Generator) -> UInt8:
        light = self.light(t)
        gains = np.exp(light[1:] + light[0])
        ramp = np.arange(256)[:, None] * gains
        lit = cv2.LUT(frame, np.asarray(np.clip(ramp, 0, 255), np.uint8)[None])
        y, x = rng.integers(0, self.noise.shape[0] - self.size + 1, 2)
        noise = self.noise[y : y + self.size, x : x + self.size]
        return np.asarray(cv2.add(lit, noise, dtype=cv2.CV_8U), np.uint8)


def _rotation(angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _fill(alpha: UInt8, contours: list[NDArray[np.float64]], origin: tuple[int, int]) -> None:
    points = [np.int32(np.round((c - origin) * 16)) for c in contours]
    cv2.fillPoly(alpha, points, 255, cv2.LINE_AA, 4)


def make_clip(
    seed: int, level: Level = "standard", num_frames: int = 30, size: int = 256, stride: float = 1.0
) -> SyntheticClip:
    """A clip of num_frames frames of size x size pixels, fixed by its arguments.

    `stride` is the time between frames: 3 shows every third frame of a slower clip, so that a
    short clip holds as much motion as a long one. Raises InputError for an unknown level and for
    numbers that make no clip.
    """
    if seed < 0 or num_frames < 1 or size < 1:
        raise InputError(
            f"seed {seed}, {num_frames} frames of {size} pixels: expected a seed of 0 or more, and "
            "at least one frame of at least one pixel"
        )
    rng = _rng(seed, level)
    scene = make_scene(rng, level, num_frames * stride, size)
    pairs = [scene.render(i * stride, rng) for i in range(num_frames)]
    frames, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    return SyntheticClip(frames, labels, len(scene.objects))


def _rng(seed: int, level: Level) -> np.random.Generator:
    if level not in LEVELS:
        raise InputError(f"unknown level '{level}': expected one of {', '.join(LEVELS)}")
    return np.random.default_rng([seed, LEVELS.index(level)])


def make_scene(rng: np.random.Generator, level: Level, duration: float, size: int) -> Scene:
    """Draw the scene of a clip that lasts `duration` frames; consumes rng."""
    rules = _RULES[level]
    ground: list[NDArray[np.float32]] = [
        rng.uniform(20, 235, 3).astype(np.float32) for _ in range(1 if level == "plain" else 3)
    ]
    if level == "plain":
        ground.append(looks.colour_near(rng, ground[0], 14))
    side = int(size * (1 + 2 * _MARGIN))
    canvas = looks.background(rng, ground, side, int(rng.integers(rules.clutter + 1)), rules.grain)
    noise = rng.normal(0, rng.uniform(0.3, 1) * max(rules.noise, 0.1), (size + 32, size + 32, 3))
    c = rules.camera
    return Scene(
        size,
        canvas,
        _make_objects(rng, rules, ground, level == "plain", duration),
        motion.wave(rng, np.array([0.06, 0.06, 0.15, 0.08]) * c, 0.06),
        motion.wave(rng, np.array([1, 0.3, 0.3, 0.3]) * rules.light, 0.1),
        np.round(noise).astype(np.int16),
        float(rng.uniform(0, rules.blur)),
    )


def _make_objects(
    rng: np.random.Generator,
    rules: _Rules,
    ground: list[NDArray[np.float32]],
    apart: bool,
    duration: float,
) -> list[SyntheticObject]:
    count = int(rng.integers(rules.objects[0], rules.objects[1] + 1))
    cells = rng.permutation(4)
    colours = list(ground)
    things: list[SyntheticObject] = []
    for k in range(count):
        skin, paint = _paint(rng, rules, ground, colours)
        colours.append(paint)
        if apart:
            radius = float(rng.uniform(*rules.radius)) * 0.9
            corner = np.array([cells[k] % 2, cells[k] // 2]) * 0.5 + 0.25
            path = _wander(rng, corner, max(0.0, 0.235 - 1.35 * radius))
        else:
            radius = float(np.exp(rng.uniform(*np.log(rules.radius))))
            path = _roam(rng, rules, radius, duration, things)
        things.append(_object(rng, rules, skin, radius, path))
    if rng.random() < rules.lookalike:
        things.append(_lookalike(rng, things[int(rng.integers(count))]))
        things = [things[i] for i in rng.permutation(len(things))]
    return things


def _paint(
    rng: np.random.Generator,
    rules: _Rules,
    ground: list[NDArray[np.float32]],
    taken: list[NDArray[np.float32]],
) -> tuple[UInt8, NDArray[np.float32]]:
    """A texture, and its main colour; below a Lab distance of 15 painted like the ground."""
    if rules.colour_distance < 15 and rng.random() < 0.6:
        first = looks.colour_near(rng, ground[int(rng.integers(len(ground)))], 22)
    else:
        first = looks.colour_away_from(rng, taken, rules.colour_distance)
    second = looks.colour_near(rng, first, rules.pattern_distance)
    return looks.texture(rng, first, second, looks.TEXTURE_SIZE, rules.grain), first


def _object(
    rng: np.random.Generator, rules: _Rules, skin: UInt8, radius: float, path: Path2D
) -> SyntheticObject:
    spin = float(rng.normal(0, 0.03) * rules.turn)
    pose = motion.wave(rng, np.array([0.25 * rules.turn, 0.12, 0.08]), 0.12)
    bend = motion.wave(rng, np.full(2, rules.deform), 0.25)
    holes = rules.clutter > 0
    return SyntheticObject(looks.outline(rng, holes), skin, radius, path, pose, bend, spin)


def _wander(rng: np.random.Generator, anchor: NDArray[np.float64], reach: float) -> Path2D:
    sway = motion.wave(rng, np.full(2, reach), 0.12)
    return lambda t: anchor + sway(t)


def _roam(
    rng: np.random.Generator,
    rules: _Rules,
    radius: float,
    duration: float,
    others: list[SyntheticObject],
) -> Path2D:
    """Wander over the image, leave and return, or cross in front of an earlier object."""
    if others and rng.random() < rules.crossing:
        target = others[int(rng.integers(len(others)))].path(duration / 2)
        return motion.crossing(rng, np.clip(target, 0.1, 0.9), duration)
    anchor, reach = rng.uniform(0.12, 0.88, 2), float(rng.uniform(0.02, 0.2))
    sway = _wander(rng, anchor, reach)
    if rng.random() >= rules.leaving:
        return sway
    leave = motion.excursion(rng, anchor, reach + 1.8 * radius + 0.1, duration)
    return lambda t: sway(t) + leave(t)


def _lookalike(rng: np.random.Generator, model: SyntheticObject) -> SyntheticObject:
    """The same skin and nearly the same shape on a path of its own."""
    path = _wander(rng, rng.uniform(0.12, 0.88, 2), float(rng.uniform(0.02, 0.2)))
    radius = model.radius * float(rng.uniform(0.85, 1.15))
    return replace(model, path=path, radius=radius, spin=-model.spin)


def save_davis(clip: SyntheticClip, folder: Path | str, name: str) -> None:
    """Write JPEGImages/<name>/00000.jpg and Annotations/<name>/00000.png (palette) to folder."""
    from PIL import Image

    palette = np.random.default_rng(0).integers(64, 255, 768).tolist()
    palette[:3] = [0, 0, 0]
    images, masks = (Path(folder) / part / name for part in ("JPEGImages", "Annotations"))
    for target in (images, masks):
        target.mkdir(parents=True, exist_ok=True)
    for i, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True)):
        Image.fromarray(frame).save(images / f"{i:05d}.jpg", quality=95)
        indexed = Image.fromarray(labels)
        indexed.putpalette(palette)
        indexed.save(masks / f"{i:05d}.png")
