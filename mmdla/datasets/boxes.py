"""mmpretrain's data sets with boxes, to evaluate localization.

A data sample's ``gt_bboxes`` (n, 4), float32, are x0, y0, x1, y1 in pixels of the image file, in
continuous coordinates: a box of one pixel has width 1.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from mmengine.fileio import get_file_backend, join_path, list_from_file
from mmengine.utils import deprecated_api_warning
from mmpretrain.datasets import CUB, ImageNet
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS

from ..registry import DATASETS
from .folders import DataFolderError, dataset_help

WNID = re.compile(r'n\d{8}')


# Subsets, by their deprecated names.
OLD_SUBSETS = dict(choose='calibration', report='evaluation')


def _checked_subset(subset: str | None) -> str | None:
    """The name of a subset, or None for all images.

    Raises:
        ValueError: If there is no subset of this name.
    """
    if subset in OLD_SUBSETS:
        new = OLD_SUBSETS[subset]
        warnings.warn(
            f'subset={subset!r} is deprecated and will be removed in the next version; use {new!r}',
            DeprecationWarning,
            stacklevel=3,
        )
        return new
    if subset not in (None, 'calibration', 'evaluation'):
        raise ValueError(f"subset={subset!r} must be 'calibration', 'evaluation' or None")
    return subset


def _select(data_list: list[dict], subset: str | None) -> list[dict]:
    """Every fifth image for calibration, the others for evaluation, or all."""
    if subset is None:
        return data_list
    wanted = subset == 'calibration'
    return [info for i, info in enumerate(data_list) if (i % 5 == 0) == wanted]


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class ImageNetBoxes(ImageNet):
    """ImageNet with the boxes of ILSVRC's localization task, from XML files.

    The boxes of ``CLASS/NAME.JPEG`` are in ``CLASS/NAME.xml`` or, as for the validation data,
    ``NAME.xml``. Coordinates in the file are inclusive pixel indices that count from 0 (xmax is at most
    the width minus 1), so a box ends at xmax + 1. Corners may be in any order. Boxes are clipped to the
    size in the file, which some training data need, but not rescaled if the image has another size.
    Objects of other classes are left out, unless their name is not a class number
    (``Scottish_deerhound``).

    Args:
        data_root (str): Root of images and boxes.
        split (str): ``'train'`` or ``'val'``. Default: ``''``, as in mmpretrain.
        box_prefix (str, optional): Folder of the boxes, below ``data_root``. Default:
            ``'Annotations/CLS-LOC/SPLIT'`` (``val`` without a split).
        without_boxes (str): For images without a box, more than half of the training data: ``'raise'``
            an error or ``'drop'`` them. Default: ``'raise'``.
        subset (str, optional): ``'calibration'``, every fifth image, to choose a threshold on, or
            ``'evaluation'``, the others, to report results on: the labels of the test images are not
            public. Default: None, all images.
        **kwargs: Of :class:`mmpretrain.datasets.ImageNet`.

    Raises:
        DataFolderError: If the folder of boxes or the box of an image is missing, or a file is not
            valid.
        ValueError: If an argument is impossible.
    """

    @deprecated_api_warning(dict(part='subset'), 'ImageNetBoxes')
    def __init__(
        self,
        data_root: str = '',
        split: str = '',
        box_prefix: str | None = None,
        without_boxes: str = 'raise',
        subset: str | None = None,
        **kwargs: Any,
    ):
        self.subset = _checked_subset(subset)
        if without_boxes not in ('raise', 'drop'):
            raise ValueError(f"without_boxes={without_boxes!r} must be 'raise' or 'drop'")
        if split == 'test' or not kwargs.get('with_label', True):
            raise ValueError(f'split={split!r}: boxes belong to a class, so the images need labels')
        self.box_prefix = box_prefix or f'Annotations/CLS-LOC/{split or "val"}'
        self.without_boxes = without_boxes
        super().__init__(data_root=data_root, split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Images, labels and boxes."""
        data_list = _select(super().load_data_list(), self.subset)
        advice = dataset_help(type(self).__name__, self.data_root)
        folder = join_path(self.data_root, self.box_prefix) if self.data_root else self.box_prefix
        backend = get_file_backend(folder, enable_singleton=True)
        if not backend.isdir(folder):
            raise DataFolderError(f'The folder of boxes is missing: {folder}. {advice}')
        there = set(backend.list_dir_or_file(folder, list_dir=False, suffix='.xml', recursive=True))
        lacking = []
        for info in data_list:
            image = PurePosixPath(info['img_path'].replace('\\', '/'))
            names = (f'{image.parent.name}/{image.stem}.xml', f'{image.stem}.xml')
            name = next((n for n in names if n in there), None)
            boxes = np.zeros((0, 4), np.float32)
            if name is not None:
                path = join_path(folder, name)
                try:
                    boxes = _read_xml(backend.get_text(path), image.parent.name)
                except (ElementTree.ParseError, ValueError) as error:
                    raise DataFolderError(f'{path} holds no boxes: {error}. {advice}') from error
            if not len(boxes):
                lacking.append(info['img_path'])
            info['gt_bboxes'] = boxes
        if lacking and self.without_boxes == 'raise':
            raise DataFolderError(
                f'{len(lacking)} of {len(data_list)} images have no box in {folder}, as {lacking[0]}; '
                f"leave them out with without_boxes='drop'. {advice}"
            )
        kept = [info for info in data_list if len(info['gt_bboxes'])]
        if not kept:
            raise DataFolderError(f'No image has a box in {folder}. {advice}')
        return kept


