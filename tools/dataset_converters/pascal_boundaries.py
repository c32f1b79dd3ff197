"""Boundaries in PASCAL VOC's images, as `mmdla.PASCALBoundariesDataset` reads them.

From the annotations of PASCAL in Detail, a JSON file, and the JPEGImages of VOC 2010:
    python tools/dataset_converters/pascal_boundaries.py JSON IMAGES [ROOT]
or from a folder with NAME.mat as in BSDS500, NAME.png where what is not 0 is boundary, or NAME/*.png,
one an annotator, and files that list the names of each split, one a line:
    python tools/dataset_converters/pascal_boundaries.py FOLDER IMAGES [ROOT] --split train LIST ...

ROOT must not be there yet; it appears when all is done.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.datasets.folders import new_folder
from mmdla.io.boundary_files import read_annotations
from mmdla.io.images import read_image

SPLITS = ('train', 'val', 'test')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'annotations', type=Path, help='JSON file of PASCAL in Detail, or folder of annotations'
    )
    parser.add_argument('images', type=Path, help='folder of NAME.jpg')
    parser.add_argument(
        'root', nargs='?', type=Path, default=Path('data/pascal_boundaries'), help='folder to make'
    )
    parser.add_argument(
        '--split',
        nargs=2,
        action='append',
        default=[],
        metavar=('SPLIT', 'LIST'),
        help=f'a split ({", ".join(SPLITS)}) and the file that lists its names; for a folder',
    )
    args = parser.parse_args()
    try:
        splits, read = (from_folder if args.annotations.is_dir() else from_json)(
            args.annotations, args.split
        )
        with new_folder(args.root) as folder:
            for split, names in splits.items():
                write(split, names, read, args.images, folder)
    except (OSError, ValueError) as error:
        sys.exit(f'pascal_boundaries: {error}')
    print(f'Ready: {args.root} ({", ".join(f"{s}: {len(n)} images" for s, n in splits.items())})')


def from_folder(annotations: Path, lists: list) -> tuple[dict[str, list[str]], Callable]:
    """Names by split, and what reads an annotation by name and image size."""
    if not lists:
        raise ValueError(f'{annotations} is a folder: say what is in which split by --split SPLIT LIST')
    splits = {}
    for split, path in lists:
        if split not in SPLITS or split in splits:
            raise ValueError(f'--split {split} must be one of {", ".join(SPLITS)}, each once')
        try:
            splits[split] = Path(path).read_text().split()
        except UnicodeDecodeError as error:
            raise ValueError(f'--split {split} {path} is no text: {error}') from error
        _check_names(splits[split], path)

    def read(name: str, size: tuple[int, int]) -> np.ndarray:
        for path in (annotations / f'{name}.mat', annotations / f'{name}.png', annotations / name):
            if path.exists():
                return read_annotations(path)
        raise FileNotFoundError(f'{annotations} has no {name}.mat, {name}.png or folder {name}')

    return splits, read


def from_json(path: Path, lists: list) -> tuple[dict[str, list[str]], Callable]:
    """Names by split, and what reads an annotation by name and image size."""
    if lists:
        raise ValueError(f'--split is for a folder; {path} says itself what is in which split')
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not readable as JSON: {error}') from error
    try:
        masks = {a['image_id']: a['boundary_mask'] for a in data['annos_boundary']}
        images = {
            Path(i['file_name']).stem: (i['phase'], i['image_id'])
            for i in data['images']
            if i['image_id'] in masks
        }
        splits: dict[str, list[str]] = {}
        for name, (split, _) in sorted(images.items()):
            splits.setdefault(split, []).append(name)
    except KeyError as error:
        raise ValueError(
            f'{path} is not of PASCAL in Detail: must have images and annos_boundary, but lacks {error}'
        ) from error
    except TypeError as error:
        raise ValueError(
            f'{path} is not of PASCAL in Detail: must have lists of images and annos_boundary with '
            f'names, phases and numbers, but {error}'
        ) from error
    if len(images) < len(data['images']):
        print(f'{len(data["images"]) - len(images)} images of {path} have no boundaries: left out')
    if not splits or not set(splits) <= set(SPLITS):
        raise ValueError(
            f'{path} has boundaries of phases {sorted(map(str, splits))}: must be of '
            f'{", ".join(SPLITS)}'
        )
    for names in splits.values():
        _check_names(names, path)

    def read(name: str, size: tuple[int, int]) -> np.ndarray:
        mask = masks[images[name][1]]
        try:
            if list(mask['size']) != list(size):
                raise ValueError(f'its size is {str(mask["size"])[:50]}, that of its image {size}')
            return decode_rle(mask['counts'], size)[None]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{path}: the boundary_mask of {name} is not run-length code: {error}'
            ) from error

    return splits, read


def _check_names(names: list[str], source: str | Path) -> None:
    if not names:
        raise ValueError(f'{source} names no image')
    for name in names:
        # What does not print would break a line of the lists that are written.
        if name != Path(name).name or name.startswith('.') or not name or not name.isprintable():
            raise ValueError(f'{source}: {name!r} must be a name without folder and suffix')
    if len(set(names)) < len(names):
        raise ValueError(f'{source} has the name {max(names, key=names.count)!r} twice')


def decode_rle(counts: str | list[int], size: tuple[int, int]) -> np.ndarray:
    """A mask in the run-length code of COCO.

    Args:
        counts (str | list[int]): Lengths of runs of 0 and 1 in turn, down the columns: as numbers, or
            as text. There a number is written in groups of five bits, lowest first, each in a character
            from code 48 on, with bit 5 set if more follow, in two's complement; from the fourth on it
            is the difference to the run before the last.
        size (tuple[int, int]): Height and width.

    Returns:
        np.ndarray: Booleans of shape ``size``.

    Raises:
        ValueError: If the runs do not fill the mask.
    """
    runs = list(counts) if not isinstance(counts, (str, bytes)) else _runs(counts)
    if any(type(run) is not int for run in runs):
        raise ValueError('runs must be whole numbers')
    height, width = size
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        total = sum(runs)
        told = str(total) if abs(total) < 10**18 else '10**18 or more'
        raise ValueError(f'runs of {told} pixels in all, for {height}x{width}')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs(text: str | bytes) -> list[int]:
    text = text.encode('ascii') if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in text:
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError(f'character {code} is none of the code')
        if shift > 60:
            raise ValueError('it has a number of more than 60 bits')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError('it is cut off')
    return runs


def write(split: str, names: list[str], read: Callable, images: Path, folder: Path) -> None:
    """Write images, annotations and the lists of a split."""
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(exist_ok=True)
    lines: dict[str, list[str]] = dict(images=[], labels=[])
    for name in track_iter_progress(names):
        source, target = images / f'{name}.jpg', folder / f'images/{name}.jpg'
        if not source.is_file():
            raise FileNotFoundError(f'{source} is missing')
        size = read_image(source).shape[:2]
        marked = read(name, size)
        if size != marked.shape[1:]:
            raise ValueError(
                f'the annotation of {name} is of size {marked.shape[1:]}, its image {source} of '
                f'size {size}: must be the same'
            )
        if target.exists():
            raise ValueError(f'{name} is in two splits')
        shutil.copyfile(source, target)
        label = f'labels/{name}.png' if len(marked) == 1 else f'labels/{name}'
        if len(marked) > 1:
            (folder / label).mkdir()
        for number, one in enumerate(marked, 1):
            path = folder / label if len(marked) == 1 else folder / label / f'{number}.png'
            cv2.imwrite(str(path), one.astype(np.uint8) * 255)
        lines['images'].append(f'images/{name}.jpg')
        lines['labels'].append(label)
    for kind, paths in lines.items():
        (folder / f'{split}_{kind}.txt').write_text('\n'.join(paths) + '\n')


if __name__ == '__main__':
    main()
