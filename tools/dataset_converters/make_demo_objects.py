"""Draw the demo pictures of things: `python tools/dataset_converters/make_demo_objects.py [ROOT]`.

A config over `configs/_base_/datasets/demo_objects.py` does this by itself on first use. With
`--picture docs/images/demo_objects.png` it also pastes the first training pictures, a column per class,
into one, with their boxes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmdla.datasets.demo_objects import BOXES, CLASSES, IMAGE_SIZE, SIZES, generate_demo_objects
from mmdla.datasets.folders import DataFolderError

WHITE = (255, 255, 255)


def paste(root: Path, split: str, rows: int) -> np.ndarray:
    """The first pictures of a split with their boxes: uint8, BGR, a column per class under its name."""
    if rows < 1:
        raise ValueError(f'rows={rows}: the overview needs one or more')
    names = json.loads((root / BOXES).read_text())['boxes']
    drawn = []
    for name, (x0, y0, x1, y1) in names.items():
        if name.startswith(f'{split}/') and len(drawn) < rows * len(CLASSES):
            image = cv2.imread(str(root / name))
            # The frame lies just outside the box, so as to hide none of it.
            drawn.append(cv2.rectangle(image, (x0 - 1, y0 - 1), (x1, y1), WHITE))
    drawn = drawn[: len(drawn) // len(CLASSES) * len(CLASSES)]
    if not drawn:
        raise ValueError(
            f'{root / split} holds fewer than {len(CLASSES)} pictures: needs one of each class'
        )
    head = []
    size = drawn[0].shape[1]
    for name in CLASSES:
        title = np.full((20, size, 3), 255, np.uint8)
        place, _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        at = ((size - place[0]) // 2, 14)
        head.append(
            cv2.putText(title, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40,) * 3, 1, cv2.LINE_AA)
        )
    grid = [drawn[i : i + len(CLASSES)] for i in range(0, len(drawn), len(CLASSES))]
    return cv2.vconcat([cv2.hconcat(row) for row in (head, *grid)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', nargs='?', default='data/demo_objects', help='folder to make')
    for split, count in SIZES.items():
        parser.add_argument(f'--{split}', type=int, default=count, help=f'{split} pictures')
    parser.add_argument('--size', type=int, default=IMAGE_SIZE, help='sides of a picture in pixels')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--picture', metavar='PNG', help='write an overview here')
    parser.add_argument('--rows', type=int, default=2, help='pictures of each class in the overview')
    args = parser.parse_args()
    try:
        sizes = {split: getattr(args, split) for split in SIZES}
        root = generate_demo_objects(args.root, sizes, args.size, args.seed)
        if args.picture:
            # 256 colours: noise makes a PNG of all of them three times as large.
            overview = Image.fromarray(paste(root, 'train', args.rows)[..., ::-1].copy())
            overview = overview.quantize(
                palette=overview.quantize(256), dither=Image.Dither.FLOYDSTEINBERG
            )
            overview.save(args.picture, optimize=True)
    except (DataFolderError, OSError, ValueError) as error:
        sys.exit(f'make_demo_objects: {error}')
    print(f'Ready: {root}')


if __name__ == '__main__':
    main()
