"""Rotation and padding that reflect the image and ignore new label pixels."""

from __future__ import annotations

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import RandomRotate
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS

from ...registry import TRANSFORMS


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class ReflectRotate(RandomRotate):
    """Rotate about the centre; new pixels are the reflected image, and ignored in the labels.

    mmseg's ``RandomRotate`` fills the corners with a constant instead.

    Args:
        degree (float | tuple[float, float]): Angles are drawn from +-degree, or from the range.
        prob (float): Probability. Default: 1.
        seg_pad_val (int): Label of new pixels. Default: 255.

    Source: released ``data_transforms.py``, ``RandomRotate``.
    """

    def __init__(self, degree: float | tuple[float, float], prob: float = 1.0, seg_pad_val: int = 255):
        super().__init__(prob=prob, degree=degree, seg_pad_val=seg_pad_val)

    def transform(self, results: dict) -> dict:
        """Rotate ``img`` and the maps in ``seg_fields``."""
        rotate, degree = self.generate_degree()
        if not rotate:
            return results
        results['img'] = mmcv.imrotate(results['img'], degree, border_mode='reflect_101')
        for key in results.get('seg_fields', []):
            results[key] = self._rotate_labels(results[key], degree)
        return results

    def _rotate_labels(self, labels: np.ndarray, degree: float) -> np.ndarray:
        return mmcv.imrotate(labels, degree, border_value=self.seg_pad_val, interpolation='nearest')

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(degree={self.degree}, prob={self.prob}, '
            f'seg_pad_val={self.seg_pad_val})'
        )


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class ReflectPad(BaseTransform):
    """Pad images that are smaller than the following crop by reflection, equally on both sides.

    mmcv's ``Pad`` would reflect the labels too, and pads on the right and bottom only.

    Args:
        size (tuple[int, int]): Smallest height and width of the result.
        seg_pad_val (int): Label of new pixels. Default: 255.

    Source: released ``data_transforms.py``, ``RandomCrop``.
    """

    def __init__(self, size: tuple[int, int], seg_pad_val: int = 255):
        self.size = tuple(size)
        self.seg_pad_val = seg_pad_val

    def transform(self, results: dict) -> dict:
        """Pad ``img`` and the maps in ``seg_fields``; sets ``img_shape`` and ``pad_shape``."""
        height, width = results['img'].shape[:2]
        down, right = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if not (down or right):
            return results
        borders = (down // 2, down - down // 2, right // 2, right - right // 2)
        results['img'] = cv2.copyMakeBorder(results['img'], *borders, cv2.BORDER_REFLECT_101)
        for key in results.get('seg_fields', []):
            results[key] = cv2.copyMakeBorder(
                results[key], *borders, cv2.BORDER_CONSTANT, value=self.seg_pad_val
            )
        results['img_shape'] = results['pad_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, seg_pad_val={self.seg_pad_val})'
