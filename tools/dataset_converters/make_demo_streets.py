"""Draw the demo data set: `python tools/dataset_converters/make_demo_streets.py [ROOT]`.

`configs/dla34_demo.py` does this by itself on first use.
"""

from __future__ import annotations

import argparse
import sys

from mmdla.datasets.demo_streets import IMAGE_SIZE, SIZES, generate_demo_streets
from mmdla.datasets.folders import DataFolderError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', nargs='?', default='data/demo_streets', help='folder to make')
    parser.add_argument('--train', type=int, default=SIZES['train'], help='training scenes')
    parser.add_argument('--val', type=int, default=SIZES['val'], help='validation scenes')
    parser.add_argument(
        '--size', type=int, nargs=2, default=IMAGE_SIZE, metavar=('HEIGHT', 'WIDTH'), help='in pixels'
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        sizes = dict(train=args.train, val=args.val)
        root = generate_demo_streets(args.root, sizes, tuple(args.size), args.seed)
    except (DataFolderError, ValueError) as error:
        sys.exit(f'make_demo_streets: {error}')
    print(f'Ready: {root}')


if __name__ == '__main__':
    main()
