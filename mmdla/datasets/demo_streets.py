"""Generated street scenes in Cityscapes' layout: a data set that needs no download.

A scene is painted from far to near, image and labels at once: sky, hills, buildings, trees, the
street in perspective, and on it poles with signs and lights, people, cyclists, cars, trucks and
buses, each scaled by its distance and hiding what is behind. Colours, light, blur and noise vary.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.utils import track_iter_progress
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS
from numpy.typing import ArrayLike

from ..registry import DATASETS
from .generated import check_count, generate_once
from .paired import PairedFilesMixin

CLASSES = CityscapesDataset.METAINFO['classes']
PALETTE = np.array(CityscapesDataset.METAINFO['palette'], np.uint8)
ID = {name: i for i, name in enumerate(CLASSES)}
VOID = 255
MANIFEST = 'demo_streets.json'
VERSION = 1
FILES = (
    ('leftImg8bit', 'leftImg8bit'),
    ('gtFine', 'gtFine_labelTrainIds'),
    ('gtFine', 'gtFine_color'),
)
SIZES = dict(train=240, val=40)
IMAGE_SIZE = (128, 256)


class Scene:
    """One street scene.

    Args:
        seed (Sequence[int]): Seed of the scene; equal seeds produce equal scenes.
        size (tuple[int, int]): Height and width.

    Attributes:
        image (ndarray): uint8, (H, W, 3), BGR.
        labels (ndarray): uint8 Cityscapes training ids, (H, W), 255 where nothing is said.
    """

    def __init__(self, seed: int | Sequence[int], size: tuple[int, int] = (128, 256)):
        self.rng = np.random.default_rng(seed)
        self.height, self.width = size
        self.image = np.zeros((*size, 3), np.float32)
        self.labels = np.full(size, VOID, np.uint8)
        self.horizon = self.height * self.rng.uniform(0.34, 0.46)
        self.vanishing = self.width * self.rng.uniform(0.35, 0.65)
        self._sky()
        self._row(['terrain'], 1)
        self._buildings()
        self._row(['vegetation'], 5)
        self._street()
        self._things()
        self._bonnet()
        self._camera()

    # -- painting ---------------------------------------------------------------------------------

    def _fill(self, mask: np.ndarray, name: str, colour: ArrayLike, grain: float = 8.0) -> None:
        """Paint a mask (uint8) in a colour with some grain, and label it."""
        mask = mask.astype(bool)
        noise = self.rng.normal(0, grain, (int(mask.sum()), 1))
        self.image[mask] = np.asarray(colour, np.float32) + noise
        self.labels[mask] = ID[name]

    def _polygon(self, points: ArrayLike, name: str, colour: ArrayLike, grain: float = 8.0) -> None:
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [np.round(np.asarray(points)).astype(np.int32)], 1)
        self._fill(mask, name, colour, grain)

    def _box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        name: str,
        colour: ArrayLike,
        grain: float = 8.0,
    ) -> None:
        self._polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], name, colour, grain)

    def _ellipse(
        self, x: float, y: float, rx: float, ry: float, name: str, colour: ArrayLike, grain: float = 8.0
    ) -> None:
        mask = np.zeros((self.height, self.width), np.uint8)
        axes = (max(1, round(rx)), max(1, round(ry)))
        cv2.ellipse(mask, (round(x), round(y)), axes, 0, 0, 360, 1, -1)
        self._fill(mask, name, colour, grain)

    def _vary(self, colour: ArrayLike, amount: float = 20.0) -> np.ndarray:
        return np.asarray(colour, np.float32) + self.rng.normal(0, amount, 3)

    # -- the parts, far to near ---------------------------------------------------------------------

    def _sky(self) -> None:
        top, low = self._vary((210, 160, 110), 25), self._vary((235, 220, 200), 12)
        ramp = np.linspace(0, 1, self.height)[:, None, None] ** 0.7
        self.image[:] = top * (1 - ramp) + low * ramp
        self.labels[:] = ID['sky']
        for _ in range(self.rng.integers(0, 4)):
            x, y = self.rng.uniform(0, self.width), self.rng.uniform(0, self.horizon * 0.7)
            self._ellipse(x, y, self.rng.uniform(10, 35), self.rng.uniform(3, 7), 'sky', (240,) * 3, 3)

    def _row(self, names: list[str], most: int) -> None:
        """Hills or trees along the horizon."""
        for _ in range(self.rng.integers(1, most + 1)):
            name = self.rng.choice(names)
            x, y = self.rng.uniform(0, self.width), self.horizon
            if name == 'terrain':
                self._box(
                    0,
                    y - self.rng.uniform(2, 6),
                    self.width,
                    self.height,
                    name,
                    self._vary((110, 190, 150), 12),
                    10,
                )
                continue
            size = self.rng.uniform(8, 26)
            self._box(x - 1, y - size, x + 1, y + 3, name, (45, 70, 80))
            for _ in range(6):
                dx, dy = self.rng.normal(0, size * 0.35, 2)
                self._ellipse(
                    x + dx,
                    y - size + dy * 0.6,
                    size * 0.5,
                    size * 0.42,
                    name,
                    self._vary((45, 105, 55), 14),
                    16,
                )

    def _buildings(self) -> None:
        x = -self.rng.uniform(0, 20)
        while x < self.width:
            wide = self.rng.uniform(18, 50)
            if self.rng.random() < 0.72:
                # Higher towards the sides, as along a street.
                side = abs(x + wide / 2 - self.vanishing) / self.width
                top = self.horizon * (1 - np.clip(self.rng.normal(0.35 + side, 0.15), 0.15, 1.05))
                colour = self._vary(self.rng.choice([(120, 130, 150), (95, 115, 160), (150, 150, 150)]))
                self._box(x, top, x + wide, self.horizon + 4, 'building', colour)
                self._windows(x, top, wide, colour)
            x += wide + self.rng.uniform(0, 6)

    def _windows(self, x: float, top: float, wide: float, colour: np.ndarray) -> None:
        step = self.rng.uniform(6, 10)
        for wy in np.arange(top + 3, self.horizon - 3, step):
            for wx in np.arange(x + 3, x + wide - 5, step):
                self._box(wx, wy, wx + step * 0.45, wy + step * 0.5, 'building', colour * 0.55, 4)

    def _street(self) -> None:
        low, vx, hy = self.height + 1, self.vanishing, self.horizon
        half = self.width * self.rng.uniform(0.32, 0.55)
        kerb = half * self.rng.uniform(1.35, 1.8)
        self._polygon(
            [(vx - 4, hy), (vx + 4, hy), (vx + kerb, low), (vx - kerb, low)],
            'sidewalk',
            self._vary((175, 165, 170), 10),
            10,
        )
        self._polygon(
            [(vx - 2, hy), (vx + 2, hy), (vx + half, low), (vx - half, low)],
            'road',
            self._vary((95, 90, 90), 10),
            9,
        )
        for near, far in ((1.0, 0.75), (0.62, 0.48), (0.38, 0.3), (0.22, 0.17)):
            y0, y1 = hy + (low - hy) * far, hy + (low - hy) * near
            self._polygon(
                [(vx - far, y0), (vx + far, y0), (vx + 3 * near, y1), (vx - 3 * near, y1)],
                'road',
                (215, 215, 215),
                6,
            )
        self.half, self.kerb = half, kerb

    def _things(self) -> None:
        """What stands on the street, in order of distance."""
        near = np.sort(self.rng.uniform(0.16, 1.0, self.rng.integers(7, 13)) ** 1.4 * 0.85 + 0.12)
        kinds = ['car', 'car', 'person', 'person', 'rider', 'pole', 'truck', 'bus', 'tree']
        for depth in near:
            kind = self.rng.choice(kinds)
            foot = self.horizon + (self.height - self.horizon) * depth
            size = self.height * 0.42 * depth  # height of a grown-up there, times 1.2
            reach = {'car': self.half, 'truck': self.half, 'bus': self.half}.get(kind, self.kerb)
            low = 0.0 if kind in ('car', 'truck', 'bus') else 0.55
            side = self.rng.choice([-1, 1]) * self.rng.uniform(low, 0.95)
            getattr(self, f'_{kind}')(self.vanishing + side * reach * depth, foot, size)

    def _vehicle(
        self,
        x: float,
        foot: float,
        high: float,
        wide: float,
        name: str,
        colour: np.ndarray,
        cabin: float,
    ) -> None:
        top = foot - high
        self._box(x - wide / 2, top + high * cabin, x + wide / 2, foot - high * 0.1, name, colour)
        self._polygon(
            [
                (x - wide * 0.36, top),
                (x + wide * 0.36, top),
                (x + wide * 0.46, top + high * cabin),
                (x - wide * 0.46, top + high * cabin),
            ],
            name,
            colour * 0.9,
        )
        self._box(
            x - wide * 0.32,
            top + high * 0.08,
            x + wide * 0.32,
            top + high * cabin * 0.9,
            name,
            (90, 70, 55),
            5,
        )
        for wheel in (-0.36, 0.36):
            self._ellipse(
                x + wide * wheel, foot - high * 0.09, wide * 0.09, high * 0.1, name, (25, 25, 25), 3
            )

    def _car(self, x: float, foot: float, size: float) -> None:
        colour = self._vary(
            self.rng.choice(
                [(40, 40, 190), (170, 60, 40), (200, 200, 200), (50, 50, 50), (60, 160, 190)]
            ),
            15,
        )
        self._vehicle(x, foot, size * 0.72, size * 1.25, 'car', colour, 0.45)

    def _truck(self, x: float, foot: float, size: float) -> None:
        self._vehicle(x, foot, size * 1.15, size * 1.2, 'truck', self._vary((70, 70, 60), 12), 0.3)
        self._box(
            x - size * 0.62,
            foot - size * 1.5,
            x + size * 0.62,
            foot - size * 0.45,
            'truck',
            self._vary((60, 120, 210), 15),
        )

    def _bus(self, x: float, foot: float, size: float) -> None:
        colour = self._vary((40, 190, 235), 12)
        self._box(x - size * 0.7, foot - size * 1.6, x + size * 0.7, foot - size * 0.08, 'bus', colour)
        self._box(
            x - size * 0.6,
            foot - size * 1.45,
            x + size * 0.6,
            foot - size * 0.8,
            'bus',
            (100, 80, 60),
            5,
        )
        self._box(
            x - size * 0.7,
            foot - size * 0.3,
            x + size * 0.7,
            foot - size * 0.2,
            'bus',
            colour * 0.6,
        )

    def _person(self, x: float, foot: float, size: float) -> None:
        wide = size * 0.3
        coat = self._vary(self.rng.choice([(60, 40, 150), (140, 60, 60), (60, 110, 60), (90, 60, 130)]))
        self._box(x - wide * 0.4, foot - size * 0.45, x + wide * 0.4, foot, 'person', coat * 0.5)
        self._box(x - wide * 0.6, foot - size * 0.82, x + wide * 0.6, foot - size * 0.4, 'person', coat)
        self._ellipse(x, foot - size * 0.9, wide * 0.35, size * 0.11, 'person', (130, 160, 205))

    def _rider(self, x: float, foot: float, size: float) -> None:
        for wheel in (-0.32, 0.32):
            self._ellipse(
                x + size * wheel,
                foot - size * 0.2,
                size * 0.24,
                size * 0.22,
                'bicycle',
                (40, 30, 35),
                4,
            )
        self._box(
            x - size * 0.3,
            foot - size * 0.42,
            x + size * 0.3,
            foot - size * 0.3,
            'bicycle',
            self._vary((60, 40, 110), 15),
        )
        self._box(
            x - size * 0.16,
            foot - size * 0.95,
            x + size * 0.16,
            foot - size * 0.38,
            'rider',
            self._vary((40, 150, 240), 15),
        )
        self._ellipse(x, foot - size * 1.02, size * 0.12, size * 0.13, 'rider', (50, 50, 60))

    def _pole(self, x: float, foot: float, size: float) -> None:
        high, wide = size * 1.9, max(1.2, size * 0.07)
        self._box(x - wide, foot - high, x + wide, foot, 'pole', self._vary((120, 125, 125), 8), 4)
        if self.rng.random() < 0.5:
            r = size * 0.26
            self._ellipse(
                x,
                foot - high,
                r,
                r,
                'traffic sign',
                self.rng.choice([(40, 40, 210), (200, 90, 30)]),
                5,
            )
            self._ellipse(x, foot - high, r * 0.5, r * 0.5, 'traffic sign', (235, 235, 235), 4)
        else:
            self._box(
                x - size * 0.14,
                foot - high - size * 0.2,
                x + size * 0.14,
                foot - high + size * 0.42,
                'traffic light',
                (30, 45, 35),
                3,
            )
            for i, colour in enumerate([(40, 40, 230), (40, 200, 240), (60, 210, 60)]):
                self._ellipse(
                    x,
                    foot - high - size * 0.08 + i * size * 0.19,
                    size * 0.07,
                    size * 0.07,
                    'traffic light',
                    colour,
                    2,
                )

    def _tree(self, x: float, foot: float, size: float) -> None:
        self._box(x - size * 0.08, foot - size, x + size * 0.08, foot, 'vegetation', (45, 70, 85))
        for _ in range(8):
            dx, dy = self.rng.normal(0, size * 0.3, 2)
            self._ellipse(
                x + dx,
                foot - size * 1.4 + dy,
                size * 0.42,
                size * 0.36,
                'vegetation',
                self._vary((50, 120, 60), 14),
                18,
            )

    def _bonnet(self) -> None:
        """The camera's own car: void, as in Cityscapes."""
        mask = np.zeros((self.height, self.width), np.uint8)
        axes = (round(self.width * 0.45), round(self.height * 0.05))
        cv2.ellipse(mask, (self.width // 2, self.height), axes, 0, 0, 360, 1, -1)
        mask = mask.astype(bool)
        self.image[mask], self.labels[mask] = (45, 40, 40), VOID

    def _camera(self) -> None:
        """Light, blur and noise of the picture taken."""
        image = self.image * self.rng.uniform(0.7, 1.2) * self.rng.uniform(0.94, 1.06, 3)
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), self.rng.uniform(0.2, 0.8)))
        image = image + self.rng.normal(0, self.rng.uniform(3, 11), image.shape)
        self.image = np.clip(image, 0, 255).astype(np.uint8)


