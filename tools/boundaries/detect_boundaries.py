"""Boundary maps of images, videos, cameras: `detect_boundaries.py CONFIG CHECKPOINT INPUT ...`.

Of an image it writes `maps/NAME.png`, probabilities as 16 bit, which `eval_boundaries.py` takes, and
`overlays/NAME.jpg`, the boundaries over the image. Folders are searched recursively, and theirs kept.
Of a video, known by its suffix, or a camera, given as its number, it writes `maps/NAME/000000.png` ...
and `overlays/NAME.mp4`; a camera is read until --max-frames or Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmdla  # noqa: F401
from mmdla.engine.config import add_cfg_options, read_config
from mmdla.io.files import is_nonempty


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of a boundary detector')
    parser.add_argument('checkpoint', help='path or address')
    parser.add_argument(
        'images', nargs='+', type=Path, help='images, folders of them, videos, or numbers of cameras'
    )
    parser.add_argument('--out-dir', type=Path, help='folder to write to (work_dirs/CONFIG/boundaries)')
    parser.add_argument('--only', choices=['maps', 'overlays'], help='write only these (both)')
    parser.add_argument('--nms', action='store_true', help='thin the maps: non-maximum suppression')
    parser.add_argument('--tta', action='store_true', help="average the config's augmentations")
    parser.add_argument(
        '--scales', type=float, nargs='+', help='average these scales of the image, such as 0.5 1 1.5'
    )
    parser.add_argument('--max-frames', type=int, help='of each video or camera (all)')
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
    if args.max_frames is not None and args.max_frames < 1:
        sys.exit(f'detect_boundaries: --max-frames {args.max_frames} must be 1 or more')
    try:
        cfg = read_config(args)
        if cfg.get('default_scope') != 'mmseg':
            sys.exit(f'detect_boundaries: {args.config} is no config of a segmentor of mmseg')

        from mmdla.apis.boundary_inferencer import BoundaryInferencer, name_images, split_inputs

        images, videos = split_inputs(args.images)
        if images:
            name_images(images)  # before the network is built
        inferencer = BoundaryInferencer(cfg, args.checkpoint, tta=args.tta, scales=args.scales)
        writing = dict(nms=args.nms, threshold=args.overlay_threshold, only=args.only)
        number = inferencer.write(images, out, **writing) if images else 0
        frames = 0
        for video in videos:
            print(f'\n{video if isinstance(video, Path) else f"camera {video}"}')
            frames += inferencer.write_video(video, out, max_frames=args.max_frames, **writing)
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        sys.exit(f'detect_boundaries: {error}')
    what = args.only or 'maps and overlays'
    found = [f'{n} {name}' for n, name in ((number, 'images'), (frames, 'frames')) if n]
    print(f'\nWritten: {what} of {" and ".join(found) or "0 frames"} in {out}')


if __name__ == '__main__':
    main()
