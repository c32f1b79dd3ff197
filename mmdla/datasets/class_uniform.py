"""Samples in which every class comes as often: crops around the centroids of classes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmseg.registry import DATASETS as MMSEG_DATASETS
from rich.progress import track
from torch.utils.data import Dataset

from ..registry import DATASETS
from .validation import sample_name


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class ClassUniformDataset(Dataset):
    """A data set of segmentation, a share of whose samples shows each class as often as any other.

    Images are divided into tiles, and a class has a centroid in each tile that it is in. With
    probability ``share`` one of these is drawn instead of the image asked for: first a class, of those
    that there are, then one of its centroids. Its image runs through the pipeline with ``centroid``
    (x, y), and ``mmdla.CentroidCrop`` makes a crop that shows it.

    All label maps are read once, as the pipeline loads them. mmengine's ``ClassBalancedDataset``
    instead repeats images with rare classes, wherever these are in them.

    Args:
        dataset (dict | Dataset): A data set with a ``pipeline``, or its config. Of several, wrap each.
        share (float): Probability to draw by class. Default: 0.5.
        tile_size (int | tuple[int, int]): Height and width of a tile in pixels. Default: 1024.
        cache (str, optional): File (.npz) to keep the centroids in. It is written anew if labels,
            classes or tiles have changed. Default: None, then every process finds them in each run.
        lazy_init (bool): Read labels when ``full_init`` is called. Default: False.

    Raises:
        ValueError: If an argument is impossible, ``cache`` is a file of another kind, or no pixel has a
            class.

    Source: Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label Relaxation",
    CVPR 2019, Section 4.1; the released code of AFA-DLA.
    """

    def __init__(
        self,
        dataset: dict | Dataset,
        share: float = 0.5,
        tile_size: int | tuple[int, int] = 1024,
        cache: str | None = None,
        lazy_init: bool = False,
    ):
        if not 0 <= share <= 1:
            raise ValueError(f'share={share!r} must be a probability, from 0 to 1')
        tile = (tile_size, tile_size) if isinstance(tile_size, int) else tuple(tile_size)
        if len(tile) != 2 or min(tile) < 1:
            raise ValueError(f'tile_size={tile_size!r} must be a height and a width in pixels')
        if cache is not None and Path(cache).suffix != '.npz':
            raise ValueError(f'cache={cache!r} must end in .npz')
        self.dataset: Any = ROOT_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not hasattr(self.dataset, 'pipeline') or not hasattr(self.dataset, 'get_data_info'):
            raise ValueError(
                f'dataset: {type(self.dataset).__name__} has no pipeline of its own; wrap each of the '
                'data sets that it consists of'
            )
        self.share = share
        self.tile_size = tile
        self.cache = cache
        self.centroids: list[np.ndarray] | None = None
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict:
        """That of the data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Find the centroids: for each class that there is, sample, x and y in rows."""
        if self.centroids is not None:
            return
        self.dataset.full_init()
        name = type(self.dataset).__name__
        if not self.metainfo.get('classes'):
            raise ValueError(f'{name} names no classes: set metainfo.classes')
        try:
            steps = self._loading()
        except Exception as error:
            raise ValueError(f'{name}, {sample_name(self.dataset, 0)}: {error}') from error
        points = self._find(steps) if self.cache is None else self._cached(Path(self.cache), steps)
        found = [points[points[:, 0] == c, 1:] for c in np.unique(points[:, 0])]
        if not found:
            raise ValueError(
                f'{name}: no pixel of its {len(self.dataset)} label maps is of one of the '
                f'{len(self.metainfo["classes"])} classes'
            )
        self.centroids = found

    def _find(self, steps: list) -> np.ndarray:
        """Class, sample, x and y of all centroids, int64 in rows."""
        classes, name = len(self.metainfo['classes']), type(self.dataset).__name__
        found = [np.zeros((0, 4), np.int64)]
        numbers = range(len(self.dataset))
        shown = is_main_process() and len(numbers) > 200
        for number in track(numbers, f'Centroids of {name}', transient=True, disable=not shown):
            results = self.dataset.get_data_info(number)
            try:
                for step in steps:
                    results = step(results)
            except Exception as error:
                raise ValueError(f'{sample_name(self.dataset, number)}: {error}') from error
            points = tile_centroids(results['gt_seg_map'], classes, self.tile_size)
            found.append(np.insert(points, 1, number, axis=1))
        return np.concatenate(found)

    def _loading(self) -> list:
        """The steps of the pipeline up to the one that loads the label map."""
        results = self.dataset.get_data_info(0)
        for count, step in enumerate(self.dataset.pipeline.transforms, 1):
            results = step(results)
            if 'gt_seg_map' in results:
                return self.dataset.pipeline.transforms[:count]
        raise ValueError('the pipeline loads no label map (gt_seg_map)')

    def _key(self, steps: list) -> str:
        """What the centroids depend on, hashed: the files, how their labels are read, the tiles."""
        files = []
        for number in range(len(self.dataset)):
            info = self.dataset.get_data_info(number)
            path = info.get('seg_map_path')
            state = os.stat(path) if path and os.path.exists(path) else None
            told = [str(info.get(name)) for name in ('label_map', 'reduce_zero_label')]
            files.append([path, *told, *([state.st_size, state.st_mtime_ns] if state else [])])
        loading = [
            [type(step).__qualname__, {k: repr(v) for k, v in sorted(vars(step).items())}]
            for step in steps
        ]
        settings = [self.tile_size, self.metainfo['classes'], loading, files]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def _cached(self, path: Path, steps: list) -> np.ndarray:
        """The centroids that the cache has, or else new ones, which are kept there."""
        key = self._key(steps)
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as file:
                    kept, points = str(file['key']), file['centroids']
            except Exception as error:
                raise ValueError(
                    f'cache={str(path)!r} is there and no cache of centroids ({error}); name another '
                    'file'
                ) from error
            if kept == key:
                return points
            print_log(f'{path}: labels or settings have changed; centroids are found anew', 'current')
        points = self._find(steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        # written beside its place first, so that it is there as a whole or not at all
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix='.part', delete=False) as part:
            try:
                np.savez_compressed(part, key=np.array(key), centroids=points)
                part.close()
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
        return points

    def get_data_info(self, idx: int) -> dict:
        """What the data set says of a sample."""
        return self.dataset.get_data_info(idx)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> Any:
        self.full_init()
        assert self.centroids is not None
        if np.random.rand() >= self.share:  # noqa: NPY002  what transforms draw from
            return self.dataset[idx]
        points = self.centroids[np.random.randint(len(self.centroids))]  # noqa: NPY002
        number, x, y = points[np.random.randint(len(points))].tolist()  # noqa: NPY002
        info = {**self.dataset.get_data_info(number), 'centroid': (x, y)}
        try:
            sample = self.dataset.pipeline(info)
        except Exception as error:
            raise ValueError(
                f'drawn for one of its classes, {sample_name(self.dataset, number)}: {error}'
            ) from error
        return self.dataset[number] if sample is None else sample


def tile_centroids(labels: np.ndarray, num_classes: int, tile_size: tuple[int, int]) -> np.ndarray:
    """The centroid of each class in each tile of a label map.

    Args:
        labels (np.ndarray): Class numbers, of shape (H, W); others are of no class.
        num_classes (int): Number of classes.
        tile_size (tuple[int, int]): Height and width of a tile; those at the right and bottom may be
            smaller.

    Returns:
        np.ndarray: Rows of class, x and y, int64; rounded to pixels.
    """
    found = [np.zeros((0, 3), np.int64)]
    height, width = tile_size
    for top in range(0, labels.shape[0], height):
        for left in range(0, labels.shape[1], width):
            tile = labels[top : top + height, left : left + width]
            values = np.where((tile >= 0) & (tile < num_classes), tile, num_classes).astype(np.int64)
            middle = []
            for axis, start in ((1, left), (0, top)):
                # how many pixels of each class are in each column, then row
                places = np.arange(values.shape[axis])
                keys = values + (num_classes + 1) * np.expand_dims(places, 1 - axis)
                counts = np.bincount(keys.ravel(), minlength=len(places) * (num_classes + 1))
                counts = counts.reshape(len(places), -1)[:, :num_classes]
                present = np.flatnonzero(counts.any(0))
                middle.append(start + (places @ counts)[present] / counts.sum(0)[present])
            found.append(np.stack([present, *np.rint(middle).astype(np.int64)], 1))
    return np.concatenate(found)