def generate_demo_streets(
    root: str | os.PathLike,
    sizes: dict[str, int] = SIZES,
    image_size: Sequence[int] = IMAGE_SIZE,
    seed: int = 0,
) -> Path:
    """Generate the demo data set, unless it exists.

    The first process writes into a folder beside ``root`` and renames it when complete; others wait.

    Args:
        root (str | PathLike): Folder of the data set. It is created if necessary; if it holds the
            same data set already, nothing happens.
        sizes (dict[str, int]): Number of images by split. Default: ``dict(train=240, val=40)``.
        image_size (Sequence[int]): Height and width. Default: (128, 256).
        seed (int): Seed of the scenes. Default: 0.

    Returns:
        Path: ``root``.

    Raises:
        DataFolderError: If ``root`` holds something else, or is incomplete.
        ValueError: If a size is impossible.
    """
    if not sizes or min(sizes.values()) < 1:
        raise ValueError(f'sizes={sizes}: each split needs one scene or more')
    if min(image_size) < 32:
        raise ValueError(f'image_size={tuple(image_size)}: scenes need 32 pixels or more each way')
    root = Path(root)
    height, width = image_size
    recipe = dict(version=VERSION, sizes=dict(sizes), image_size=list(image_size), seed=seed)

    def draw(folder: Path) -> None:
        scenes = [(split, i) for split, count in sizes.items() for i in range(count)]
        print(f'Drawing {len(scenes)} street scenes into {root}')
        for split, i in track_iter_progress(scenes):
            _write_scene(folder, split, i, seed, (height, width))

    def check(folder: Path) -> None:
        for split, count in sizes.items():
            for kind, suffix in FILES:
                check_count(folder / kind / split, f'*/*_{suffix}.png', count, folder)

    return generate_once(root, recipe, MANIFEST, 'DEMO_STREETS_ROOT', draw, check)


