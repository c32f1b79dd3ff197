"""CamVid, the 11-class split of SegNet and of the DLA paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS

from ..registry import DATASETS
from .paired import PairedFilesMixin


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class CamVidDataset(PairedFilesMixin, BaseSegDataset):
    """CamVid: 367 training, 101 validation and 233 test frames of 480x360, with 11 classes.

    The folders are SegNet's: ``train``, ``trainannot``, ``val``, ``valannot``, ``test``, ``testannot``.
    An image and its labels have the same stem. Label 11, void, is read as 255. Without ``seg_map_path``
    in ``data_prefix`` the images have no labels. See :class:`~mmdla.datasets.paired.PairedFilesMixin`
    for lists, links and suffixes.

    Args:
        img_suffix (str | Sequence[str]): Suffixes of images. Default: ``('.png', '.jpg', '.jpeg')``.
        seg_map_suffix (str | Sequence[str]): Suffixes of label maps. Default: ``'.png'``.
        **kwargs: Of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        DataFolderError: If there is no image, or one that ``ann_file`` names is missing.
    """

    METAINFO = dict(
        classes=(
            'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car',
            'pedestrian', 'bicyclist',
        ),
        palette=[
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
            [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
        ],
    )  # fmt: skip
    VOID = 11

    def __init__(
        self,
        img_suffix: str | Sequence[str] = ('.png', '.jpg', '.jpeg'),
        seg_map_suffix: str | Sequence[str] = '.png',
        **kwargs: Any,
    ):
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map old labels to new ones: void to 255, and selected classes as in mmseg."""
        return {**(super().get_label_map(new_classes) or {}), cls.VOID: 255}
