"""Convert a released checkpoint: `python tools/model_converters/convert_released.py SRC DST`.

Recognises by their keys, below any prefix and in any container, the authors' DLA and DRN classifiers,
DLASeg (output stride 2, 4 or 8), AFA-DLA and DRNSeg, timm's DLA, ResNets with torchvision's names
(DRN-A's too), mmdet3d's DLANet, the DLASeg of the CenterNet family, and the backbone of any other
model; a file of PyTorch or safetensors, a path or an address.
Writes a checkpoint that the matching config of this project loads strictly, and says what became of
each entry of the file.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mmdla.checkpoints import (
    AUTHORS_AFA,
    AUTHORS_DRNSEG,
    CENTERNET,
    CENTERNET_HEADS,
    CheckpointError,
    Converted,
    convert_released,
    read_checkpoint,
)
from mmdla.models import DLA, DRN, AFAUp, IDAUp

ROOT = Path(__file__).resolve().parents[2]
# What has the parameters of DRN-B, which nobody released, is a DRN-C.
ARCHS = dict(DLA=list(DLA.arch_settings), DRN=[a for a in DRN.arch_settings if not a.startswith('b')])
FIRST = ('base_layer.0.weight', 'layer0.0.weight', 'conv1.weight')


def shapes_of(state_dict: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of the entries; counters of batches are missing in old files and begin at 0 then."""
    return {k: tuple(v.shape) for k, v in state_dict.items() if not k.endswith('batches_tracked')}


def identify(converted: Converted, source: str) -> tuple[str, DLA | DRN]:
    """Name of the network that the parameters are of, and the network without values.

    Raises:
        CheckpointError: If they are of none of the table, or some are missing.
    """
    shapes = shapes_of(converted.network)
    group_norm = not any(k.endswith('running_mean') for k in shapes)
    norm_cfg = dict(type='GN', num_groups=32) if group_norm else dict(type='BN')
    in_channels = next(shapes[name][1] for name in FIRST if name in shapes)
    kind = dict(DLA=DLA, DRN=DRN)[converted.backbone]
    archs = ARCHS[converted.backbone]
    differences = {}
    for arch in archs:
        with torch.device('meta'):
            network = kind(arch, in_channels=in_channels, norm_cfg=norm_cfg)
        difference = shapes_of(network.state_dict()).items() ^ shapes.items()
        if not difference:
            check_head(converted, network, source)
            return arch, network
        differences[arch] = sorted({key for key, _ in difference})
    closest = min(differences, key=lambda arch: len(differences[arch]))
    raise CheckpointError(
        f'{source}: of none of the {len(archs)} networks; closest is {kind.__name__} {closest!r}, from '
        f'which {len(differences[closest])} entries differ: {", ".join(differences[closest][:5])}, ...'
    )


def check_head(converted: Converted, network: DLA | DRN, source: str) -> None:
    """Compare what follows the backbone with what this project builds.

    Raises:
        CheckpointError: If an entry is missing, too many, or of another shape.
    """
    classes = converted.num_classes
    found = shapes_of(
        {k: v for k, v in converted.state_dict.items() if 'head.' in k or k.startswith('neck.')}
    )
    wanted = {}
    if converted.format == AUTHORS_AFA:
        # Its heads are made of mmseg's layers, which this tool does not need; the neck tells enough.
        found = {k: v for k, v in found.items() if k.startswith('neck.')}
        with torch.device('meta'):
            neck = AFAUp(network.channels[int(math.log2(converted.down_ratio)) :])
        wanted = {f'neck.{k}': v for k, v in shapes_of(neck.state_dict()).items()}
    elif converted.format == CENTERNET:
        wanted = centernet_shapes(converted, network)
    elif converted.format == AUTHORS_DRNSEG:
        wanted['decode_head.conv_seg.weight'] = (classes, network.channels[-1], 1, 1)
        wanted['decode_head.conv_seg.bias'] = (classes,)
    elif converted.down_ratio is not None:
        channels = network.channels[int(math.log2(converted.down_ratio)) :]
        with torch.device('meta'):
            neck = IDAUp(channels)
        wanted = {f'decode_head.dla_up.{k}': v for k, v in shapes_of(neck.state_dict()).items()}
        wanted['decode_head.conv_seg.weight'] = (classes, channels[0], 1, 1)
        wanted['decode_head.conv_seg.bias'] = (classes,)
    elif classes is not None:
        wanted = {'head.fc.weight': (classes, network.channels[-1]), 'head.fc.bias': (classes,)}
    difference = sorted({key for key, _ in found.items() ^ wanted.items()})
    if difference:
        raise CheckpointError(
            f'{source}: was taken for {converted.format}, but {len(difference)} entries of its head '
            f'or neck are missing, too many or of another shape: {", ".join(difference[:5])}, ...'
        )


