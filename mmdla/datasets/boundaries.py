"""BSDS500, PASCAL Boundaries, and data sets of boundaries that come as lists of pairs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
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


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class BoundaryPairsDataset(BoundaryDataset):
    """Images and annotations that a list names in pairs, as data of boundary detectors are distributed.

    A line of the list is ``IMAGE ANNOTATION``, both below ``data_root``, or ``IMAGE`` alone:

    .. code-block:: text

        train/aug_data/0.0_1_0/100075.jpg train/aug_gt/0.0_1_0/100075.png

    So are HED's augmented BSDS500 and PASCAL-Context (``train_pair.lst``), NYUDv2 (``image-train.lst``,
    ``hha-train.lst``), and what ``tools/dataset_converters/boundary_pairs.py`` writes. Without a list
    images and annotations of the same stem are in folders, as BIPED's are. Several data sets, with
    ratios, are mmengine's ``ConcatDataset`` of ``RepeatDataset``.

    Args:
        data_root (str, optional): What the paths in the list begin at.
        ann_file (str): The list, below ``data_root``; ``''`` for folders. Default: ``''``.
        data_prefix (Mapping[str, str]): Folders below ``data_root``. Beside a list, ``img_path`` is
            what its images are below, and ``seg_map_path`` holds the annotation ``STEM.mat``,
            ``STEM.png`` or ``STEM/*.png`` of an image that is alone on its line, as test images often
            are. Default: none; then images are below ``data_root``, and those alone have no annotation.
        **kwargs: Of :class:`BoundaryDataset`.

    Raises:
        DataFolderError: If the list or an image is missing, or a line is not as said here.
        ValueError: If neither ``ann_file`` nor ``data_prefix`` says which images.

    Source: Xie and Tu, "Holistically-Nested Edge Detection", ICCV 2015, released data.
    """

    def __init__(
        self,
        data_root: str | None = None,
        ann_file: str = '',
        data_prefix: Mapping[str, str] | None = None,
        **kwargs: Any,
    ):
        if not (ann_file or data_prefix):
            raise ValueError(f'{type(self).__name__} needs ann_file, as train_pair.lst, or data_prefix')
        prefix = {'img_path': '', **(data_prefix or {})}
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=prefix, **kwargs)

    def find_pairs(self) -> list[tuple[str, str | None]]:
        """Images and annotations in order of the list, or of name."""
        if not self.ann_file:
            return super().find_pairs()
        images, folder = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        pairs: list[tuple[str, str | None]] = []
        for line in read_list(self.ann_file, self.help(), self.backend_args):
            image, *labels = line.split()
            if len(labels) > 1:
                raise DataFolderError(
                    f'{self.ann_file}: the line {line!r} must be IMAGE ANNOTATION, or IMAGE alone, '
                    f'neither with a space. {self.help()}'
                )
            label = os.path.join(self.data_root or '', labels[0]) if labels else None
            if label is None and folder is not None:
                label = self._find_annotation(os.path.join(folder, Path(image).stem))
            pairs.append((os.path.join(images, image), label))
        return pairs

    def _find_annotation(self, stem: str) -> str:
        """What is there of the suffixes that annotations have; the first of them if nothing is."""
        names = [stem + suffix for suffix in self.seg_map_suffix]
        return next((name for name in names if not self._missing([name])), names[0])
