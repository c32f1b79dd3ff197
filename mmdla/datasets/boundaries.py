"""BSDS500 and PASCAL Boundaries, for boundary detection."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS

from ..registry import DATASETS
from .folders import DataFolderError, check_pairs, data_infos, dataset_help

SPLITS = {'train': ('train',), 'val': ('val',), 'test': ('test',), 'trainval': ('train', 'val')}


class BoundaryDataset(BaseSegDataset):
    """Images whose annotations are the boundaries that one or several people marked.

    ``seg_map_path`` is what :func:`mmdla.utils.boundaries.read_annotations` reads: training labels come
    from it by ``mmdla.LoadBoundaryAnnotations``, and ``mmdla.BoundaryMetric`` compares with each
    annotator. A subclass has a class method ``pairs`` that finds images and annotations; the tools call
    it too, before anything is built.
    """

    METAINFO = dict(classes=('background', 'boundary'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(self, folders: dict, **kwargs):
        self.folders = folders
        if kwargs.get('ann_file'):
            raise ValueError(
                f'ann_file={kwargs["ann_file"]!r}: {type(self).__name__} is chosen from by split, and '
                'cut short by indices; remove ann_file'
            )
        super().__init__(data_root=folders['data_root'], **kwargs)
        if self.label_map or self.reduce_zero_label:
            raise ValueError(
                f'{type(self).__name__} has the classes {self.METAINFO["classes"]}, in this order and '
                'with label 0: leave metainfo.classes and reduce_zero_label out'
            )

    @classmethod
    def pairs(cls, **folders) -> list[tuple[Path, Path | None]]:
        """Images and annotations, by the arguments of the data set that say where they are."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Images and annotations, split after split, in order of name or of the list."""
        pairs = self.pairs(**self.folders)
        return data_infos(pairs, label_map=self.label_map, reduce_zero_label=self.reduce_zero_label)


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class BSDS500Dataset(BoundaryDataset):
    """BSDS500: 200 training, 100 validation and 200 test images of 481x321 or 321x481.

    As distributed, in ``images/SPLIT/*.jpg`` and ``groundTruth/SPLIT/*.mat``, four to nine annotators
    in each ``.mat``; or with a PNG, or a folder of PNGs, in place of a ``.mat``. An image and its
    annotation have the same stem.

    Args:
        data_root (str, optional): What holds the folders.
        split (str, optional): ``'train'``, ``'val'``, ``'test'`` or ``'trainval'``, the first two.
            Default: none, and ``data_prefix`` says all.
        data_prefix (Mapping[str, str]): Folders below ``data_root``, ``img_path`` and ``seg_map_path``,
            which hold a folder for each split, or, without ``split``, the files. Without
            ``seg_map_path`` there are images only. Default: ``images`` and ``groundTruth``.
        img_suffix (str | Sequence[str]): What image names may end in. Default: ``'.jpg'``.
        seg_map_suffix (str | Sequence[str]): What annotations end in; ``''`` stands for a folder; the
            first that is there is taken. Default: ``('.mat', '.png', '')``.
        **kwargs: Of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        DataFolderError: If a folder is missing, empty, or an image has no annotation.
        ValueError: If ``split`` is something else, or neither it nor ``data_prefix`` is given.

    Source: Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
    PAMI 2011.
    """

    PREFIX = dict(img_path='images', seg_map_path='groundTruth')

    def __init__(
        self,
        data_root: str | None = None,
        split: str | None = None,
        data_prefix: Mapping[str, str] | None = None,
        img_suffix: str | Sequence[str] = '.jpg',
        seg_map_suffix: str | Sequence[str] = ('.mat', '.png', ''),
        **kwargs,
    ):
        folders = dict(
            data_root=data_root,
            split=split,
            data_prefix=data_prefix,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
        )
        super().__init__(
            folders,
            data_prefix=dict(data_prefix or self.PREFIX),
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    @classmethod
    def pairs(
        cls,
        data_root: str | None,
        split: str | None,
        data_prefix: Mapping[str, str] | None,
        img_suffix: str | Sequence[str],
        seg_map_suffix: str | Sequence[str],
    ) -> list[tuple[Path, Path | None]]:
        """Images and annotations of a split; the arguments are the data set's."""
        if split is None and data_prefix is None:
            # All 500 would be trained on, those to test on among them.
            raise ValueError(f'{cls.__name__} needs split, one of {", ".join(SPLITS)}, or data_prefix')
        prefix = data_prefix or cls.PREFIX
        found = []
        for part in ('',) if split is None else _parts(cls, split):
            folders = [
                None if (name := prefix.get(key)) is None else os.path.join(data_root or '', name, part)
                for key in ('img_path', 'seg_map_path')
            ]
            found += check_pairs(
                cls.__name__,
                data_root,
                *folders,
                img_suffix,
                seg_map_suffix,
            )
        return found


@DATASETS.register_module()
@MMSEG_DATASETS.register_module()
class PASCALBoundariesDataset(BoundaryDataset):
    """PASCAL Boundaries: boundaries between things and stuff of 459 classes, in images of VOC 2010.

    How the authors' own files look could not be found out; this reads the lists that the released
    ``boundary.py`` of DLA reads, ``SPLIT_images.txt`` and ``SPLIT_labels.txt`` in ``data_root``: a path
    below it on each line, the same image's on the same line. A label file is a PNG, where what is not 0
    is boundary, a folder of them, one an annotator, or a ``.mat`` as in BSDS500.
    ``tools/dataset_converters/pascal_boundaries.py`` makes this from PASCAL in Detail, or from folders.

    Args:
        data_root (str, optional): What holds the lists, and the files at the listed paths.
        split (str): ``'train'``, ``'val'``, ``'test'`` or ``'trainval'``, which is the first two.
        **kwargs: Of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        DataFolderError: If a list or a file is missing, or lists do not belong together.
        ValueError: If ``split`` is something else.

    Source: Premachandran, Bonev, Lian and Yuille, "PASCAL Boundaries: A Semantic Boundary Dataset with
    a Deep Semantic Boundary Detector", WACV 2017.
    """

    def __init__(self, data_root: str | None = None, split: str = 'train', **kwargs):
        super().__init__(dict(data_root=data_root, split=split), **kwargs)

    @classmethod
    def pairs(cls, data_root: str | None, split: str) -> list[tuple[Path, Path | None]]:
        """Images and annotations of a split; the arguments are the data set's."""
        return [
            pair
            for part in _parts(cls, split)
            for pair in _listed(Path(data_root or ''), part, dataset_help(cls.__name__, data_root))
        ]


def _parts(cls: type, split: str) -> tuple[str, ...]:
    if split not in SPLITS:
        raise ValueError(f'split={split!r} of {cls.__name__} must be one of {", ".join(SPLITS)}')
    return SPLITS[split]


def _lines(path: Path, advice: str) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise DataFolderError(f'The list {path} is no text ({error}). {advice}') from error


def _listed(root: Path, split: str, advice: str) -> list[tuple[Path, Path]]:
    """What the two lists of a split say, if all of it is there."""
    lists = [root / f'{split}_{what}.txt' for what in ('images', 'labels')]
    for path in lists:
        if not path.is_file():
            raise DataFolderError(f'The list {path} is missing. {advice}')
    images, labels = (_lines(path, advice) for path in lists)
    if len(images) != len(labels) or not images:
        raise DataFolderError(
            f'{lists[0]} has {len(images)} lines and {lists[1]} has {len(labels)}: they must have as '
            f'many, one an image. {advice}'
        )
    pairs = []
    for number, names in enumerate(zip(images, labels), 1):
        image, label = (root / name for name in names)
        if image.stem != label.stem:
            raise DataFolderError(
                f'Line {number} of {lists[0]} and {lists[1]}: {names[0]!r} and {names[1]!r} are not of '
                f'the same name. {advice}'
            )
        for path, there in ((image, os.path.isfile(image)), (label, os.path.exists(label))):
            if not there:
                raise DataFolderError(f'{path}, line {number} of a list, is missing. {advice}')
        pairs.append((image, label))
    return pairs
