"""Train a model of a config: `python tools/train.py CONFIG`."""

from __future__ import annotations

import argparse
import os.path as osp

from mmengine.config import Config
from torch.distributed.elastic.multiprocessing.errors import record

from mmdla.engine.config import add_arguments, load_config
from mmdla.engine.platform import adapt_to_platform, enable_amp, leave_process_group
from mmdla.engine.runner import build_runner


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const=True,
        metavar='CHECKPOINT',
        help='resume from the latest checkpoint of the work folder, or from the one given',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU'
    )
    parser.add_argument('--compile', action='store_true', help='use torch.compile')
    parser.add_argument(
        '--channels-last', action='store_true', help='weights and maps in channels-last memory format'
    )
    add_arguments(parser)
    return parser.parse_args()


def train(cfg: Config) -> None:
    """Train as a config says, and tell where the pictures are."""
    runner = build_runner(cfg, train=True)
    runner.train()

    pictures = osp.join(runner.log_dir, 'vis_data', 'vis_image')
    if runner.rank == 0 and osp.isdir(pictures):
        print(f'Pictures (image, ground truth, prediction): {osp.relpath(pictures)}')


@record
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.resume = args.resume or cfg.get('resume', False)
    if args.amp:
        enable_amp(cfg.get('optim_wrapper'))
    if args.compile:
        cfg.compile = cfg.get('compile') or True
    if args.channels_last:
        cfg.channels_last = True
    adapt_to_platform(cfg)
    train(cfg)
    leave_process_group()


if __name__ == '__main__':
    main()
