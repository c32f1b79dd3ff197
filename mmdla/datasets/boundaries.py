"""BSDS500 and PASCAL Boundaries, for boundary detection."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS

from ..registry import DATASETS
from .folders import DataFolderError, read_list
from .paired import PairedFilesMixin

SPLITS = {'train': ('train',), 'val': ('val',), 'test': ('test',), 'trainval': ('train', 'val')}


class BoundaryDataset(PairedFilesMixin, BaseSegDataset):
    """Images with boundaries that one or several annotators marked.

    :func:`mmdla.io.boundary_files.read_annotations` reads the file in ``seg_map_path``.
    ``mmdla.LoadBoundaryAnnotations`` makes training labels from it, and ``mmdla.BoundaryMetric``
    compares predictions with each annotator.

    Args:
        split (str, optional): A key of ``SPLITS``. Default: None.
        img_suffix (str | Sequence[str]): Suffixes of images. Default: ``('.jpg', '.jpeg', '.png')``.
        seg_map_suffix (str | Sequence[str]): Suffixes of annotations; ``''`` stands for a folder. The
            first with an existing file is used. Default: ``('.mat', '.png', '')``.
        **kwargs: Of :class:`mmseg.datasets.BaseSegDataset`.
    """

    METAINFO = dict(classes=('background', 'boundary'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(
        self,
        split: str | None = None,
        img_suffix: str | Sequence[str] = ('.jpg', '.jpeg', '.png'),
        seg_map_suffix: str | Sequence[str] = ('.mat', '.png', ''),
        **kwargs: Any,
    ):
        if split is not None and split not in SPLITS:
            raise ValueError(
                f'split={split!r} of {type(self).__name__} must be one of {", ".join(SPLITS)}'
            )
        self.split = split
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
        if self.label_map or self.reduce_zero_label:
            raise ValueError(
                f'{type(self).__name__} has the classes {self.METAINFO["classes"]}, in this order and '
                'with label 0: leave metainfo.classes and reduce_zero_label out'
            )


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class BSDS500Dataset(BoundaryDataset):
    """BSDS500: 200 training, 100 validation and 200 test images of 481x321 or 321x481.

    The files are, as distributed, ``images/SPLIT/*.jpg`` and ``groundTruth/SPLIT/*.mat`` with four to
    nine annotators each. A PNG or a folder of PNGs may replace a ``.mat``. An image and its annotation
    have the same stem. See :class:`~mmdla.datasets.paired.PairedFilesMixin` for lists, links
    and suffixes.

    Args:
        data_root (str, optional): Folder of the data set.
        split (str, optional): ``'train'``, ``'val'``, ``'test'`` or ``'trainval'``, the first two.
            Default: None; then ``data_prefix`` or ``ann_file`` must select the images.
        data_prefix (Mapping[str, str]): Folders ``img_path`` and ``seg_map_path`` below ``data_root``,
            which hold a folder for each split or, without ``split``, the files. Without
            ``seg_map_path`` the images have no annotations. Default: ``images`` and ``groundTruth``.
        **kwargs: Of :class:`BoundaryDataset`. ``ann_file`` has names of images of the split.

    Raises:
        DataFolderError: If there is no image, or one that ``ann_file`` names is missing.
        ValueError: If ``split`` is unknown, or none of the three arguments selects the images.

    Source: Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
    PAMI 2011.
    """

    def __init__(
        self,
        data_root: str | None = None,
        split: str | None = None,
        data_prefix: dict | None = None,
        **kwargs: Any,
    ):
        if not (split or data_prefix or kwargs.get('ann_file')):
            # Otherwise all 500 images, including the test images, would be used for training.
            raise ValueError(
                f'{type(self).__name__} needs split ({", ".join(SPLITS)}), data_prefix or ann_file'
            )
        prefix = dict(data_prefix or dict(img_path='images', seg_map_path='groundTruth'))
        super().__init__(split, data_root=data_root, data_prefix=prefix, **kwargs)

    def folders(self) -> list[tuple[str, str | None]]:
        """Folders of each split."""
        (images, labels), *_ = super().folders()
        return [
            (os.path.join(images, part), None if labels is None else os.path.join(labels, part))
            for part in SPLITS.get(self.split or '', ('',))
        ]


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class PASCALBoundariesDataset(BoundaryDataset):
    """PASCAL Boundaries: boundaries between things and stuff of 459 classes, in images of VOC 2010.

    The format of the authors' own files is not known. This class reads the lists of DLA's released
    ``boundary.py``, ``SPLIT_images.txt`` and ``SPLIT_labels.txt`` in ``data_root``. Each line is a path
    below it; the same line of both lists belongs to the same image. Without a list of labels, the
    images have no annotations. A label file is a PNG in which every value but 0 is boundary, a folder
    with a PNG for each annotator, or a ``.mat`` as in BSDS500.
    ``tools/dataset_converters/pascal_boundaries.py`` makes the lists from PASCAL in Detail or folders.

    Args:
        data_root (str, optional): Folder of the lists, to which their paths are relative.
        split (str, optional): ``'train'``, ``'val'``, ``'test'`` or ``'trainval'``, which is the first
            two. Default: ``'train'``, if neither ``ann_file`` nor ``data_prefix`` is given.
        data_prefix (Mapping[str, str]): Folders ``img_path`` and ``seg_map_path`` below ``data_root``,
            where image and label have the same stem, as in mmseg. Default: ``images`` and ``labels``,
            for the names in ``ann_file``.
        **kwargs: Of :class:`BoundaryDataset`.

    Raises:
        DataFolderError: If a list or an image is missing, or the lists differ in length.
        ValueError: If ``split`` is unknown, or used together with ``ann_file`` or ``data_prefix``.

    Source: Premachandran, Bonev, Lian and Yuille, "PASCAL Boundaries: A Semantic Boundary Dataset with
    a Deep Semantic Boundary Detector", WACV 2017.
    """

    def __init__(
        self,
        data_root: str | None = None,
        split: str | None = None,
        data_prefix: dict | None = None,
        **kwargs: Any,
    ):
        by_stem = bool(data_prefix or kwargs.get('ann_file'))
        if by_stem and split:
            raise ValueError(
                f'split={split!r} of {type(self).__name__} reads {split}_images.txt; leave it out, '
                'since ann_file or data_prefix says which images'
            )
        prefix = dict(data_prefix or dict(img_path='images', seg_map_path='labels'))
        split = split if by_stem else split or 'train'
        super().__init__(split, data_root=data_root, data_prefix=prefix, **kwargs)

    def find_pairs(self) -> list[tuple[str, str | None]]:
        """Images and annotations of the split's lists."""
        if self.split is None:
            return super().find_pairs()
        return [pair for part in SPLITS[self.split] for pair in self._listed(part)]

    def _listed(self, split: str) -> list[tuple[str, str | None]]:
        root = Path(self.data_root or '')
        images_list, labels_list = (str(root / f'{split}_{what}.txt') for what in ('images', 'labels'))
        images = read_list(images_list, self.help())
        if not os.path.exists(labels_list):
            return [(str(root / image), None) for image in images]
        labels = read_list(labels_list, self.help())
        if len(images) != len(labels):
            raise DataFolderError(
                f'{images_list} has {len(images)} lines and {labels_list} has {len(labels)}: they must '
                f'have the same number, one line for each image. {self.help()}'
            )
        differing = [
            f'{image!r} and {label!r}'
            for image, label in zip(images, labels)
            if Path(image).stem not in Path(label).name
        ]
        if differing:
            warnings.warn(
                f'{images_list} and {labels_list} have different names on {len(differing)} of '
                f'{len(images)} lines, which are paired all the same; the first: {differing[0]}',
                stacklevel=2,
            )
        return [(str(root / image), str(root / label)) for image, label in zip(images, labels)]
