"""Images and annotations of boundaries as `mmdla.BoundaryPairsDataset` reads them.

    python tools/dataset_converters/boundary_pairs.py SOURCE ROOT --layout multicue
    python tools/dataset_converters/boundary_pairs.py SOURCE ROOT \\
        --pairs train 'imgs/{name}.jpg' 'gt/{name}.png' --pairs test ...

The second says for each list which files belong together: {name} is the same in both patterns, * stands
for anything but a slash and a dot, and a pattern may begin at any folder below SOURCE. Several
annotations of an image are those of several annotators. With --random-splits K the images are divided
into those to train and to test on, K times.

Layouts that are known (this is how the distributions look):
{layouts}
Data that come with lists need no conversion: HED's augmented BSDS500 and PASCAL-Context, and NYUDv2.

Files are copied, and every annotation is read. ROOT must not be there yet; it appears when all is done.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.datasets.folders import new_folder
from mmdla.io.boundary_files import read_annotations
from mmdla.io.images import read_image


@dataclass(frozen=True)
class Layout:
    """How a distribution looks: lists with the patterns of their images and annotations."""

    pairs: dict[str, tuple[str, str]]
    random_splits: int = 0


LAYOUTS = {
    'biped': Layout(
        {
            'train': ('imgs/train/rgbr/real/{name}.*', 'edge_maps/train/rgbr/real/{name}.*'),
            'test': ('imgs/test/rgbr/{name}.*', 'edge_maps/test/rgbr/{name}.*'),
        }
    ),
    # five annotators of boundaries and six of edges, NAME.1.png and so on
    'multicue': Layout(
        {
            'boundary': ('images/{name}.*', 'ground-truth/images/boundaries/{name}.*.png'),
            'edge': ('images/{name}.*', 'ground-truth/images/edges/{name}.*.png'),
        },
        random_splits=3,
    ),
}


def describe() -> str:
    """The table of layouts, a line a list."""
    return ''.join(
        f'  {name}: {title}: {images} and {annotations}'
        + (f', divided at random {layout.random_splits} times' if layout.random_splits else '')
        + '\n'
        for name, layout in LAYOUTS.items()
        for title, (images, annotations) in layout.pairs.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.replace('{layouts}\n', describe()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', type=Path, help='folder of the distribution')
    parser.add_argument('root', type=Path, help='folder to make')
    parser.add_argument('--layout', choices=LAYOUTS, help='a distribution that is known')
    parser.add_argument(
        '--pairs',
        nargs=3,
        action='append',
        metavar=('LIST', 'IMAGES', 'ANNOTATIONS'),
        help='name of a list (train, test), and the patterns of its images and annotations',
    )
    parser.add_argument(
        '--random-splits', type=int, metavar='K', help='divide the images of each list K times'
    )
    parser.add_argument(
        '--train-share', type=float, default=0.8, help='share of images to train on (default: 0.8)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the random splits (default: 0)')
    args = parser.parse_args()
    try:
        layout = chosen_layout(args)
        with new_folder(args.root) as folder:
            report = convert(args.source, folder, layout, args.train_share, args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f'boundary_pairs: {error}')
    print(report)
    print(f'Ready: {args.root}')


def chosen_layout(args: argparse.Namespace) -> Layout:
    """The layout that the command line names or describes."""
    if bool(args.layout) == bool(args.pairs):
        raise ValueError('one of --layout and --pairs must say which files belong together')
    if not 0 < args.train_share < 1:
        raise ValueError(f'--train-share {args.train_share} must be between 0 and 1')
    layout = LAYOUTS[args.layout] if args.layout else Layout({p[0]: tuple(p[1:]) for p in args.pairs})
    for title, patterns in layout.pairs.items():
        if not re.fullmatch(r'\w+', title):
            raise ValueError(f'--pairs {title!r} must be a word, which names a list')
        for pattern in patterns:
            if pattern.count('{name}') != 1:
                raise ValueError(f'{pattern!r} must have {{name}} once')
    splits = layout.random_splits if args.random_splits is None else args.random_splits
    if splits < 0:
        raise ValueError(f'--random-splits {splits} must be 0 or more')
    return Layout(layout.pairs, splits)


def convert(source: Path, folder: Path, layout: Layout, train_share: float, seed: int) -> str:
    """Copy the pairs and write their lists; what there is, in words."""
    if not source.is_dir():
        raise ValueError(f'{source} is no folder: unpack the archive before')
    files = [p for p in sorted(source.rglob('*')) if p.is_file() and not p.name.startswith('.')]
    paths = {p.relative_to(source).as_posix(): p for p in files}
    report = []
    for title, (images_pattern, annotations_pattern) in layout.pairs.items():
        images = find_images(paths, images_pattern, source)
        pairs = []
        for name, image in track_iter_progress(list(images.items())):
            found = [file for _, file in matching(paths, annotations_pattern, re.escape(name))]
            pairs.append(copy_pair(name, image, found, folder, title, layout))
        pairs.sort()
        if layout.random_splits:
            for k in range(1, layout.random_splits + 1):
                order = list(range(len(pairs)))
                random.Random(f'{seed} {k}').shuffle(order)  # the same for every list of these images
                count = round(train_share * len(pairs))
                parts = dict(train=sorted(order[:count]), test=sorted(order[count:]))
                for part, numbers in parts.items():
                    write_list(folder / f'{part}_pair_{title}_set_{k}.lst', [pairs[n] for n in numbers])
            report.append(
                f'{title}: {len(pairs)} images, {layout.random_splits} times divided into {count} and '
                f'{len(pairs) - count}'
            )
        else:
            write_list(folder / f'{title}_pair.lst', pairs)
            report.append(f'{title}: {len(pairs)} images')
    return '\n'.join(report)


def matching(paths: dict[str, Path], pattern: str, name: str) -> Iterator[tuple[str, Path]]:
    """What {name} stands for, and the file, of the files whose path ends as a pattern does."""
    before, after = (
        '[^/.]*'.join(re.escape(part) for part in half.split('*')) for half in pattern.split('{name}')
    )
    wanted = re.compile(f'(?:.*/)?{before}(?P<name>{name}){after}')
    for path, file in paths.items():
        match = wanted.fullmatch(path)
        if match:
            yield match['name'], file


def find_images(paths: dict[str, Path], pattern: str, source: Path) -> dict[str, Path]:
    """Images by name."""
    images: dict[str, Path] = {}
    for name, file in matching(paths, pattern, '[^/]+?'):
        if re.search(r'\s', name) or not name.isprintable():
            raise ValueError(f'{file}: names must have no space: in a list one is between two paths')
        if images.setdefault(name, file) != file:
            raise ValueError(f'{images[name]} and {file} are of one name: let the pattern begin above')
    if not images:
        raise ValueError(
            f'{source} has no image {pattern}: is it the right folder? Say how the files lie by --pairs'
        )
    return images


def copy_pair(
    name: str, image: Path, annotations: list[Path], folder: Path, title: str, layout: Layout
) -> str:
    """Copy an image and its annotations, once they are read; their line in the list."""
    if not annotations:
        raise ValueError(f'{image} has no annotation {layout.pairs[title][1]}')
    # What is divided at random shares its images.
    part = '' if layout.random_splits else f'{title}/'
    target = folder / f'images/{part}{name}{image.suffix.lower()}'
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, target)
    label = folder / f'labels/{title}/{name}'
    if len(annotations) == 1:
        label = label.with_name(f'{name}{annotations[0].suffix.lower()}')
        label.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(annotations[0], label)
    else:
        label.mkdir(parents=True)
        for number, path in enumerate(annotations, 1):
            shutil.copyfile(path, label / f'{number}{path.suffix.lower()}')
    size, marked = read_image(target).shape[:2], read_annotations(label)
    if size != marked.shape[1:]:
        raise ValueError(
            f'{annotations[0]} is of size {marked.shape[1:]}, its image {image} of size {size}: must '
            'be the same'
        )
    return f'{target.relative_to(folder).as_posix()} {label.relative_to(folder).as_posix()}'


def write_list(path: Path, lines: list[str]) -> None:
    path.write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
