"""Generated pictures of one object each, with its class and box: a data set that needs no download.

For classifiers that are to find what they name: a network trained with the classes alone is asked for
the boxes. A thing is a list of polygons with markings all over (scales, bricks, ribs), fitted into a
box that is drawn by lot and painted over a backdrop. Hue, backdrop and clutter are drawn alike for all
classes, so that only shape and markings tell them apart.
"""

from __future__ import annotations

import colorsys
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.utils import track_iter_progress
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS
from numpy.typing import ArrayLike

from ..registry import DATASETS
from .folders import DataFolderError
from .generated import check_count, generate_once

MANIFEST = 'demo_objects.json'
BOXES = 'boxes.json'
VERSION = 1
# Errors from reading a file that is not the JSON that was written.
WRONG_JSON = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
SIZES = dict(train=1000, val=200, test=200)
IMAGE_SIZE = 192
# Shortest and longest side of a box, in sides of the picture.
SIDES = (0.35, 0.7)
# Things are drawn this much larger than they appear, for smooth edges.
FINE = 4


# -- shapes, in whatever unit; x goes right and y down --------------------------------------------


def _ellipse(
    x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0
) -> np.ndarray:
    """Points of an ellipse, or of the part of it between two angles in degrees (90 is down)."""
    turn = np.radians(np.linspace(start, stop, 40))
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], 1)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def _round(points: ArrayLike, times: int = 3) -> np.ndarray:
    """A polygon with its corners cut off again and again (Chaikin)."""
    points = np.asarray(points, float)
    for _ in range(times):
        after = np.roll(points, -1, 0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], 1).reshape(
            -1, 2
        )
    return points


def _stroke(points: ArrayLike, width: float) -> np.ndarray:
    """A line of some width along points, as a polygon."""
    points = np.asarray(points, float)
    along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across *= width / 2 / np.sqrt((across**2).sum(1, keepdims=True))
    return np.concatenate([points + across, (points - across)[::-1]])


def _mirror(points: ArrayLike) -> np.ndarray:
    return np.asarray(points, float) * (-1, 1)


@dataclass
class Part:
    """A piece of a thing.

    Attributes:
        points (ndarray): Its outline, (N, 2).
        colour (ndarray): BGR, (3,).
        marks (list): Pairs of outline and colour, painted on it in this order, seen only within it.
    """

    points: np.ndarray
    colour: np.ndarray
    marks: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


class Palette:
    """Three colours of one thing; ``main`` and ``mark`` differ in lightness, so that marks are seen."""

    def __init__(self, rng: np.random.Generator):
        self.main = _colour(rng, (0.35, 0.85), (0.7, 0.98))
        self.other = _colour(rng, (0.3, 0.85), (0.6, 0.95))
        self.mark = self.main * rng.uniform(0.35, 0.55)
        if rng.random() < 0.4:
            self.mark = 255 - (255 - self.main) * rng.uniform(0.1, 0.3)
        self.dark = np.full(3, rng.uniform(25, 60))
        self.pale = 255 - rng.uniform(5, 50, 3)


def _colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """A colour (BGR, 0 to 255) of any hue."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb[::-1]) * 255


# -- things: each returns its parts, far to near ---------------------------------------------------


def _balloon(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A hot-air balloon: gores from crown to mouth, a band, ropes, a basket."""
    high, mouth = rng.uniform(1.0, 1.15), rng.uniform(0.2, 0.28)
    half = np.array([(0.55, -high), (1.0, -0.75), (1.08, -0.05), (0.7, 0.6), (mouth, 1.0)])
    envelope = Part(_round(np.concatenate([half, _mirror(half[::-1])])), c.main)
    edges = np.linspace(-1, 1, rng.choice([8, 10, 12]))
    bulge = np.array([(0.3, -high), (0.92, -0.6), (1.03, -0.05), (0.72, 0.5), (mouth, 1.0)])
    for a, b in zip(edges[::2], edges[1::2]):
        envelope.marks.append((np.concatenate([bulge * (a, 1), (bulge * (b, 1))[::-1]]), c.mark))
    y = rng.uniform(-0.3, 0.1)
    envelope.marks.append((_rectangle(-1.2, y, 1.2, y + rng.uniform(0.15, 0.25)), c.other))
    low = rng.uniform(1.16, 1.24)
    ropes = [Part(_stroke([(s * mouth * 0.9, 0.95), (s * 0.2, low)], 0.05), c.dark) for s in (-1, 1)]
    basket = Part(_rectangle(-0.26, low, 0.26, low + 0.28), c.other * 0.75)
    for y in np.arange(low + 0.08, low + 0.28, 0.1):
        basket.marks.append((_rectangle(-0.3, y, 0.3, y + 0.05), c.other * 0.45))
    return [*ropes, envelope, basket]


