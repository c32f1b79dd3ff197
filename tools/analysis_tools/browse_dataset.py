"""Draw the samples of a data set as the pipeline yields them: `browse_dataset.py CONFIG`.

Writes image and labels of each sample, augmented as in training, side by side. Of images with more than
three channels the first three are shown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.registry import VISUALIZERS, init_default_scope
from mmengine.utils import track_iter_progress

from mmdla.datasets.validation import build_dataset
from mmdla.engine.config import add_cfg_options, read_config, scope_of
from mmdla.io.files import is_nonempty
from mmdla.visualization.images import to_bgr8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('out', nargs='?', type=Path, help='the same as --out-dir')
    parser.add_argument(
        '--out-dir',
        '--output-dir',
        type=Path,
        help='new folder for the pictures (work_dirs/CONFIG/samples)',
    )
    parser.add_argument('--phase', choices=['train', 'val', 'test'], default='train', help='(train)')
    parser.add_argument('--show-number', type=int, default=20, help='how many samples (20)')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = read_config(args)
    out = args.out_dir or args.out or Path('work_dirs') / Path(args.config).stem / 'samples'
    if is_nonempty(out):
        sys.exit(f'browse_dataset: {out} is not empty; choose another --out-dir')
    init_default_scope(scope_of(cfg))
    dataset = build_dataset(cfg[f'{args.phase}_dataloader'].dataset)
    cfg.visualizer.setdefault('name', 'visualizer')
    visualizer = VISUALIZERS.build(cfg.visualizer)
    visualizer.dataset_meta = dataset.metainfo

    for i in track_iter_progress(list(range(min(args.show_number, len(dataset))))):
        sample = dataset[i]
        image = to_bgr8(sample['inputs'].permute(1, 2, 0).numpy())[..., ::-1]  # visualizers take RGB
        stem = Path(sample['data_samples'].img_path).stem
        options = dict(draw_pred=False, out_file=str(out / f'{i:04d}_{stem}.png'))
        if hasattr(visualizer, 'visualize_cls'):  # mmpretrain's
            # On a small image nobody could read the class.
            resize = 224 if min(image.shape[:2]) < 224 else None
            classes = dataset.metainfo.get('classes')
            visualizer.visualize_cls(image, sample['data_samples'], classes, resize=resize, **options)
        else:
            visualizer.add_datasample(stem, image, sample['data_samples'], **options)
    print(f'\nWritten: {out}')


if __name__ == '__main__':
    main()
