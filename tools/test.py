"""Evaluate a checkpoint of a config: `python tools/test.py CONFIG CHECKPOINT`."""

from __future__ import annotations

import argparse
import os.path as osp

from mmengine.config import Config
from torch.distributed.elastic.multiprocessing.errors import record

from mmdla.engine.config import add_arguments, load_config, type_name
from mmdla.engine.platform import adapt_to_platform, leave_process_group
from mmdla.engine.runner import build_runner


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or address of the checkpoint')
    parser.add_argument('--tta', action='store_true', help="test-time augmentation, the config's")
    parser.add_argument('--out', help='folder for the predicted label maps, as PNG')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    add_arguments(parser)
    return parser.parse_args()


def use_tta(cfg: Config) -> None:
    """Test with the config's augmentations and merging."""
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg:
            raise ValueError(f'--tta: the config has no {key}')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def write_label_maps(cfg: Config, folder: str) -> None:
    """Have mmseg's metric write the predictions that it gets."""
    evaluators = cfg.get('test_evaluator') or []
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    writers = [e for e in evaluators if type_name(e).endswith('IoUMetric')]
    if not writers:
        kinds = [type_name(e) for e in evaluators]
        raise ValueError(f'--out: test_evaluator needs an IoUMetric, which writes them; got {kinds}')
    if type_name(writers[0]) == 'IoUMetric':  # mmseg's names maps by file alone
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        prefix = dataset.get('data_prefix') or ''
        images = prefix if isinstance(prefix, str) else prefix.get('img_path') or ''
        writers[0].update(
            type='mmdla.LabelMapIoUMetric',
            root=osp.join(dataset.get('data_root') or '', images) or None,
        )
    writers[0]['output_dir'] = folder


def draw_pictures(cfg: Config, folder: str) -> None:
    """Have every prediction drawn to a folder."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError("--show-dir: the config's default_hooks have no visualization")
    if not cfg.get('visualizer'):
        raise ValueError('--show-dir: the config has no visualizer')
    if type_name(hook) == 'VisualizationHook':
        raise ValueError(
            "--show-dir: mmpretrain's VisualizationHook swaps red and blue, and images of one name in "
            'different folders; use ImageClassificationInferencer(CONFIG, CHECKPOINT)(FOLDER, '
            'show_dir=...)'
        )
    hook['draw'] = True
    hook['interval'] = 1
    cfg.visualizer['save_dir'] = folder


@record
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.tta:
        use_tta(cfg)
    if args.out:
        write_label_maps(cfg, args.out)
    if args.show_dir:
        draw_pictures(cfg, args.show_dir)
    adapt_to_platform(cfg)
    build_runner(cfg, train=False).test()
    leave_process_group()


if __name__ == '__main__':
    main()
