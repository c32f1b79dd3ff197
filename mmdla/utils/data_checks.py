"""Is the data there, and whole? Asked before training starts."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from mmengine.registry import Registry

GUIDE = 'docs/data.md'
# Variable that sets each data set's root, and what its root holds.
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
}
# Files and folders below the root, of the data sets that need more than class folders.
NEEDED = {
    'CUB': ('images', 'images.txt', 'image_class_labels.txt', 'train_test_split.txt'),
    'ImageNetBoxes': ('{boxes}',),
    'FGVCAircraft': ('data/images', 'data/images_variant_{split}.txt'),
    'Food101': ('images', 'meta/{split}.txt'),
}
NEEDED['CUBBoxes'] = (*NEEDED['CUB'], 'bounding_boxes.txt')


class DataFolderError(FileNotFoundError):
    """A data set's folder is missing or incomplete; the message says how to mend it."""


def holds_something(path: str | os.PathLike) -> bool:
    """Whether there is a file, or a folder that is not empty."""
    path = Path(path)
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


@contextmanager
def new_folder(root: str | os.PathLike) -> Iterator[Path]:
    """A folder to fill, which becomes ``root`` when that is done, and is removed if it fails.

    Args:
        root (str | PathLike): Must not be there, or be an empty folder.

    Yields:
        Path: An empty folder beside ``root``.

    Raises:
        DataFolderError: If there is something already.
    """
    root = Path(root)

    def check() -> None:
        if holds_something(root):
            raise DataFolderError(f'{root} is there already: move it away, or name another folder')

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


def advice_on(dataset: str, data_root: str | None) -> str:
    """What a data set reads from where, and how to get it: the end of every message."""
    variable, holds = KNOWN.get(dataset, (None, None))
    advice = f'{dataset} reads data_root={data_root!r}'
    if variable:
        advice += f', which holds {holds}; set {variable} to the folder that does'
    return f'{advice}. How to get the data: {GUIDE}.'


def check_pairs(
    dataset: str,
    data_root: str | None,
    img_dir: str | os.PathLike,
    ann_dir: str | os.PathLike | None,
    img_suffix: str | Sequence[str],
    ann_suffix: str | Sequence[str],
) -> list[tuple[Path, Path | None]]:
    """Images of a folder with their label maps.

    Args:
        dataset (str): Name of the data set's class.
        data_root (str, optional): Its root, for the message.
        img_dir (str | PathLike): Folder of the images, searched recursively.
        ann_dir (str | PathLike, optional): Folder of the labels, built alike; none to not ask for any.
        img_suffix (str | Sequence[str]): What image names end in.
        ann_suffix (str | Sequence[str]): What takes the suffix's place in the name of a label map; of
            several the first that is there. ``''`` stands for a folder.

    Returns:
        list[tuple[Path, Path | None]]: In order of name.

    Raises:
        DataFolderError: If a folder is missing, holds no image, or an image has no label map.
    """
    img_suffixes = (img_suffix,) if isinstance(img_suffix, str) else img_suffix
    advice = advice_on(dataset, data_root)
    for folder, what in ((img_dir, 'images'), (ann_dir, 'labels')):
        if folder is not None and not Path(folder).is_dir():
            raise DataFolderError(f'The folder of {what} is missing: {folder}. {advice}')
    images = {}
    for path in sorted(Path(img_dir).rglob('*')):
        # Hidden files (`._a.png`) are not the data set's; mmseg passes them over too.
        hidden = path.name.startswith('.')
        suffix = next((s for s in img_suffixes if not hidden and path.name.endswith(s)), None)
        if suffix:
            stem = path.relative_to(img_dir).as_posix()[: -len(suffix)]
            if stem in images:
                raise DataFolderError(
                    f'{images[stem]} and {path} are the same image twice: keep one. {advice}'
                )
            images[stem] = path
    if not images:
        raise DataFolderError(
            f'The folder of images holds none ending in {" or ".join(img_suffixes)}: {img_dir}. '
            f'{advice}'
        )
    if ann_dir is None:
        return [(path, None) for path in images.values()]
    suffixes = (ann_suffix,) if isinstance(ann_suffix, str) else ann_suffix
    pairs, lacking = [], []
    for stem, path in images.items():
        candidates = [Path(ann_dir) / (stem + suffix) for suffix in suffixes]
        there = (c for c, s in zip(candidates, suffixes) if (c.is_file() if s else c.is_dir()))
        labels = next(there, None)
        pairs.append((path, labels or candidates[0]))
        if labels is None:
            lacking.append(path)
    if lacking:
        first = dict(pairs)[lacking[0]]
        raise DataFolderError(
            f'{len(lacking)} of {len(pairs)} images in {img_dir} have no label map; the first: {first} '
            f'is missing. {advice}'
        )
    return pairs


def data_infos(pairs: Sequence[tuple[Path, Path | None]], **common) -> list[dict]:
    """What mmseg's data sets keep of each image: its path, that of its labels, and what all share."""
    return [
        dict(img_path=str(image), seg_fields=[], **common)
        | ({} if labels is None else dict(seg_map_path=str(labels)))
        for image, labels in pairs
    ]


