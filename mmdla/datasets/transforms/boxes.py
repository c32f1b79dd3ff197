"""mmpretrain's resizing and cropping, which also transform the boxes in ``gt_bboxes``.

mmcv's ``Resize`` and ``RandomFlip`` do so already.
"""

from __future__ import annotations

import math

import numpy as np
from mmcv.transforms import BaseTransform, CenterCrop
from mmcv.transforms.utils import cache_randomness
from mmpretrain.datasets.transforms import RandomCrop, RandomResizedCrop, ResizeEdge
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN_TRANSFORMS

from ...registry import TRANSFORMS


def _boxes(results: dict, transform: str) -> np.ndarray:
    """The boxes, (n, 4) float64; ValueError if they are missing or something else."""
    boxes = results.get('gt_bboxes')
    if boxes is None:
        raise ValueError(
            f'{transform} needs gt_bboxes, from a data set with boxes; use {transform[3:]} without them'
        )
    boxes = np.asarray(boxes, float)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f'gt_bboxes of shape {boxes.shape} must be (n, 4)')
    return boxes


def _moved(boxes: np.ndarray, start: tuple, scale: tuple, image: np.ndarray) -> np.ndarray:
    """Shift boxes by ``start`` and scale them, both as (x, y); clip them, and drop those outside."""
    height, width = image.shape[:2]
    boxes = (boxes - np.tile(start, 2)) * np.tile(scale, 2)
    boxes = boxes.clip(0, (width, height, width, height))
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)].astype(np.float32)


@TRANSFORMS.register_module()
@MMPRETRAIN_TRANSFORMS.register_module()
class BoxResizeEdge(ResizeEdge):
    """mmpretrain's ``ResizeEdge``; ``gt_bboxes`` (n, 4), x0, y0, x1, y1 in pixels, is scaled alike.

    Boxes are clipped to the picture; those that lie outside are dropped, as by all transforms here.

    Args:
        **kwargs: Of :class:`mmpretrain.datasets.ResizeEdge`.

    Raises:
        ValueError: If there is no ``gt_bboxes``.
    """

    def transform(self, results: dict) -> dict:
        """Resize ``img`` and ``gt_bboxes``."""
        boxes = _boxes(results, type(self).__name__)
        results = super().transform(results)
        results['gt_bboxes'] = _moved(boxes, (0, 0), results['scale_factor'], results['img'])
        return results


@TRANSFORMS.register_module()
@MMPRETRAIN_TRANSFORMS.register_module()
class BoxCenterCrop(CenterCrop):
    """mmcv's ``CenterCrop``, which moves ``gt_bboxes`` too; those that lie outside are dropped.

    There they stay, as boxes without area.

    Args:
        **kwargs: Of :class:`mmcv.transforms.CenterCrop`.

    Raises:
        ValueError: If there is no ``gt_bboxes``.
    """

    def transform(self, results: dict) -> dict:
        """Crop ``img`` and ``gt_bboxes``."""
        _boxes(results, type(self).__name__)
        results = super().transform(results)
        boxes = _boxes(results, type(self).__name__)
        results['gt_bboxes'] = _moved(boxes, (0, 0), (1, 1), results['img'])
        return results


class _RememberCrop(BaseTransform):
    """Keeps, as ``crop``, the crop that was drawn: top, left, height and width."""

    @cache_randomness
    def rand_crop_params(self, img: np.ndarray) -> tuple[int, int, int, int]:
        """Draw a crop."""
        self.crop: tuple[int, int, int, int] = super().rand_crop_params(img)
        return self.crop


@TRANSFORMS.register_module()
@MMPRETRAIN_TRANSFORMS.register_module()
class BoxRandomCrop(_RememberCrop, RandomCrop):
    """mmpretrain's ``RandomCrop``; ``gt_bboxes`` is moved alike, those that lie outside are dropped.

    Args:
        **kwargs: Of :class:`mmpretrain.datasets.RandomCrop`.

    Raises:
        ValueError: If there is no ``gt_bboxes``.
    """

    def transform(self, results: dict) -> dict:
        """Crop ``img`` and ``gt_bboxes``."""
        boxes = _boxes(results, type(self).__name__)
        before = results['img'].shape
        results = super().transform(results)
        top, left = self.crop[:2]
        above, beside = self._added(*before[:2])
        results['gt_bboxes'] = _moved(boxes, (left - beside, top - above), (1, 1), results['img'])
        return results

    def _added(self, height: int, width: int) -> tuple[int, int]:
        """Pixels that padding puts above an image and to its left."""
        padding = (0,) * 4 if self.padding is None else self.padding
        padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        left, top, right, bottom = padding * (4 // len(padding))
        above, beside = top, left
        if self.pad_if_needed:
            above += math.ceil(max(0, self.crop_size[0] - top - height - bottom) / 2)
            beside += math.ceil(max(0, self.crop_size[1] - left - width - right) / 2)
        return above, beside


@TRANSFORMS.register_module()
@MMPRETRAIN_TRANSFORMS.register_module()
class BoxRandomResizedCrop(_RememberCrop, RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop``; ``gt_bboxes`` is moved and scaled alike.

    Those that lie outside are dropped; where a crop misses the thing, that is all.

    Args:
        **kwargs: Of :class:`mmpretrain.datasets.RandomResizedCrop`.

    Raises:
        ValueError: If there is no ``gt_bboxes``.
    """

    def transform(self, results: dict) -> dict:
        """Crop and resize ``img`` and ``gt_bboxes``."""
        boxes = _boxes(results, type(self).__name__)
        results = super().transform(results)
        top, left, height, width = self.crop
        out = results['img'].shape
        results['gt_bboxes'] = _moved(
            boxes, (left, top), (out[1] / width, out[0] / height), results['img']
        )
        return results