def is_deformable(converted: Converted) -> bool:
    """Whether the neck's convolutions are deformable."""
    return any('.conv_offset.' in k for k in converted.state_dict)


def feat_channels(converted: Converted) -> int:
    """Channels between the two convolutions of each of CenterNet's heads."""
    return len(converted.state_dict['bbox_head.heatmap_head.0.bias'])


def centernet_shapes(converted: Converted, network: DLA) -> dict[str, tuple[int, ...]]:
    """What ``IDAUp(variant='centernet')`` and mmdet's CenterNetHead have, without needing mmdet."""
    channels = network.channels[int(math.log2(converted.down_ratio)) :]
    with torch.device('meta'):
        neck = IDAUp(channels, variant='centernet')
    wanted = {f'neck.{k}': v for k, v in shapes_of(neck.state_dict()).items()}
    if is_deformable(converted):
        # DCNv2 has beside its weight the convolution that finds 2 x 9 offsets and 9 weights.
        for key in [k for k in wanted if k.endswith('.conv.weight')]:
            offset = key.replace('.conv.weight', '.conv.conv_offset')
            wanted[f'{offset}.weight'] = (27, *wanted[key][1:])
            wanted[f'{offset}.bias'] = (27,)
    if converted.num_classes is not None:
        width = feat_channels(converted)
        for name, maps in zip(CENTERNET_HEADS.values(), (converted.num_classes, 2, 2)):
            wanted[f'bbox_head.{name}.0.weight'] = (width, channels[0], 3, 3)
            wanted[f'bbox_head.{name}.0.bias'] = (width,)
            wanted[f'bbox_head.{name}.2.weight'] = (maps, width, 1, 1)
            wanted[f'bbox_head.{name}.2.bias'] = (maps,)
    return wanted


def describe_centernet(converted: Converted, network: DLA, arch: str) -> str:
    """What loads the result of a checkpoint of the CenterNet family."""
    first = int(math.log2(converted.down_ratio))
    channels = list(network.channels[first:])
    deformable = is_deformable(converted)
    conv_cfg = ", conv_cfg=dict(type='DCNv2', deform_groups=1)" if deformable else ''
    loads = (
        f'a detector of mmdet with the backbone DLA(arch={arch!r}, out_indices='
        f"{tuple(range(first, 6))}) and the neck IDAUp(in_channels={channels}, variant='centernet'"
        f'{conv_cfg})'
    )
    if converted.num_classes is None:
        return loads
    width = feat_channels(converted)
    loads += (
        f' and the head CenterNetHead(in_channels={channels[0]}, feat_channels={width}, '
        f'num_classes={converted.num_classes})'
    )
    config = f'configs/detection/dla{arch}{"-dcn" if deformable else ""}_centernet_coco.py'
    if (first, width, converted.num_classes) == (2, 256, 80) and (ROOT / config).is_file():
        loads += f', such as {config}'
    return loads


