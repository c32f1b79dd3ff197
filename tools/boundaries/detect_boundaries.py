"""Boundary maps of images: `detect_boundaries.py CONFIG CHECKPOINT IMAGE_OR_FOLDER ...`.

Writes `maps/NAME.png`, probabilities as 16 bit, which `eval_boundaries.py` takes, and
`overlays/NAME.jpg`, the boundaries over the image. Folders are searched recursively, and theirs kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmdla  # noqa: F401
from mmdla.datasets.folders import is_nonempty
from mmdla.engine.config import add_cfg_options, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of a boundary detector')
    parser.add_argument('checkpoint', help='path or address')
    parser.add_argument('images', nargs='+', type=Path, help='images, or folders of them')
    parser.add_argument('--out-dir', type=Path, help='folder to write to (work_dirs/CONFIG/boundaries)')
    parser.add_argument('--nms', action='store_true', help='thin the maps: non-maximum suppression')
    parser.add_argument('--tta', action='store_true', help="average the config's augmentations")
    parser.add_argument(
        '--overlay-threshold',
        type=float,
        default=0.5,
        help='probability from which on an overlay shows a boundary (0.5)',
    )
    add_cfg_options(parser)
    return parser.parse_intermixed_args()  # images may follow the options


def main() -> None:
    args = parse_args()
    out = args.out_dir or Path('work_dirs') / Path(args.config).stem / 'boundaries'
    if is_nonempty(out):
        sys.exit(f'detect_boundaries: {out} holds something already; choose another --out-dir')
    if not 0 <= args.overlay_threshold <= 1:
        sys.exit(f'detect_boundaries: --overlay-threshold {args.overlay_threshold} must be from 0 to 1')
    try:
        cfg = read_config(args)
        if cfg.get('default_scope') != 'mmseg':
            sys.exit(f'detect_boundaries: {args.config} is no config of a segmentor of mmseg')

        from mmdla.apis.boundary_inferencer import BoundaryInferencer, name_images

        name_images(args.images)  # before the network is built
        inferencer = BoundaryInferencer(cfg, args.checkpoint, tta=args.tta)
        number = inferencer.write(args.images, out, args.nms, args.overlay_threshold)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'detect_boundaries: {error}')
    print(f'\nWritten: {number} maps and overlays in {out}')


if __name__ == '__main__':
    main()
