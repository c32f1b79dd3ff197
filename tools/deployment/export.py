"""Write a trained network to a file that runs without this project.

`export.py CONFIG CHECKPOINT --out FILE`: FILE is for ONNX Runtime and the like, `--format onnx`, or for
PyTorch alone, `--format torch_export`. It takes batches of any number, height and width; what it
computes is compared with the network before it gets its name. It holds classes, mean and deviation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import mmdla  # noqa: F401
from mmdla.checkpoints import load_model, read_checkpoint
from mmdla.deploy.exporting import SUFFIXES, ExportError, check_file, check_packages, export
from mmdla.engine.config import add_cfg_options, build_model, dataset_meta, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of mmseg or mmpretrain')
    parser.add_argument('checkpoint', help='path or address')
    parser.add_argument('--out', type=Path, required=True, help='where to write: .onnx, .pt2')
    parser.add_argument('--format', choices=list(SUFFIXES), default='onnx', help='(onnx)')
    parser.add_argument(
        '--normalize', action='store_true', help='the file takes values of 0 to 255 and normalizes them'
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        default=[224, 288],
        help='of the image that it is checked with (224 288); it takes any other, too',
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    if min(args.shape) < 1:
        parser.error(f'--shape {args.shape[0]} {args.shape[1]}: two positive numbers')
    if not Path(args.config).is_file():
        parser.error(f'{args.config}: there is no such config')
    return args


def load(args: argparse.Namespace) -> tuple[torch.nn.Module, list[str] | None]:
    """The trained model, and the names of its classes."""
    cfg = read_config(args)
    if 'data_preprocessor' in cfg:  # which mmpretrain's runner gives the model
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = build_model(cfg)
    checkpoint = read_checkpoint(args.checkpoint)
    load_model(model, checkpoint, f'checkpoint {args.checkpoint!r}')
    return model, dataset_meta(cfg, checkpoint.get('meta') or {}).get('classes')


def main() -> None:
    args = parse_args()
    try:
        check_file(args.out, args.format)
        check_packages(args.format)
        model, classes = load(args)
        outputs = getattr(getattr(model, 'head', model), 'num_classes', None)
        if classes is not None and outputs is not None and len(classes) != outputs:
            print(f'Without names of classes: the data have {len(classes)}, the network has {outputs}.')
            classes = None
        # A fixed one, so that a second run says the same.
        example = torch.rand(1, 3, *args.shape, generator=torch.Generator().manual_seed(0))
        example = example * 255 if args.normalize else (example - 0.5) * 3.5
        difference = export(
            model, example, args.out, args.format, normalize=args.normalize, classes=classes
        )
    except (ExportError, FileNotFoundError, FileExistsError, ImportError, ValueError) as error:
        sys.exit(f'export: {error}')
    height, width = args.shape
    print(
        f'Written: {args.out}; at {height}x{width} and {height + 1}x{width + 1} its outputs differ '
        f"from the network's by {difference:.1e} of their largest value at the most."
    )


if __name__ == '__main__':
    main()
