"""Count parameters and multiply-adds: `python tools/analysis_tools/get_flops.py CONFIG`."""

from __future__ import annotations

import argparse

from mmengine.analysis import get_model_complexity_info

import mmdla  # noqa: F401
from mmdla.analysis.complexity import blank_images, count
from mmdla.engine.config import add_cfg_options, build_model, read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[512, 1024],
        help='height and width of the image, or one number for both (512 1024)',
    )
    parser.add_argument('--by-module', action='store_true', help='print a table of the modules')
    add_cfg_options(parser)
    args = parser.parse_args()
    if len(args.shape) > 2 or min(args.shape) < 1:
        parser.error(f'--shape {args.shape}: one or two positive numbers')
    height, width = args.shape[0], args.shape[-1]

    cfg = read_config(args)
    model = build_model(cfg)
    image = blank_images(model, 1, height, width)
    params, macs = count(model, image)
    if args.by_module:
        print(get_model_complexity_info(model, inputs=(image,), show_arch=False)['out_table'])
    print(f'Input: {" x ".join(map(str, image.shape[1:]))}')
    print(f'Parameters: {params:,}')
    print(f'Multiply-adds: {macs / 1e9:.2f} G')


if __name__ == '__main__':
    main()
