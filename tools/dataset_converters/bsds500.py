"""BSDS500 as this project reads it: `python tools/dataset_converters/bsds500.py SOURCE [ROOT]`.

SOURCE is BSR_bsds500.tgz or the folder unpacked from it. Its images and annotations are copied, and
every annotation is read. ROOT must not be there yet; it appears when all is done.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.datasets.folders import new_folder
from mmdla.io.boundary_files import read_annotations
from mmdla.io.images import read_image

WHOLE = dict(train=200, val=100, test=200)
SPLIT = f'({"|".join(WHOLE)})'
WANTED = re.compile(rf'(^|/)(images/{SPLIT}/[^/.][^/]*\.jpg|groundTruth/{SPLIT}/[^/.][^/]*\.mat)$')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='BSR_bsds500.tgz, or the folder unpacked from it')
    parser.add_argument(
        'root', nargs='?', type=Path, default=Path('data/BSDS500'), help='folder to make'
    )
    parser.add_argument(
        '--png',
        action='store_true',
        help='groundTruth/SPLIT/NAME/ANNOTATOR.png in place of groundTruth/SPLIT/NAME.mat',
    )
    args = parser.parse_args()
    try:
        with new_folder(args.root) as folder:
            if args.source.is_dir():
                copy_folder(args.source, folder)
            else:
                unpack(args.source, folder)
            report = check(folder, args.png)
    except (OSError, ValueError) as error:
        sys.exit(f'bsds500: {error}')
    print(report)
    print(f'Ready: {args.root}')


def copy_folder(source: Path, folder: Path) -> None:
    """Copy the images and annotations that lie anywhere below a folder."""
    files = sorted(p for p in source.rglob('*') if p.is_file())
    copy_wanted({p.relative_to(source).as_posix(): p for p in files}, shutil.copyfile, source, folder)


def unpack(source: Path, folder: Path) -> None:
    """Copy the images and annotations out of an archive, under names of the tool's own.

    Raises:
        ValueError: If it is none, Python's tarfile cannot read it, or one of them is a link.
    """
    try:
        with tarfile.open(source) as archive:
            members = {member.name: member for member in archive}
            links = [name for name, m in members.items() if WANTED.search(name) and not m.isfile()]
            if links:
                raise ValueError(f'{source} has {links[0]!r}, which is no file: use it as distributed')

            def write(member: tarfile.TarInfo, path: Path) -> None:
                with archive.extractfile(member) as content, path.open('wb') as file:
                    shutil.copyfileobj(content, file)

            copy_wanted(members, write, source, folder)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if getattr(error, 'errno', None) is not None:  # of the system, not of a decompressor
            raise
        raise ValueError(f'{source}: tarfile cannot read it: {error}') from error


def copy_wanted(files: dict, write: Callable, source: Path, folder: Path) -> None:
    """Write those of the files, by path, that are images or annotations."""
    found: dict = {}
    for name, file in files.items():
        match = WANTED.search(name)
        if match and found.setdefault(match[2], file) is not file:
            raise ValueError(
                f'{source} has {match[2]} twice, the second time as {name}: name one data set'
            )
    if not found:
        raise ValueError(
            f'{source} has no images/SPLIT/*.jpg and groundTruth/SPLIT/*.mat, SPLIT being '
            f'{", ".join(WHOLE)}: must be BSR_bsds500.tgz or the folder unpacked from it'
        )
    for name in track_iter_progress(list(found)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(found[name], path)


def check(folder: Path, as_png: bool) -> str:
    """Read all annotations, and write them as PNG if asked to; what there is, in words."""
    stems = {
        kind: {p.relative_to(folder / kind).with_suffix('') for p in (folder / kind).glob('*/*.*')}
        for kind in ('images', 'groundTruth')
    }
    for one, other in (('images', 'groundTruth'), ('groundTruth', 'images')):
        lacking = sorted(stems[one] - stems[other])
        if lacking:
            raise ValueError(f'{len(lacking)} of {one} are not in {other}; the first: {lacking[0]}')
    counts = {split: [0, 0] for split in WHOLE}
    for stem in track_iter_progress(sorted(stems['images'])):
        path = (folder / 'groundTruth' / stem).with_suffix('.mat')
        marked = read_annotations(path)
        image = (folder / 'images' / stem).with_suffix('.jpg')
        size = read_image(image).shape[:2]
        if size != marked.shape[1:]:
            raise ValueError(
                f'{path.relative_to(folder)} is of size {marked.shape[1:]}, its image of size '
                f'{size}: must be the same'
            )
        counts[stem.parts[0]][0] += 1
        counts[stem.parts[0]][1] += len(marked)
        if as_png:
            path.with_suffix('').mkdir()
            for number, one in enumerate(marked, 1):
                cv2.imwrite(str(path.with_suffix('') / f'{number}.png'), one.astype(np.uint8) * 255)
            path.unlink()
    return '\n'.join(
        f'{split}: {images} images{"" if images == WHOLE[split] else f" (all: {WHOLE[split]})"}, '
        f'{annotators} annotations'
        for split, (images, annotators) in counts.items()
    )


if __name__ == '__main__':
    main()
