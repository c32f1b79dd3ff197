"""Convert a released checkpoint: `python tools/model_converters/convert_released.py SRC DST`.

Recognises by their keys the authors' DLA classifiers and DLASeg (output stride 2, 4 or 8), timm's DLA
and mmdet3d's DLANet; pickle or safetensors, a path or an address. Writes a checkpoint that the matching
config of this project loads strictly.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from mmdla.checkpoints import (
    CheckpointError,
    Converted,
    convert_released,
    read_checkpoint,
    state_dict_of,
)
from mmdla.models import DLA


def identify_arch(converted: Converted, source: str) -> tuple[str, str]:
    """Which network of the table the parameters are of, and its kind of normalization.

    Raises:
        CheckpointError: If they are of none, or some are missing.
    """
    shapes = {k: tuple(v.shape) for k, v in converted.network.items() if _is_weight(k)}
    norm = 'BN' if any(k.endswith('running_mean') for k in converted.network) else 'GN'
    norm_cfg = dict(type='BN') if norm == 'BN' else dict(type='GN', num_groups=32)
    in_channels = shapes['base_layer.0.weight'][1]
    closest, difference = None, None
    for arch in DLA.arch_settings:
        with torch.device('meta'):
            network = DLA(arch, in_channels=in_channels, norm_cfg=norm_cfg)
        wanted = {k: tuple(v.shape) for k, v in network.state_dict().items() if _is_weight(k)}
        if wanted == shapes:
            return arch, norm
        differing = sorted({k for k, _ in wanted.items() ^ shapes.items()})
        if difference is None or len(differing) < len(difference):
            closest, difference = arch, differing
    raise CheckpointError(
        f'{source}: of none of the {len(DLA.arch_settings)} networks; closest is DLA {closest!r}, from '
        f'which {len(difference)} entries differ: {", ".join(difference[:5])}, ...'
    )


def _is_weight(key: str) -> bool:
    # Counters are missing in files from before PyTorch 0.4.1; loading begins them at 0.
    return not key.endswith('num_batches_tracked')


def describe(converted: Converted, arch: str, norm: str) -> str:
    """In a sentence, what the file was and what loads the result."""
    norm = '' if norm == 'BN' else ", norm_cfg=dict(type='GN', num_groups=32)"
    if converted.down_ratio is not None:
        form = '' if converted.down_ratio == 2 else f'-{converted.down_ratio}s'
        loads = (
            f'a config with DLA {arch!r} and IDA-up at output stride {converted.down_ratio} and '
            f'{converted.num_classes} classes, such as configs/dla{arch}{form}_cityscapes.py'
        )
    elif converted.num_classes is not None:
        loads = (
            f'an ImageClassifier of mmpretrain with DLA {arch!r}, GlobalAveragePooling and a '
            f"LinearClsHead of {converted.num_classes} classes; as a backbone's start: "
            f"init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone')"
        )
    else:
        loads = f"DLA(arch={arch!r}{norm}), also by init_cfg=dict(type='Pretrained', checkpoint=...)"
    return f'This was {converted.format}, DLA {arch!r}. What loads the result: {loads}.'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='released checkpoint: path or address')
    parser.add_argument('dst', type=Path, help='where to write (.pth)')
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    args = parser.parse_args()
    if args.dst.exists() and not args.force:
        parser.error(f'{args.dst} exists already; --force overwrites it')
    try:
        state_dict = state_dict_of(read_checkpoint(args.src), args.src)
        converted = convert_released(state_dict, args.src)
        arch, norm = identify_arch(converted, args.src)
    except (CheckpointError, FileNotFoundError) as error:
        sys.exit(f'convert_released: {error}')
    meta = dict(
        converted_from=converted.format,
        arch=arch,
        down_ratio=converted.down_ratio,
        num_classes=converted.num_classes,
    )
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    part = args.dst.with_name(f'{args.dst.name}.part')
    torch.save(dict(state_dict=converted.state_dict, meta=meta), part)
    os.replace(part, args.dst)
    print(f'{describe(converted, arch, norm)}\nWritten: {args.dst}')


if __name__ == '__main__':
    main()
