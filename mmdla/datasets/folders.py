"""Folders of data sets: where known data sets are expected, lists of files, new folders."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mmengine import fileio

from ..io.files import is_nonempty

GUIDE = 'docs/data.md'
# Environment variable with the root of each known data set, and the content of the root.
KNOWN = {
    'ImageNet': (
        'IMAGENET_ROOT',
        'train/CLASS/*.JPEG, and val/CLASS/*.JPEG or val/*.JPEG with meta/val.txt',
    ),
    'CustomDataset': (
        'FOLDER_ROOT (CIFAR10_FOLDER_ROOT for the CIFAR-10 configs)',
        'train/CLASS/*.jpg and val/CLASS/*.jpg (test/CLASS/*.jpg for CIFAR-10)',
    ),
    'CUB': (
        'CUB200_ROOT',
        'images/, images.txt, image_class_labels.txt and train_test_split.txt',
    ),
    'ImageNetBoxes': (
        'IMAGENET_ROOT',
        'train/CLASS/*.JPEG, val/CLASS/*.JPEG (or val/*.JPEG with meta/val.txt), and '
        'Annotations/CLS-LOC/train/CLASS/*.xml, Annotations/CLS-LOC/val/*.xml',
    ),
    'CUBBoxes': (
        'CUB200_ROOT',
        'images/, images.txt, image_class_labels.txt, train_test_split.txt and bounding_boxes.txt',
    ),
    'StanfordCars': (
        'STANFORD_CARS_ROOT',
        'car_ims/ and cars_annos.mat, or cars_train/, cars_test/ and devkit/ with '
        'cars_test_annos_withlabels.mat',
    ),
    'FGVCAircraft': (
        'FGVC_AIRCRAFT_ROOT',
        'data/images/ and data/images_variant_{trainval,test}.txt',
    ),
    'Food101': ('FOOD101_ROOT', 'images/CLASS/*.jpg and meta/{train,test}.txt'),
    'CityscapesDataset': (
        'CITYSCAPES_ROOT',
        'leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and '
        'gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png',
    ),
    'CamVidDataset': (
        'CAMVID_ROOT',
        '{train,val,test}/*.png (or .jpg) and {train,val,test}annot/*.png',
    ),
    'BSDS500Dataset': (
        'BSDS500_ROOT',
        'images/{train,val,test}/*.jpg and groundTruth/{train,val,test}/*.mat',
    ),
    'PASCALBoundariesDataset': (
        'PASCAL_BOUNDARIES_ROOT',
        '{train,val}_images.txt, {train,val}_labels.txt and the files that they list',
    ),
    'BoundaryPairsDataset': (
        'HED_BSDS_ROOT, PASCAL_CONTEXT_BOUNDARIES_ROOT, NYUDV2_BOUNDARIES_ROOT, BIPED_ROOT or '
        'MULTICUE_ROOT, by the config,',
        'the list ann_file and the files that it names',
    ),
    'BDD100KDataset': (
        'BDD100K_ROOT',
        'images/10k/{train,val}/*.jpg and labels/sem_seg/masks/{train,val}/*.png',
    ),
}


class DataFolderError(FileNotFoundError):
    """A data set's folder is missing or incomplete; the message says what to do."""


@contextmanager
def new_folder(root: str | os.PathLike) -> Iterator[Path]:
    """A new folder to fill: it is renamed to ``root`` when complete, and removed after an error.

    Args:
        root (str | PathLike): Must not exist, or be an empty folder.

    Yields:
        Path: An empty folder beside ``root``.

    Raises:
        DataFolderError: If ``root`` holds something already.
    """
    root = Path(root)

    def check() -> None:
        if is_nonempty(root):
            raise DataFolderError(f'{root} exists already: move it away, or choose another folder')

    check()
    root.parent.mkdir(parents=True, exist_ok=True)
    parts = Path(tempfile.mkdtemp(prefix=f'{root.name}.part-', dir=root.parent))
    try:
        yield parts
        parts.chmod(0o755)
        check()
        parts.rename(root)  # takes an empty folder's place, too
    except BaseException:
        shutil.rmtree(parts, ignore_errors=True)
        raise


def dataset_help(dataset: str, data_root: str | None) -> str:
    """Where a data set is read from and how to get it, for the end of messages."""
    variable, holds = KNOWN.get(dataset, (None, None))
    advice = f'{dataset} reads data_root={data_root!r}'
    if variable:
        advice += f', which holds {holds}; set {variable} to the folder that does'
    return f'{advice}. How to get the data: {GUIDE}.'


def read_list(path: str, advice: str, backend_args: dict | None = None) -> list[str]:
    """Read names from a list, one on each line; CRLF, backslashes and empty lines are allowed.

    Args:
        path (str): The list, in UTF-8, or in UTF-16 with its byte order mark.
        advice (str): End of error messages.
        backend_args (dict, optional): Of mmengine's file backend. Default: None.

    Raises:
        DataFolderError: If there is no such file, or it is not text.
    """
    if not fileio.isfile(path, backend_args=backend_args):
        raise DataFolderError(f'The list {path} is missing. {advice}')
    content = fileio.get(path, backend_args=backend_args)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode('utf-16' if utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise DataFolderError(f'The list {path} is no text in UTF-8 ({error}). {advice}') from error
    names = (line.strip().replace('\\', '/') for line in text.splitlines())
    return [str(PurePosixPath(name)) for name in names if name]
