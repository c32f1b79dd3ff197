"""Train a model of a config: `python tools/train.py CONFIG`."""

from __future__ import annotations

import argparse
import os.path as osp

from mmengine.config import Config
from torch.distributed.elastic.multiprocessing.errors import record

import mmdla  # noqa: F401
from mmdla.engine.faults import explained
from mmdla.engine.setup import (
    add_arguments,
    build_runner,
    enable_amp,
    leave_group,
    load_config,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--resume', action='store_true', help='go on from the latest checkpoint in the work folder'
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


@record
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.resume = args.resume or cfg.get('resume', False)
    if args.amp:
        enable_amp(cfg.optim_wrapper)
    if args.compile:
        cfg.compile = cfg.get('compile') or True
    if args.channels_last:
        cfg.channels_last = True
    train(cfg)
    leave_group()


def train(cfg: Config) -> None:
    """Train as a config says, and tell where the pictures are."""
    with explained(cfg):
        runner = build_runner(cfg, ('train', 'val') if cfg.get('val_cfg') else ('train',))
        runner.train()

    pictures = osp.join(runner.log_dir, 'vis_data', 'vis_image')
    if runner.rank == 0 and osp.isdir(pictures):
        print(f'Pictures (image, ground truth, prediction): {osp.relpath(pictures)}')


if __name__ == '__main__':
    main()