def _write_scene(root: Path, split: str, i: int, seed: int, size: tuple[int, int]) -> None:
    town = 'demo'
    scene = Scene([seed, zlib.crc32(split.encode()), i], size)
    stem = f'{town}_{i:06d}_000000'
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(PALETTE)] = PALETTE
    pictures: tuple[np.ndarray, ...] = (scene.image, scene.labels, colours[scene.labels][..., ::-1])
    for (kind, suffix), picture in zip(FILES, pictures):
        folder = root / kind / split / town
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f'{stem}_{suffix}.png'
        if not cv2.imwrite(str(path), picture):
            raise OSError(f'{path} could not be written')


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class DemoStreetsDataset(PairedFilesMixin, CityscapesDataset):
    """Generated street scenes in the format of Cityscapes, which are drawn on first use.

    Args:
        data_root (str): Folder of the data set; created if necessary.
        sizes (dict[str, int]): Images by split. Default: ``dict(train=240, val=40)``.
        image_size (Sequence[int]): Height and width. Default: (128, 256).
        seed (int): Default: 0.
        **kwargs: Of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        DataFolderError: If ``data_root`` holds something else, or is incomplete.
        ValueError: If a size is impossible, or ``sizes`` lacks the split to read.
    """

    generates = True

    def __init__(
        self,
        data_root: str,
        sizes: dict[str, int] = SIZES,
        image_size: Sequence[int] = IMAGE_SIZE,
        seed: int = 0,
        **kwargs: Any,
    ):
        named = (kwargs.get('data_prefix') or {}).get('img_path')
        if named and Path(named).name not in sizes:
            raise ValueError(f'sizes={dict(sizes)}: lacks the split of data_prefix.img_path={named!r}')
        generate_demo_streets(data_root, sizes, image_size, seed)
        super().__init__(data_root=data_root, **kwargs)
