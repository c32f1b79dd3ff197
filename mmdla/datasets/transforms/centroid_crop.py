"""Crops that show the centroid of a class."""

from __future__ import annotations

from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS
from numpy.random import randint

from ...registry import TRANSFORMS


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class CentroidCrop(RandomCrop):
    """mmseg's ``RandomCrop``, but with the centroid of :class:`ClassUniformDataset` somewhere in it.

    The centroid is a pixel of the image as loaded, and follows resizing only: what flips, pads or
    rotates comes after. Samples without one are cropped at random, as by ``RandomCrop``.

    Args:
        crop_size (int | tuple[int, int]): Height and width. A smaller image stays as it is.
        **kwargs: Of :class:`mmseg.datasets.transforms.RandomCrop`.

    Raises:
        ValueError: In cropping, if the image is flipped already.

    Source: the released code of AFA-DLA.
    """

    @cache_randomness
    def crop_bbox(self, results: dict) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of the crop."""
        centroid = results.get('centroid')
        if centroid is None:
            return super().crop_bbox(results)
        if results.get('flip'):
            raise ValueError('CentroidCrop must come before RandomFlip: the centroid is not flipped')
        box: list[int] = []
        # y, then x
        for axis in (0, 1):
            size, crop = results['img'].shape[axis], self.crop_size[axis]
            middle = int((centroid[1 - axis] + 0.5) * size / results['ori_shape'][axis])
            margin = max(size - crop, 0)
            first, last = min(max(middle - crop + 1, 0), margin), min(middle, margin)
            start = int(randint(first, last + 1))  # noqa: NPY002  what transforms draw from
            box += [start, start + crop]
        top, bottom, left, right = box
        return top, bottom, left, right