def describe_afa(converted: Converted, network: DLA, arch: str) -> str:
    """What loads the result of an AFA-DLA."""
    first = int(math.log2(converted.down_ratio))
    channels = list(network.channels[first:])
    act_cfg = ", act_cfg=dict(type='LeakyReLU', negative_slope=0.01)" if converted.inplace_abn else ''
    context = 'decode_head.bottleneck.conv.weight' in converted.state_dict
    head = 'ObjectContextHead' if context else 'LinearHead or LinearBoundaryHead'
    loads = (
        f'MultiScaleSegmentor with DLA(arch={arch!r}, out_indices={tuple(range(first, 6))}), '
        f'AFAUp(in_channels={channels}{act_cfg}), {head} (in_channels={channels[0]}, '
        f'num_classes={converted.num_classes}{act_cfg if context else ""})'
    )
    number = len({k.split('.')[1] for k in converted.state_dict if k.startswith('auxiliary_head.')})
    if number:
        loads += f' and {number} auxiliary heads like LinearHead'
    attention = converted.state_dict.get('scale_space_attn.final.0.weight')
    if attention is not None:
        loads += f' and ScaleSpaceRendering(channels={attention.shape[1]}{act_cfg})'
    return loads


def describe(converted: Converted, network: DLA | DRN, arch: str) -> str:
    """In a sentence, what the file was and what loads the result."""
    down, classes = converted.down_ratio, converted.num_classes
    kind = converted.backbone
    if converted.format == AUTHORS_AFA:
        loads = describe_afa(converted, network, arch)
    elif converted.format == CENTERNET:
        loads = describe_centernet(converted, network, arch)
    elif converted.format == AUTHORS_DRNSEG:
        loads = (
            f'DRN(arch={arch!r}) with LinearHead(in_channels={network.channels[-1]}, '
            f'num_classes={classes})'
        )
        config = f'configs/drn/drn_{arch}_cityscapes.py'
        if classes == 19 and (ROOT / config).is_file():
            loads += f', such as {config}'
    elif down is not None:
        first = int(math.log2(down))
        loads = (
            f'DLA(arch={arch!r}, out_indices={tuple(range(first, 6))}) with IDAUpHead(in_channels='
            f'{list(network.channels[first:])}, num_classes={classes})'
        )
        config = f'configs/dla{arch}{"" if down == 2 else f"-{down}s"}_cityscapes.py'
        if classes == 19 and (ROOT / config).is_file():
            loads += f', such as {config}'
    elif classes is not None:
        loads = (
            f'an ImageClassifier of mmpretrain with {kind}(arch={arch!r}, out_indices='
            f'({network.numbers[-1]},)), '
            f'GlobalAveragePooling and LinearClsHead(num_classes={classes}, in_channels='
            f"{network.channels[-1]}); as a backbone's start: init_cfg=dict(type='Pretrained', "
            "checkpoint=..., prefix='backbone')"
        )
    else:
        group_norm = any(isinstance(m, nn.GroupNorm) for m in network.modules())
        norm = ", norm_cfg=dict(type='GN', num_groups=32)" if group_norm else ''
        loads = f"{kind}(arch={arch!r}{norm}), also by init_cfg=dict(type='Pretrained', checkpoint=...)"
    said = f'This was {converted.format}, {kind} {arch!r}. What loads the result: {loads}.'
    if converted.left_out:
        said += f' Left out, having no counterpart here: {", ".join(converted.left_out)}.'
    return said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='released checkpoint: path or address')
    parser.add_argument('dst', type=Path, help='where to write (.pth)')
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    parser.add_argument(
        '--inplace-abn',
        action=argparse.BooleanOptionalAction,
        help='whether an AFA-DLA was trained with InPlace-ABN; default: as published, or no',
    )
    args = parser.parse_args()
    if args.dst.exists() and not args.force:
        parser.error(f'{args.dst} exists already; --force overwrites it')
    try:
        converted = convert_released(read_checkpoint(args.src), args.src, args.inplace_abn)
        arch, network = identify(converted, args.src)
    except (OSError, ValueError) as error:
        sys.exit(f'convert_released: {error}')
    meta = dict(
        converted_from=converted.format,
        arch=arch,
        down_ratio=converted.down_ratio,
        num_classes=converted.num_classes,
        inplace_abn=converted.report.inplace_abn,
    )
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    part = args.dst.with_name(f'{args.dst.name}.part')
    torch.save(dict(state_dict=converted.state_dict, meta=meta), part)
    os.replace(part, args.dst)
    print(f'{describe(converted, network, arch)}\n{converted.report.summary()}\nWritten: {args.dst}')


if __name__ == '__main__':
    main()