def _read_xml(text: str, folder: str) -> np.ndarray:
    """Boxes in an ILSVRC file, (n, 4), of the class that names the image's folder, if it does.

    Raises:
        ParseError, ValueError: If the file is not valid.
    """
    if '<!ENTITY' in text:  # old parsers expand them without a limit
        raise ValueError('it declares entities (<!ENTITY)')
    root = ElementTree.fromstring(text)
    corners, classes = [], set()
    for thing in root.iter('object'):
        name = thing.findtext('name', '').strip()
        if WNID.fullmatch(name):
            if WNID.fullmatch(folder) and name != folder:
                continue
            classes.add(name)
        found = [thing.findtext(f'bndbox/{key}') for key in ('xmin', 'ymin', 'xmax', 'ymax')]
        numbers = [_number(text) for text in found if text is not None]
        if len(numbers) < 4:
            raise ValueError('an object has no bndbox with xmin, ymin, xmax and ymax')
        corners.append(numbers)
    if len(classes) > 1:
        raise ValueError(f'it has objects of {sorted(classes)}, and no folder tells the class')
    points = np.array(corners).reshape(-1, 2, 2)
    boxes = np.concatenate([points.min(1), points.max(1) + 1], 1)
    size = [_number(root.findtext(f'size/{key}', '0')) for key in ('width', 'height')]
    if min(size) > 0:
        boxes = boxes.clip(0, size * 2)
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)].astype(np.float32)


def _number(text: str) -> float:
    """A coordinate below 2**24, up to which float32 is exact."""
    value = float(text)
    if not abs(value) < 2**24:
        raise ValueError(f'{text[:50]!r} is no coordinate of a pixel')
    return value


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class CUBBoxes(CUB):
    """CUB-200-2011 with the box of each bird, from ``bounding_boxes.txt``.

    Each line has the image's number, x, y, width and height; the box extends from x to x + width.

    Args:
        subset (str, optional): ``'calibration'``, every fifth image, to choose a threshold on, or
            ``'evaluation'``, the others, to report results on. Default: None, all images.
        **kwargs: Of :class:`mmpretrain.datasets.CUB`.

    Raises:
        DataFolderError: If the file is missing, lacks an image, or has an invalid line.
        ValueError: If there is no such subset.
    """

    @deprecated_api_warning(dict(part='subset'), 'CUBBoxes')
    def __init__(self, *args: Any, subset: str | None = None, **kwargs: Any):
        self.subset = _checked_subset(subset)
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Images, labels and boxes."""
        data_list = _select(super().load_data_list(), self.subset)
        advice = dataset_help(type(self).__name__, self.data_root)
        path = self.backend.join_path(self.data_root, 'bounding_boxes.txt')
        if not self.backend.exists(path):
            raise DataFolderError(f'{path} is missing. {advice}')
        boxes = {}
        try:
            lines = list_from_file(path)
        except UnicodeDecodeError as error:
            raise DataFolderError(f'{path} is not a text file ({error}). {advice}') from error
        for line in lines:
            try:
                number, x, y, width, height = (_number(part) for part in line.split())
            except ValueError:
                raise DataFolderError(
                    f'{path}: the line {line!r} must be: number x y width height. {advice}'
                ) from None
            if width <= 0 or height <= 0:
                raise DataFolderError(f'{path}: the box of line {line!r} has no area. {advice}')
            boxes[int(number) - 1] = np.array([[x, y, x + width, y + height]], np.float32)
        numbers = {
            self.backend.join_path(self.img_prefix, name): number
            for number, name in self._load_data_from_txt(self.ann_file).items()
        }
        for info in data_list:
            number = numbers[info['img_path']]
            if number not in boxes:
                raise DataFolderError(f'{path} has no box of image {number + 1}. {advice}')
            info['gt_bboxes'] = boxes[number]
        return data_list
