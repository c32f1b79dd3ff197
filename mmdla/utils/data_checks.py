"""Is the data there, and whole? Asked before training starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from mmengine.registry import Registry

from ..datasets.folders import KNOWN, DataFolderError, check_pairs, dataset_help

# Files and folders below the root, of the data sets that need more than class folders.
NEEDED = {
    'CUB': ('images', 'images.txt', 'image_class_labels.txt', 'train_test_split.txt'),
    'ImageNetBoxes': ('{boxes}',),
    'FGVCAircraft': ('data/images', 'data/images_variant_{split}.txt'),
    'Food101': ('images', 'meta/{split}.txt'),
}
NEEDED['CUBBoxes'] = (*NEEDED['CUB'], 'bounding_boxes.txt')


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
    advice = dataset_help(cls.__name__, root)
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