def _butterfly(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A butterfly from above: four wings with veins, a spot and a dotted hem."""
    span, tail = rng.uniform(0.95, 1.15), rng.uniform(0.75, 1.05)
    upper = [(0.05, -0.1), (0.35, -0.95), (span, -1.0), (span * 1.05, -0.3), (0.6, 0.15), (0.05, 0.12)]
    lower = [(0.05, 0.0), (0.75, 0.0), (0.95, 0.5), (0.65, tail), (0.3, tail * 0.9), (0.03, 0.35)]
    parts = []
    for outline, centre, colour in ((lower, (0.45, 0.45), c.other), (upper, (0.6, -0.45), c.main)):
        shape, middle = _round(outline), np.array(centre)
        marks = [(shape, colour * 0.45), ((shape - middle) * 0.86 + middle, colour)]
        for i in range(1, len(shape), 5):
            marks.append((_stroke([(0.0, 0.0), shape[i]], 0.035), colour * 0.45))
            dot = (shape[i] - middle) * 0.88 + middle
            marks.append((_ellipse(dot[0], dot[1], 0.05, 0.05), c.pale))
        for r, paint in ((0.22, colour * 0.35), (0.16, c.pale), (0.08, c.dark)):
            marks.append((_ellipse(middle[0], middle[1], r, r), paint))
        parts.append(Part(shape, colour, marks))
        parts.append(Part(_mirror(shape), colour, [(_mirror(p), paint) for p, paint in marks]))
    feelers = [
        Part(_stroke([(0, -0.4), (s * 0.12, -0.7), (s * 0.3, -0.9)], 0.045), c.dark) for s in (-1, 1)
    ]
    body = Part(_ellipse(0, 0, 0.09, 0.55), c.dark)
    return [*parts, *feelers, body]


def _cactus(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A cactus in a pot: ribs and thorns, an arm to each side, a flower."""
    wide, low = rng.uniform(0.34, 0.42), 0.75
    parts = []

    def limb(line: ArrayLike, width: float, ribs: int) -> Part:
        line = np.asarray(line, float)
        tip = line[-1]
        part = Part(_stroke(line, width), c.main)
        outline = np.split(part.points, 2)
        cap = _ellipse(tip[0], tip[1], width / 2, width / 2, 180, 360)
        part.points = np.concatenate([outline[0], cap[::-1], outline[1]])
        for shift in np.linspace(-0.5, 0.5, ribs + 2)[1:-1] * width:
            part.marks.append((_stroke(line + np.array([shift, 0]), width * 0.09), c.main * 0.55))
        return part

    for side in (-1, 1):
        y, reach, top = rng.uniform(-0.1, 0.35), rng.uniform(0.68, 0.85), rng.uniform(-0.75, -0.2)
        elbow = _ellipse(side * (reach - 0.2), y - 0.2, side * 0.2, 0.2, 90, 0)
        line = np.concatenate([[(0, y)], elbow, [(side * reach, min(top, y - 0.45))]])
        parts.append(limb(line, 0.3, 2))
    parts.append(limb([(0, low), (0, -0.4), (0, -1.0)], wide * 2, 4))
    for part in parts:
        (left, up), (right, down) = part.points.min(0), part.points.max(0)
        for i, y in enumerate(np.arange(up, down, 0.2)):
            for x in np.arange(left, right, 0.3) + 0.15 * (i % 2):
                for lean in (-0.04, 0.04):
                    part.marks.append(
                        (_stroke([(x - lean, y - 0.04), (x + lean, y + 0.04)], 0.025), c.pale)
                    )
    top = -1.0 - wide
    petals = [Part(_ellipse(x, top + abs(x) / 2, 0.14, 0.14), c.other) for x in (-0.18, 0.18, 0)]
    pot = Part(np.array([(-0.55, low), (0.55, low), (0.42, 1.3), (-0.42, 1.3)]), c.other * 0.85)
    rim = Part(_rectangle(-0.62, low - 0.12, 0.62, low + 0.1), c.other)
    return [*parts, *petals, pot, rim]


def _car(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A car from its side: windows, doors, a stripe, wheels with spokes, lamps."""
    roof, front = rng.uniform(-0.85, -0.7), rng.uniform(0.45, 0.6)
    body = _round(
        [
            (-1.3, -0.12),
            (-1.3, 0.42),
            (1.3, 0.42),
            (1.32, 0.0),
            (1.1, -0.15),
            (0.8, -0.2),
            (-1.1, -0.2),
        ],
        2,
    )
    cabin = _round(
        [(-1.15, -0.1), (-0.95, roof), (-0.6, roof - 0.08), (front - 0.3, roof - 0.08),
         (front, roof + 0.1), (0.85, -0.1)], 1
    )  # fmt: skip
    glass, y = 255 - (255 - c.pale) * 2, roof + 0.12
    top = Part(cabin, c.main)
    for x0, x1, slant in ((-0.92, -0.36, 0.08), (-0.26, 0.12, 0), (0.2, 0.66, -0.34)):
        left, right = x0 + max(slant, 0), x1 + min(slant, 0)
        top.marks.append((np.array([(left, y), (right, y), (x1, -0.2), (x0, -0.2)]), glass))
        shine = [(left + 0.05, -0.25), (left + 0.2, y + 0.05)]
        top.marks.append((_stroke(shine, 0.06), np.full(3, 255.0)))
    side = Part(body, c.main)
    side.marks.append((_rectangle(-1.4, 0.02, 1.4, 0.14), c.other))
    for x in (-0.3, 0.18, 0.72):
        side.marks.append((_rectangle(x, -0.2, x + 0.04, 0.34), c.main * 0.5))
    for x in (-0.2, 0.28):
        side.marks.append((_rectangle(x, -0.1, x + 0.16, -0.04), c.dark))
    side.marks.append((_rectangle(-1.4, 0.3, 1.4, 0.45), c.main * 0.6))
    side.marks.append((_ellipse(1.24, -0.02, 0.1, 0.09), c.pale))
    side.marks.append((_ellipse(-1.28, -0.04, 0.08, 0.12), c.dark))
    wheels = []
    radius = rng.uniform(0.27, 0.33)
    for x in (-0.75, 0.75):
        wheel = Part(_ellipse(x, 0.42, radius, radius), c.dark)
        wheel.marks.append((_ellipse(x, 0.42, radius * 0.6, radius * 0.6), c.pale))
        for turn in np.arange(5) * 1.2566 + rng.uniform(0, 1):
            spoke = [(x, 0.42), (x + radius * 0.6 * np.cos(turn), 0.42 + radius * 0.6 * np.sin(turn))]
            wheel.marks.append((_stroke(spoke, radius * 0.16), c.dark))
        wheels.append(wheel)
    return [top, side, *wheels]


def _cup(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A cup with its handle, on a saucer: zigzags between two bands."""
    foot, top = rng.uniform(0.45, 0.62), -0.8
    handle = Part(_stroke(_ellipse(0.8, -0.15, 0.45, 0.45, -110, 110), 0.2), c.main)
    wall = _round(
        [(-0.85, top - 0.2), (0.85, top - 0.2), (0.82, 0.1), (foot, 0.8), (-foot, 0.8), (-0.82, 0.1)], 2
    )
    wall[:, 1] = np.maximum(wall[:, 1], top)
    bowl = Part(wall, c.main)
    teeth, rows = rng.choice([6, 8]), np.arange(-0.3, 0.5, 0.3)
    x = np.linspace(-0.9, 0.9, 2 * teeth + 1)
    for y in rows:
        zigzag = np.stack([x, y + 0.1 * (-1.0) ** np.arange(len(x))], 1)
        bowl.marks.append((_stroke(zigzag, 0.09), c.mark))
    for y in (-0.55, 0.5):
        bowl.marks.append((_rectangle(-1, y, 1, y + 0.09), c.other))
    rim = Part(_ellipse(0, top, 0.85, 0.17), c.main)
    rim.marks.append((_ellipse(0, top + 0.02, 0.76, 0.12), c.dark + np.array([10, 30, 55])))
    saucer = Part(_ellipse(0, 0.8, 1.1, 0.2), c.other)
    saucer.marks.append((_ellipse(0, 0.78, 0.9, 0.14), c.other * 0.75))
    return [handle, saucer, bowl, rim]


def _fish(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A fish: rows of scales, rays in tail and fins, gill, eye."""
    deep = rng.uniform(0.5, 0.68)
    outline = _round(
        [(-1.1, 0.0), (-0.8, -deep * 0.8), (-0.1, -deep * 1.15), (0.6, -deep * 0.5), (0.95, -0.1),
         (0.95, 0.1), (0.6, deep * 0.5), (-0.1, deep * 1.15), (-0.8, deep * 0.8)]
    )  # fmt: skip
    fork = rng.uniform(0.45, 0.65)
    shapes = [
        [(0.75, -0.05), (1.15, -fork), (1.5, -fork - 0.1), (1.32, 0.0), (1.5, fork + 0.1), (1.15, fork),
         (0.75, 0.05)],
        [(-0.45, -deep * 0.7), (-0.25, -deep - 0.38), (0.4, -deep - 0.2), (0.6, -deep * 0.35)],
        [(-0.1, deep * 0.6), (0.05, deep + 0.3), (0.4, deep + 0.2), (0.4, deep * 0.4)],
    ]  # fmt: skip
    fins = []
    for shape, root in zip(shapes, ((0.7, 0.0), (0.0, 0.2), (-0.1, 0.0))):
        fin = Part(_round(shape, 2), c.other)
        for i in range(0, len(fin.points), 2):
            fin.marks.append((_stroke([root, fin.points[i]], 0.04), c.other * 0.55))
        fins.append(fin)
    body = Part(outline, c.main)
    size = rng.uniform(0.15, 0.19)
    for i, x in enumerate(np.arange(1.1, -0.5, -size)):
        for y in np.arange(-1.2, 1.2, size * 1.6) + (i % 2) * size * 0.8:
            body.marks.append((_ellipse(x, y, size, size * 0.85), c.mark))
            body.marks.append((_ellipse(x - size * 0.22, y, size, size * 0.75), c.main))
    head = _round([(-1.3, -1), (-0.55, -1), (-0.4, 0), (-0.55, 1), (-1.3, 1)], 2)
    body.marks += [(head + np.array([0.06, 0]), c.main * 0.5), (head, c.main)]
    for r, paint in ((0.13, c.pale), (0.07, c.dark)):
        body.marks.append((_ellipse(-0.76, -deep * 0.22, r, r), paint))
    body.marks.append(
        (_stroke([(-1.1, deep * 0.25), (-0.9, deep * 0.28), (-0.8, deep * 0.2)], 0.05), c.dark)
    )
    pectoral = Part(_round([(-0.4, 0.1), (-0.1, 0.02), (0.08, 0.25), (-0.2, 0.3)], 2), c.other)
    return [*fins, body, pectoral]


def _house(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A house: a tiled roof with a chimney, brick walls, a door and windows."""
    top, eaves, ridge = rng.uniform(-1.05, -0.85), -0.2, rng.uniform(0.15, 0.75)
    roof = Part(np.array([(-1.05, eaves), (-ridge, top), (ridge, top), (1.05, eaves)]), c.other)
    for i, y in enumerate(np.arange(top, eaves, 0.16)):
        roof.marks.append((_rectangle(-1.2, y + 0.13, 1.2, y + 0.16), c.other * 0.5))
        for x in np.arange(-1.2, 1.2, 0.2) + 0.1 * (i % 2):
            roof.marks.append((_rectangle(x, y, x + 0.04, y + 0.16), c.other * 0.5))
    wall, glass = (
        Part(_rectangle(-0.9, eaves - 0.05, 0.9, 0.9), c.main),
        c.dark + np.array([70, 45, 20]),
    )
    for i, y in enumerate(np.arange(eaves, 0.9, 0.14)):
        wall.marks.append((_rectangle(-1, y, 1, y + 0.03), c.mark))
        for x in np.arange(-1, 1, 0.28) + 0.14 * (i % 2):
            wall.marks.append((_rectangle(x, y, x + 0.03, y + 0.14), c.mark))
    wall.marks.append((_rectangle(-1, eaves - 0.1, 1, eaves + 0.06), c.main * 0.5))
    door = rng.choice([-0.6, -0.17, 0.26])
    wall.marks.append((_rectangle(door - 0.04, 0.26, door + 0.38, 1), c.pale))
    wall.marks.append((_rectangle(door, 0.3, door + 0.34, 1), c.other * 0.6))
    wall.marks.append((_ellipse(door + 0.27, 0.62, 0.035, 0.035), c.pale))
    for x in (x for x in (-0.6, -0.17, 0.26) if x != door):
        wall.marks.append((_rectangle(x - 0.04, 0.12, x + 0.38, 0.54), c.pale))
        for dx in (0, 0.18):
            for dy in (0.16, 0.34):
                wall.marks.append((_rectangle(x + dx, dy, x + dx + 0.16, dy + 0.16), glass))
    x = rng.choice([-0.6, 0.4])
    chimney = Part(_rectangle(x, top - 0.22, x + 0.22, eaves), c.main * 0.85)
    for y in np.arange(top - 0.22, eaves, 0.12):
        chimney.marks.append((_rectangle(x - 1, y, x + 1, y + 0.03), c.mark))
    return [chimney, wall, roof]


def _mushroom(rng: np.random.Generator, c: Palette) -> list[Part]:
    """A mushroom: a cap with round spots, gills below it, a fibrous stem with a ring."""
    high, brim = rng.uniform(0.85, 1.1), rng.uniform(0.0, 0.15)
    cap = Part(
        _round([(-1.1, brim), (-1.0, -0.6), (-0.5, -high), (0.5, -high), (1.0, -0.6), (1.1, brim),
                (0.6, 0.12), (-0.6, 0.12)]),
        c.main,
    )  # fmt: skip
    spot = c.mark if c.mark.sum() > c.main.sum() else c.pale
    for i, y in enumerate(np.arange(-high + 0.05, 0.15, 0.3)):
        for x in np.arange(-1.2, 1.2, 0.42) + 0.21 * (i % 2):
            at = np.array([x, y]) + rng.uniform(-0.06, 0.06, 2)
            r = rng.uniform(0.07, 0.15)
            cap.marks.append((_ellipse(at[0], at[1], r, r * rng.uniform(0.7, 1)), spot))
    gills = Part(_ellipse(0, 0.05, 0.75, 0.18), c.pale * 0.85)
    for x in np.linspace(-0.8, 0.8, 15):
        gills.marks.append((_stroke([(x * 0.3, -0.2), (x, 0.3)], 0.03), c.pale * 0.5))
    slim, bulb = rng.uniform(0.26, 0.34), rng.uniform(0.4, 0.5)
    stem = Part(
        _round([(-slim, -0.2), (slim, -0.2), (slim, 0.5), (bulb, 0.9), (bulb * 0.8, 1.08),
                (-bulb * 0.8, 1.08), (-bulb, 0.9), (-slim, 0.5)]),
        c.pale,
    )  # fmt: skip
    for x in np.linspace(-0.32, 0.32, 6):
        line = [(x * 0.7, rng.uniform(0.2, 0.4)), (x, 0.7), (x * 1.3, rng.uniform(0.85, 1.0))]
        stem.marks.append((_stroke(line, 0.03), c.pale * 0.55))
    ring = Part(_round([(-slim, 0.3), (slim, 0.3), (slim + 0.16, 0.5), (-slim - 0.16, 0.5)], 2), c.pale)
    for x in np.linspace(-0.5, 0.5, 9):
        ring.marks.append((_stroke([(x * 0.7, 0.3), (x, 0.55)], 0.03), c.pale * 0.55))
    return [stem, ring, gills, cap]


THINGS = dict(
    balloon=_balloon,
    butterfly=_butterfly,
    cactus=_cactus,
    car=_car,
    cup=_cup,
    fish=_fish,
    house=_house,
    mushroom=_mushroom,
)
CLASSES = tuple(THINGS)


class ObjectPicture:
    """A picture of one thing.

    Args:
        seed (Sequence[int]): Seed of the picture; equal seeds produce equal pictures.
        name (str): One of ``CLASSES``.
        size (int): Sides of the picture in pixels. Default: 192.

    Attributes:
        image (ndarray): uint8, (size, size, 3), BGR.
        mask (ndarray): bool, (size, size): the pixels that the thing covers by half or more.
        box (tuple[int, int, int, int]): x0, y0, x1, y1 of the mask in pixels; x1 and y1 are one past
            its last column and row.

    Raises:
        ValueError: If there is no such class, or the picture is too small.
    """

    def __init__(self, seed: int | Sequence[int], name: str, size: int = IMAGE_SIZE):
        if name not in THINGS:
            raise ValueError(f'name={name!r}: must be one of {", ".join(CLASSES)}')
        _check_size('size', size)
        self.size = size
        self.rng = np.random.default_rng(seed)
        self.image = self._backdrop()
        parts = THINGS[name](self.rng, Palette(self.rng))
        self._fit(parts)
        self._paint(parts)
        self._camera()
        columns, rows = (np.flatnonzero(self.mask.any(axis)) for axis in (0, 1))
        self.box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

    # -- what stands behind -----------------------------------------------------------------------

    def _backdrop(self) -> np.ndarray:
        """A gradient, soft stains, and clutter of up to three kinds."""
        rng, size = self.rng, self.size
        a, b = (_colour(rng, (0.05, 0.5), (0.45, 1.0)) for _ in range(2))
        turn = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:size, :size] / size - 0.5
        ramp = (x * np.cos(turn) + y * np.sin(turn) + 0.5)[..., None].clip(0, 1)
        image = a * (1 - ramp) + b * ramp
        for cells in (3, 6, 12):
            image += (self._stains(cells)[..., None] - 127.5) * (rng.uniform(0, 0.9) / cells)
        image = np.clip(image, 0, 255).astype(np.uint8)
        kinds = [self._lines, self._blobs, self._shards, self._stripes, self._dots, self._bricks]
        for i in rng.permutation(len(kinds))[: rng.integers(0, 4)]:
            layer = image.copy()
            kinds[i](layer)
            strength = rng.uniform(0.25, 0.7)
            image = np.round(image * (1 - strength) + layer * strength).astype(np.uint8)
        return image

    def _stains(self, cells: int) -> np.ndarray:
        """Smooth noise of some cells to the side, 0 to 255."""
        noise = self.rng.integers(0, 256, (cells, cells), np.uint8)
        # These two are exact in integers, the same on every processor.
        noise = cv2.resize(noise, (self.size, self.size), interpolation=cv2.INTER_LINEAR_EXACT)
        return cv2.GaussianBlur(noise, (0, 0), self.size / cells / 3)

    def _hue(self) -> tuple[float, float, float]:
        return tuple(_colour(self.rng, (0.1, 0.8), (0.3, 1.0)))

    def _spot(self) -> np.ndarray:
        return self.rng.uniform(0, self.size, 2)

    def _polygon(self, layer: np.ndarray, points: ArrayLike, colour: Sequence[float] | float) -> None:
        cv2.fillPoly(
            layer, [np.round(np.asarray(points) * 16).astype(np.int32)], colour, cv2.LINE_AA, 4
        )

    def _lines(self, layer: np.ndarray) -> None:
        for _ in range(self.rng.integers(3, 14)):
            a, b, c = (self._spot() for _ in range(3))
            t = np.linspace(0, 1, 20)[:, None]
            curve = a * (1 - t) ** 2 + 2 * b * t * (1 - t) + c * t**2
            self._polygon(layer, _stroke(curve, self.rng.uniform(0.008, 0.03) * self.size), self._hue())

    def _blobs(self, layer: np.ndarray) -> None:
        for _ in range(self.rng.integers(3, 12)):
            radii = self.rng.uniform(0.03, 0.16, 2) * self.size
            self._polygon(layer, _ellipse(*self._spot(), *radii), self._hue())

    def _shards(self, layer: np.ndarray) -> None:
        for _ in range(self.rng.integers(3, 10)):
            corners = self.rng.uniform(-0.18, 0.18, (self.rng.integers(3, 6), 2)) * self.size
            order = np.argsort(np.arctan2(corners[:, 1], corners[:, 0]))
            self._polygon(layer, self._spot() + corners[order], self._hue())

    def _patch(self, layer: np.ndarray, texture: np.ndarray) -> None:
        """Colour one or two blotches where a texture (0 to 1) is high."""
        for _ in range(self.rng.integers(1, 3)):
            blotch = np.zeros((self.size, self.size), np.uint8)
            corners = self._spot() + self.rng.uniform(-0.5, 0.5, (6, 2)) * self.size
            self._polygon(blotch, _round(corners), 1)
            layer[(blotch > 0) & (texture > 0.5)] = self._hue()

    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of each pixel in cells of a turned grid."""
        turn, step = self.rng.uniform(0, np.pi), self.rng.uniform(0.04, 0.12) * self.size
        y, x = np.mgrid[: self.size, : self.size] / step
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        return u + self.rng.random(), v + self.rng.random()

    def _stripes(self, layer: np.ndarray) -> None:
        u, _ = self._grid()
        self._patch(layer, u % 1 > self.rng.uniform(0.4, 0.8))

    def _dots(self, layer: np.ndarray) -> None:
        u, v = self._grid()
        self._patch(layer, (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < self.rng.uniform(0.03, 0.12))

    def _bricks(self, layer: np.ndarray) -> None:
        u, v = self._grid()
        self._patch(layer, (v % 1 < 0.2) | ((u / 2 + np.floor(v) / 2) % 1 < 0.1))

    # -- the thing --------------------------------------------------------------------------------

    def _fit(self, parts: list[Part]) -> None:
        """Turn the parts a little, perhaps mirror them, and fit them into a box drawn by lot."""
        rng = self.rng
        turn, flip = np.radians(rng.uniform(-14, 14)), rng.choice([-1, 1])
        matrix = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) * [[flip], [1]]
        everything = np.concatenate([part.points for part in parts]) @ matrix
        low, extent = everything.min(0), np.ptp(everything, axis=0)
        least, most = SIDES
        aspect = np.sqrt(extent[0] / extent[1] * rng.uniform(0.75, 1.33))
        sides = rng.uniform(least, most) * np.array([aspect, 1 / aspect])
        # Whichever side is out of bounds takes the other with it.
        sides *= max(1, least / sides.min())
        sides = np.minimum(sides * min(1, most / sides.max()), most).clip(least) * self.size
        corner = rng.uniform(0.015, 0.985 - sides / self.size) * self.size
        matrix, shift = matrix * (sides / extent), corner - low * sides / extent
        for part in parts:
            part.points = part.points @ matrix + shift
            part.marks = [(points @ matrix + shift, colour) for points, colour in part.marks]

    def _paint(self, parts: list[Part]) -> None:
        """Draw the parts, large and with darker edges, and lay them over the backdrop."""
        fine = self.size * FINE
        thing = np.zeros((fine, fine, 3), np.uint8)
        cover = np.zeros((fine, fine), np.uint8)
        for part in parts:
            outline = _fine(part.points)
            x, y, wide, high = cv2.boundingRect(outline)
            x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + wide, fine), min(y + high, fine)
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillPoly(mask, [outline - (x0, y0)], 255)
            layer = np.full((*mask.shape, 3), np.round(part.colour), np.uint8)
            for points, colour in part.marks:
                paint = tuple(float(c) for c in np.clip(np.round(colour), 0, 255))
                cv2.fillPoly(layer, [_fine(points) - (x0, y0)], paint)
            depth = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, 0), cv2.DIST_L2, 5)
            depth = depth[1:-1, 1:-1]
            light = 0.55 + 0.5 * np.minimum(depth / np.maximum(depth.max() * 0.45, 2 * FINE), 1)
            layer = np.clip(layer * light[..., None], 0, 255).astype(np.uint8)
            inside = mask > 0
            thing[y0:y1, x0:x1][inside] = layer[inside]
            cover[y0:y1, x0:x1][inside] = 255
        # Averages of blocks are exact in integers; the thing is black where it does not cover.
        size = (self.size, self.size)
        colours = np.asarray(cv2.resize(thing, size, interpolation=cv2.INTER_AREA))
        covered = np.asarray(cv2.resize(cover, size, interpolation=cv2.INTER_AREA))
        self.image = colours + self.image * (1 - covered[..., None] / 255)
        self.mask = covered >= 128

    def _camera(self) -> None:
        """Light from one side, its tint, blur and noise."""
        rng, size = self.rng, self.size
        turn, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
        y, x = np.mgrid[:size, :size] / size - 0.5
        light = 1 + fall * (x * np.cos(turn) + y * np.sin(turn))
        image = self.image * light[..., None] * rng.uniform(0.72, 1.12) * rng.uniform(0.94, 1.06, 3)
        image = np.clip(image, 0, 255).astype(np.uint8)
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.2, 0.7))
        noise = rng.normal(0, rng.uniform(1, 6), image.shape)
        self.image = np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def _fine(points: np.ndarray) -> np.ndarray:
    return np.round(points * FINE).astype(np.int32)


def _check_size(argument: str, size: int) -> None:
    if size < 32:
        raise ValueError(f'{argument}={size}: pictures need 32 pixels or more each way')


def generate_demo_objects(
    root: str | os.PathLike,
    sizes: dict[str, int] = SIZES,
    image_size: int = IMAGE_SIZE,
    seed: int = 0,
) -> Path:
    """Generate the demo data set, unless it exists.

    The first process writes into a folder beside ``root`` and renames it when complete; others wait.
    Picture ``i`` of a split is ``SPLIT/CLASS/{i:05d}.png`` and shows class ``i`` modulo 8.
    ``boxes.json`` says what its numbers mean.

    Args:
        root (str | PathLike): Folder of the data set. It is created if necessary; if it holds the
            same data set already, nothing happens.
        sizes (dict[str, int]): Number of pictures by split.
            Default: ``dict(train=1000, val=200, test=200)``.
        image_size (int): Sides of the pictures in pixels. Default: 192.
        seed (int): Seed of the pictures. Default: 0.

    Returns:
        Path: ``root``.

    Raises:
        DataFolderError: If ``root`` holds something else, or is incomplete.
        ValueError: If a size is impossible.
    """
    if not sizes or min(sizes.values()) < 1:
        raise ValueError(f'sizes={sizes}: each split needs one picture or more')
    _check_size('image_size', image_size)
    root = Path(root)
    recipe = dict(version=VERSION, sizes=dict(sizes), image_size=image_size, seed=seed)

    def draw(folder: Path) -> None:
        pictures = [(split, i) for split, count in sizes.items() for i in range(count)]
        print(f'Drawing {len(pictures)} pictures of things into {root}')
        progress = track_iter_progress(pictures)
        boxes = dict(_write_picture(folder, split, i, seed, image_size) for split, i in progress)
        _write_boxes(folder / BOXES, boxes)

    def check(folder: Path) -> None:
        check_count(folder, BOXES, 1, folder)
        for split, count in sizes.items():
            check_count(folder / split, '*/*.png', count, folder)

    return generate_once(root, recipe, MANIFEST, 'DEMO_OBJECTS_ROOT', draw, check)


def picture_seed(seed: int, split: str, i: int) -> list[int]:
    """The seed of picture ``i`` of a split."""
    return [seed, zlib.crc32(split.encode()), i]


def _write_picture(root: Path, split: str, i: int, seed: int, size: int) -> tuple[str, tuple]:
    """Write a picture; its path below the root, and its box."""
    name = CLASSES[i % len(CLASSES)]
    picture = ObjectPicture(picture_seed(seed, split, i), name, size)
    path = root / split / name / f'{i:05d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture.image):
        raise OSError(f'{path} could not be written')
    return path.relative_to(root).as_posix(), picture.box


def _write_boxes(path: Path, boxes: dict[str, tuple]) -> None:
    """Write the boxes, a line each."""
    meaning = 'x0, y0, x1, y1 in pixels from the upper left corner; x1 and y1 are one past the last'
    lines = ',\n'.join(f'    {json.dumps(name)}: {json.dumps(box)}' for name, box in boxes.items())
    head = f'"box": "{meaning}",\n  "classes": {json.dumps(CLASSES)}'
    path.write_text(f'{{\n  {head},\n  "boxes": {{\n{lines}\n  }}\n}}\n')


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class DemoObjectsDataset(BaseDataset):
    """Generated pictures of one thing each, with its class and box, which are drawn on first use.

    Each sample has ``img_path``, ``gt_label`` (0 to 7) and ``gt_bboxes``: float32, (1, 4), x0, y0, x1,
    y1 in pixels, x1 and y1 one past the last.

    Args:
        data_root (str): Folder of the data set; created if necessary.
        split (str): One of those in ``sizes``. Default: 'train'.
        sizes (dict[str, int]): Pictures by split. Default: ``dict(train=1000, val=200, test=200)``.
        image_size (int): Sides of the pictures in pixels. Default: 192.
        seed (int): Default: 0.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ValueError: If there is no such split.
    """

    METAINFO = dict(classes=CLASSES)
    generates = True

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        sizes: dict[str, int] = SIZES,
        image_size: int = IMAGE_SIZE,
        seed: int = 0,
        **kwargs: Any,
    ):
        if split not in sizes:
            raise ValueError(f'split={split!r}: must be one of {", ".join(sizes)}')
        generate_demo_objects(data_root, sizes, image_size, seed)
        self.split = split
        super().__init__(ann_file=BOXES, data_root=str(data_root), **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the split's part of ``boxes.json``, with alternating classes."""
        data = []
        try:
            for path, box in json.loads(Path(self.ann_file).read_text())['boxes'].items():
                split, name, _ = path.split('/')
                if split == self.split:
                    label = self.class_to_idx[name]
                    box = np.array([box], np.float32).reshape(1, 4)
                    image = f'{self.data_root}/{path}'
                    data.append(dict(img_path=image, gt_label=label, gt_bboxes=box))
        except WRONG_JSON as error:
            raise DataFolderError(
                f'{self.ann_file} is not as it was written ({error!r}). Remove {self.data_root} and it '
                'is generated again.'
            ) from error
        return data
