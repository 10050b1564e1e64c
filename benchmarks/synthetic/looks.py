"""What synthetic objects and backgrounds look like: outlines, colours, textures.

Everything is drawn from a numpy generator and cv2, so a seed fixes it. Colours are float RGB
in 0..255, distances between them are taken in CIE Lab, where equal steps look equally large.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Float = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

#: side of an object's texture, which spans [-TEXTURE_REACH, TEXTURE_REACH] of the unit outline
TEXTURE_SIZE = 96
TEXTURE_REACH = 1.6
_VERTICES = 56


def outline(rng: Rng, holes: bool) -> list[Float]:
    """Contours of a random shape, each [K,2] (x, y), reaching about 1 from the origin.

    A second contour, if any, is a hole (drawn by the even-odd rule).
    """
    kind = rng.integers(5)
    angle = np.linspace(0, 2 * np.pi, _VERTICES, endpoint=False)
    if kind == 0:
        radius = _harmonics(rng, angle, 0.28)
    elif kind == 1:
        radius = _superellipse(angle, rng.uniform(0.35, 1.0), rng.choice([2.0, 3.0, 8.0]))
    elif kind == 2:
        radius = 1 + rng.uniform(0.15, 0.4) * np.cos(angle * rng.integers(3, 8))
    elif kind == 3:
        return [_bent_capsule(rng)]
    else:
        radius = _superellipse(angle, rng.uniform(0.6, 1.0), 2.0) * _harmonics(rng, angle, 0.12)
    points = _unit(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    if holes and rng.random() < 0.15:
        return [points, (points * rng.uniform(0.3, 0.5)).astype(np.float32)]
    return [points]


def _harmonics(rng: Rng, angle: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    radius = np.ones_like(angle)
    for order in range(2, 7):
        wave = np.cos(order * angle + rng.uniform(0, 2 * np.pi))
        radius += rng.normal(0, strength * 1.6 / order) * wave
    clipped: NDArray[np.float64] = np.clip(radius, 0.35, 2.0)
    return clipped


def _superellipse(angle: NDArray[np.float64], aspect: float, power: float) -> NDArray[np.float64]:
    x, y = np.abs(np.cos(angle)), np.abs(np.sin(angle)) / aspect
    radius: NDArray[np.float64] = (x**power + y**power) ** (-1 / power)
    return radius


def _bent_capsule(rng: Rng) -> Float:
    """A banana: a line of some thickness, bent along an arc."""
    half, bend = _VERTICES // 2, rng.uniform(0.1, 2.2)
    along = np.linspace(-0.5, 0.5, half) * bend
    thickness = rng.uniform(0.25, 0.45) * np.sqrt(1 - np.linspace(-0.98, 0.98, half) ** 4)
    outer, inner = 1 / bend + thickness, 1 / bend - thickness
    x = np.concatenate([outer * np.sin(along), (inner * np.sin(along))[::-1]])
    y = np.concatenate([outer * np.cos(along), (inner * np.cos(along))[::-1]])
    return _unit(np.stack([x, y], axis=1))


def _unit(points: NDArray[np.float64]) -> Float:
    centred = points - points.mean(axis=0)
    return np.asarray(centred / np.abs(centred).max(), np.float32)


def lab_distance(a: Float, b: Float) -> float:
    """Euclidean distance of two RGB colours (0..255) in CIE Lab."""
    pair = np.stack([a, b])[None].astype(np.float32) / 255
    lab = cv2.cvtColor(pair, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


def colour_away_from(rng: Rng, others: list[Float], at_least: float) -> Float:
    """A random RGB colour at least that far in Lab from all others, or the farthest of 40."""
    best, best_distance = np.zeros(3, np.float32), -1.0
    for _ in range(40):
        colour = rng.uniform(15, 240, 3).astype(np.float32)
        distance = min((lab_distance(colour, other) for other in others), default=np.inf)
        if distance > best_distance:
            best, best_distance = colour, distance
        if distance >= at_least:
            break
    return best


def colour_near(rng: Rng, colour: Float, spread: float) -> Float:
    """That RGB colour, every channel moved by normal noise of that spread."""
    return np.clip(colour + rng.normal(0, spread, 3), 5, 250).astype(np.float32)


def smooth_noise(rng: Rng, size: int, cells: int) -> Float:
    """[size,size] float32 in 0..1: random values on a cells x cells grid, interpolated."""
    grid = rng.random((cells + 1, cells + 1), dtype=np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(field, 0, 1), np.float32)


def texture(rng: Rng, first: Float, second: Float, size: int, grain: float) -> UInt8:
    """[size,size,3] uint8 RGB: two colours mixed by a random pattern, with fine grain."""
    mix = _pattern(rng, size)[..., None]
    image = first + (second - first) * mix
    if grain > 0:
        image = image + (smooth_noise(rng, size, size // 4)[..., None] - 0.5) * grain
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _pattern(rng: Rng, size: int) -> Float:
    kind = rng.integers(6)
    if kind == 0:
        return np.asarray(smooth_noise(rng, size, int(rng.integers(2, 8))) * np.float32(0.3))
    if kind == 1:
        return smooth_noise(rng, size, int(rng.integers(2, 12)))
    if kind == 2:
        field = smooth_noise(rng, size, int(rng.integers(5, 16)))
        return np.asarray(np.clip((field - rng.uniform(0.45, 0.65)) * 12, 0, 1), np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    turn, waves = rng.uniform(0, np.pi), rng.uniform(2, 9)
    along = x * np.cos(turn) + y * np.sin(turn)
    if kind == 3:
        return np.asarray(along / max(float(np.abs(along).max()), 1e-6), np.float32)
    stripes = np.sin(along * waves * 2 * np.pi)
    if kind == 5:
        across = -x * np.sin(turn) + y * np.cos(turn)
        stripes = stripes * np.sin(across * waves * 2 * np.pi)
    return np.asarray(np.clip(stripes * 4 + 0.5, 0, 1), np.float32)


def background(rng: Rng, colours: list[Float], size: int, clutter: int, grain: float) -> UInt8:
    """[size,size,3] uint8 RGB: blended colours, optionally `clutter` unlabelled flat shapes."""
    image = np.full((size, size, 3), colours[0], np.float32)
    for colour in colours[1:]:
        mix = smooth_noise(rng, size, int(rng.integers(2, 7)))[..., None]
        image = image + (colour - image) * mix
    for _ in range(clutter):
        points = outline(rng, holes=False)[0] * rng.uniform(0.03, 0.16) * size
        points = points * rng.uniform(0.5, 2.0, 2) + rng.uniform(0, size, 2)
        tone = colour_near(rng, colours[int(rng.integers(len(colours)))], 30)
        cv2.fillPoly(image, [np.int32(points * 16)], tone.tolist(), cv2.LINE_AA, 4)
    for cells in (size // 24, size // 6):
        image += (smooth_noise(rng, size, cells)[..., None] - 0.5) * grain
    return np.asarray(np.clip(image, 0, 255), np.uint8)