def check_config(cfg, splits: Sequence[str] = ('train', 'val')) -> None:
    """Check the folders of a config's mmseg and mmpretrain data sets, wrapped ones included.

    Data sets that lie elsewhere than on this file system are theirs to check; so are those of mmseg
    that come from a list file, and those that generate what they lack.

    Args:
        cfg (Config): The whole config.
        splits (Sequence[str]): Which data loaders. Default: train and val.

    Raises:
        DataFolderError: For the first folder that is missing or incomplete, or if the folders are the
            classes and differ between splits, or are more than the network has outputs.
    """
    check = _check_images if cfg.get('default_scope') == 'mmpretrain' else _check_maps
    classes: dict[str, set[str]] = {}
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in _leaves(loader['dataset']) if loader else ():
            found = check(dataset)
            if found:
                classes.setdefault(split, set()).update(found)
    for a, b in pairwise(classes):
        # The number of a class is its folder's place among them.
        different = classes[a] ^ classes[b]
        if different:
            raise DataFolderError(
                f'{a} and {b} data have different class folders: {sorted(different)} only in one of '
                'them; make empty folders for classes without images'
            )
    head = cfg.get('model', {}).get('head')
    outputs = head.get('num_classes') if isinstance(head, dict) else None
    for split, names in classes.items():
        if outputs is not None and len(names) > outputs:
            raise DataFolderError(
                f'{split} data have {len(names)} class folders, but model.head.num_classes is '
                f'{outputs}: must be as many'
            )


def _leaves(dataset) -> list[dict]:
    inner = dataset.get('dataset') or dataset.get('datasets')
    if inner is None:
        return [dataset]
    inner = inner if isinstance(inner, (list, tuple)) else [inner]
    return [leaf for d in inner for leaf in _leaves(d)]


def _class_of(dataset: dict, registry: Registry, base: type) -> type | None:
    """The class of a data set, if it is one of a library's."""
    kind = dataset['type']
    cls = registry.get(kind) if isinstance(kind, str) else kind
    return cls if isinstance(cls, type) and issubclass(cls, base) else None


def _check_maps(dataset: dict) -> None:
    """Check a data set of mmseg."""
    prefix = dataset.get('data_prefix')
    by_folder = isinstance(prefix, dict) and 'img_path' in prefix
    if not (by_folder or 'split' in dataset) or find_spec('mmseg') is None:
        return
    if dataset.get('ann_file') or dataset.get('backend_args'):
        return
    from mmseg.datasets import BaseSegDataset
    from mmseg.registry import DATASETS

    cls = _class_of(dataset, DATASETS, BaseSegDataset)
    if cls is None or getattr(cls, 'generates', False):
        return
    find = getattr(cls, 'pairs', None)
    if find is not None:
        find(**{name: _argument(dataset, cls, name) for name in inspect.signature(find).parameters})
        return
    if not by_folder:
        return
    img_suffix, ann_suffix = (_argument(dataset, cls, k) for k in ('img_suffix', 'seg_map_suffix'))
    if img_suffix is None or ann_suffix is None:
        return
    root = dataset.get('data_root') or ''

    def join(part: str | None) -> str | None:
        return None if part is None else os.path.join(root, part)

    check_pairs(
        cls.__name__,
        dataset.get('data_root'),
        join(prefix['img_path']),
        join(prefix.get('seg_map_path')),
        (img_suffix,) if isinstance(img_suffix, str) else img_suffix,
        ann_suffix,
    )


def _check_images(dataset: dict) -> set[str]:
    """Check a data set of mmpretrain; its class folders, if it goes by these."""
    from mmpretrain.datasets import BaseDataset, CustomDataset
    from mmpretrain.registry import DATASETS

    cls = _class_of(dataset, DATASETS, BaseDataset)
    root = dataset.get('data_root')
    by_folder = cls is not None and issubclass(cls, CustomDataset)
    # Others may download what they lack.
    checked = by_folder or (cls is not None and cls.__name__ in KNOWN)
    if not checked or not root or '://' in root:
        return set()
    advice = advice_on(cls.__name__, root)
    split, prefix = dataset.get('split'), dataset.get('data_prefix')
    folder = Path(root)
    if by_folder:
        folder /= (prefix.get('img_path', '') if isinstance(prefix, dict) else prefix) or split or ''
    boxes = dataset.get('box_prefix') or f'Annotations/CLS-LOC/{split or "val"}'
    needed = (name.format(split=split, boxes=boxes) for name in NEEDED.get(cls.__name__, ()))
    wanted = [folder, *(Path(root, name) for name in needed)]
    for path in wanted:
        if not path.exists():
            raise DataFolderError(f'{path} is missing. {advice}')
    listed = dataset.get('ann_file') or Path(root, 'meta', f'{split}.txt').is_file()
    if not by_folder or listed or not dataset.get('with_label', True):
        return set()
    classes = {entry.name for entry in os.scandir(folder) if entry.is_dir()}
    if not classes:
        raise DataFolderError(f'{folder} holds no folders of classes. {advice}')
    hidden = sorted(name for name in classes if name.startswith('.'))
    if hidden:
        raise DataFolderError(f'{folder} holds {hidden}, which would be taken for classes: remove them')
    return classes


def _argument(dataset: dict, cls: type, name: str):
    """What a data set's class will take an argument to be: the config's, or the nearest default."""
    if name in dataset:
        return dataset[name]
    for base in cls.__mro__:
        parameter = inspect.signature(base.__init__).parameters.get(name)
        if parameter is not None and parameter.default is not inspect.Parameter.empty:
            return parameter.default
    return None
