"""Where a classifier sees what it names: `localize.py CONFIG CHECKPOINT [IMAGE ...]`.

Works with any classifier of average pooling and a linear layer. Writes a picture an image, with the box
found for the class it names (yellow), the true boxes if there are any (white) and the heat map; and all
of them as `grid.png`. Without images it takes the first of the config's test data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.datasets.validation import build_dataset
from mmdla.engine.config import add_cfg_options, read_config
from mmdla.io.files import is_nonempty
from mmdla.visualization.localization import grid, localization_picture


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of mmpretrain')
    parser.add_argument('checkpoint', help='path or address')
    parser.add_argument('images', nargs='*', type=Path, help="images (the config's test data)")
    parser.add_argument(
        '--out-dir', type=Path, help='folder to write to (work_dirs/CONFIG/localization)'
    )
    parser.add_argument('--num-images', type=int, default=12, help='how many of the test data (12)')
    parser.add_argument('--columns', type=int, default=4, help='pictures in a row of the grid (4)')
    parser.add_argument(
        '--rule',
        choices=['dominant', 'contour'],
        help="how maps become boxes (that of the config's LocalizationMetric, else dominant)",
    )
    parser.add_argument(
        '--threshold',
        type=float,
        help='from 0 to 1 (the best on the validation data, which need boxes)',
    )
    add_cfg_options(parser)
    return parser.parse_intermixed_args()  # images may follow the options


def localization_metric(cfg: Config, rule: str | None = None) -> dict | None:
    """The config's LocalizationMetric, if there are several that of the rule."""
    evaluators = cfg.get('val_evaluator') or []
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    found = [e for e in evaluators if e.type.split('.')[-1] == 'LocalizationMetric']
    same = [e for e in found if e.get('rule', 'dominant') == rule]
    return (same or found or [None])[0]


def best_threshold(cfg: Config, model: torch.nn.Module, rule: str) -> float:
    """The threshold at which most validation images are right.

    Raises:
        ValueError: If the validation data have no boxes.
    """
    from mmengine.runner import Runner

    from mmdla.evaluation.localization import LocalizationMetric

    settings = localization_metric(cfg, rule)
    if settings is None:
        raise ValueError(
            "--threshold: give one, or a LocalizationMetric in the config's val_evaluator and "
            'validation data with boxes, on which to choose it'
        )
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    metric = LocalizationMetric(**{k: v for k, v in settings.items() if k != 'type'} | dict(rule=rule))
    metric.dataset_meta = loader.dataset.metainfo
    print('Choosing the threshold on the validation data:')
    for batch in track_iter_progress((loader, len(loader))):
        metric.process(batch, [sample.to_dict() for sample in model.val_step(batch)])
    metrics = metric.evaluate(len(loader.dataset))
    threshold = metrics[f'{metric.prefix}/threshold']
    share = metrics[f'{metric.prefix}/gt_known']
    print(f'\nThreshold {threshold:g}: {share:.1f} % of {len(loader.dataset)} are right there.')
    return threshold


def samples_of(cfg: Config, images: list[Path], number: int) -> tuple[list, dict]:
    """What to draw, through the config's test pipeline, and what is known of the classes."""
    from mmcv.transforms import Compose

    settings = cfg.test_dataloader.dataset
    if not images:
        dataset = build_dataset(settings)
        return [dataset[i] for i in range(min(number, len(dataset)))], dataset.metainfo
    pipeline = Compose(settings.pipeline)
    none = np.zeros((0, 4), np.float32)
    samples = []
    for path in images:
        try:
            samples.append(pipeline(dict(img_path=str(path), gt_bboxes=none)))
        except Exception as error:  # decoders raise almost anything
            raise ValueError(f'{path}: the pipeline cannot load it as an image: {error}') from error
    return samples, {}


def draw(model: torch.nn.Module, sample: dict, rule: str, threshold: float, classes: list[str]):
    """The picture of a sample."""
    from mmdla.evaluation.localization import box_iou, contour_boxes, dominant_box

    data = sample['data_samples']
    (result,) = model.val_step(pseudo_collate([sample]))
    label = int(result.pred_label)
    maps = result.class_maps.float().cpu()
    size = tuple(sample['inputs'].shape[1:])
    if rule == 'dominant':
        box = dominant_box(maps, label, [threshold], size)[0]
    else:
        boxes = contour_boxes(maps[label], [threshold], size)[0]
        box = boxes[0] if len(boxes) else [0] * 4
    true = data.get('gt_bboxes')
    caption = f'{classes[label]} {float(result.pred_score[label]):.2f}'
    if true is not None and len(true):
        true = torch.as_tensor(true).numpy()
        caption += f', IoU {box_iou([box], true).max():.2f}'
        if 'gt_label' in data and int(data.gt_label) != label:
            caption += f' (is: {classes[int(data.gt_label)]})'
    image = sample['inputs'].permute(1, 2, 0).contiguous().numpy()
    return localization_picture(image, maps[label].numpy(), box, true, caption)


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    if cfg.get('default_scope') != 'mmpretrain':
        sys.exit(f'localize: {args.config} is no config of a classifier of mmpretrain')
    absent = [str(path) for path in args.images if not path.is_file()]
    if absent:
        sys.exit(f'localize: there is no file {", ".join(absent)}')
    if args.threshold is not None and not 0 <= args.threshold < 1:
        sys.exit(f'localize: --threshold {args.threshold} must be from 0 to below 1')
    out = args.out_dir or Path('work_dirs') / Path(args.config).stem / 'localization'
    if is_nonempty(out):
        sys.exit(f'localize: {out} holds something already; choose another --out-dir')
    for name, value in (('num-images', args.num_images), ('columns', args.columns)):
        if value < 1:
            sys.exit(f'localize: --{name} {value} must be 1 or more')

    from mmpretrain import get_model

    from mmdla.models.heads import with_class_maps

    init_default_scope('mmpretrain')
    try:
        model = with_class_maps(get_model(cfg, pretrained=args.checkpoint)).eval()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'localize: {error}')
    rule = args.rule or (localization_metric(cfg) or {}).get('rule', 'dominant')
    try:
        samples, known = samples_of(cfg, args.images, args.num_images)
    except ValueError as error:
        sys.exit(f'localize: {error}')
    names = known.get('classes') or getattr(model, '_dataset_meta', {}).get('classes')
    classes = list(names or map(str, range(model.head.num_classes)))
    with torch.inference_mode():
        try:
            threshold = args.threshold
            if threshold is None:
                threshold = best_threshold(cfg, model, rule)
        except ValueError as error:
            sys.exit(f'localize: {error}')
        out.mkdir(parents=True, exist_ok=True)
        pictures = []
        for i, sample in enumerate(track_iter_progress(samples)):
            pictures.append(draw(model, sample, rule, threshold, classes))
            stem = Path(sample['data_samples'].img_path).stem
            cv2.imwrite(str(out / f'{i:04d}_{stem}.png'), pictures[-1])
    cv2.imwrite(str(out / 'grid.png'), grid(pictures, args.columns))
    print(f'\nWritten: {out}')


if __name__ == '__main__':
    main()
