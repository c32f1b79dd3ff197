"""Dilated Residual Networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mmengine.model import Sequential
from mmengine.registry import MODELS
from mmengine.utils import deprecated_api_warning
from torch import Tensor, nn

from ..layers import RESIDUAL_BLOCKS, as_tuple, layer_builder
from ..layers.conv import act, conv, conv_level, conv_norm_act, find_conv, norm
from .levels import LevelBackbone, rename_keys

BLOCK_ARGUMENTS = ['in_channels', 'out_channels', 'stride', 'dilation', 'first_dilation']

# Figure 5: DRN-A is a ResNet with dilation in place of the last two strides; each family after it
# changes one thing in the one before.
A = dict(max_pooling=True)
B = dict(max_pooling=False)  # blocks in place of the pooling, levels 7 and 8
C = B | dict(degridding_residual=False)  # no shortcuts in levels 7 and 8
D = C | dict(plain=True)  # (released code) plain convolutions in levels 1, 2, 7 and 8

RESNET: dict[str, tuple[int, ...]] = dict(basic=(64, 128, 256, 512), bottleneck=(256, 512, 1024, 2048))


def _arch(family: dict, block: str, *depths: int) -> dict:
    """An entry of the table: the first two and last two levels are as wide in every network."""
    channels = RESNET[block]
    if not family['max_pooling']:
        channels = (16, 32, *channels, 512, 512)
    return dict(family, block=block, depths=depths, channels=channels)


@MODELS.register_module()
class DRN(LevelBackbone):
    r"""DRN: a ResNet that keeps its resolution from stride 8 on, and dilates instead.

    A ResNet's last two groups halve the map. A DRN keeps its size and dilates later kernels instead:
    :math:`(G *_d f)(p) = \sum_{a + d b = p} G(a) f(b)` with :math:`d = 2`, then 4. There are four
    families; each changes one thing in the one before:

    - A is a ResNet dilated in this way. Levels 1 to 4 are ResNet's groups.
    - B replaces the max pooling, whose maxima dilation would spread into grids, by residual blocks in
      levels 1 and 2. ResNet's groups are levels 3 to 6. Levels 7 and 8, with dilation 2 and 1, smooth
      the grids.
    - C leaves out the shortcuts of levels 7 and 8, which would carry the grids past them.
    - D has plain convolutions in levels 1, 2, 7 and 8 (released code only).

    A level of stride ``s`` is ``ceil(H / s)`` high, so every image size works.

    Source: "Dilated Residual Networks", https://arxiv.org/abs/1705.09914, Sections 2 and 4. Parameter
    names are the released ones. DRN-A has ResNet's names, so it loads ResNet weights of torchvision,
    timm or mmpretrain. Loading drops, by name, the classifier, the shortcut that the released DRN-C-58
    computes and does not add, and levels that were not built.

    Args:
        arch (str | dict): ``'a_18'``, ``'a_34'``, ``'a_50'``, ``'a_101'``, ``'b_26'``, ``'c_26'``,
            ``'c_42'``, ``'c_58'``, ``'d_22'``, ``'d_24'``, ``'d_38'``, ``'d_40'``, ``'d_54'``,
            ``'d_56'``, ``'d_105'`` or ``'d_107'``; or a dict with

            - ``block`` (str | dict | Callable): of ResNet's groups, ``'basic'``, ``'bottleneck'``; or
              the name in a registry of any other block that owns its shortcut; or a dict of such a
              ``type`` and further arguments; or what builds a block (see ``layers/blocks.py``);
            - ``depths`` (Sequence[int]): blocks, or plain convolutions, in each level: 4 numbers with
              ``max_pooling``, and 8, or 6 for no levels 7 and 8, without;
            - ``channels`` (Sequence[int]): channels of each level;
            - ``stem`` (int): channels of the 7x7 convolution. Default: 64 with ``max_pooling``, else
              those of level 1;
            - ``max_pooling`` (bool): A's beginning. Default: False;
            - ``degridding_residual`` (bool): shortcuts in levels 7 and 8. Default: True;
            - ``plain`` (bool): plain convolutions in levels 1, 2, 7 and 8. Default: False.

            Default: ``'c_26'``.
        in_channels (int): Channels of the image. Default: 3.
        out_indices (Sequence[int], optional): Levels to return, ascending, counted from 1 as
            released. Levels past the last are not built. Default: the outputs of ResNet's first three
            groups and of the last level: ``(1, 2, 3, 4)`` with ``max_pooling``, else ``(3, 4, 5, 8)``,
            or ``(3, 4, 5, 6)`` without levels 7 and 8.
        output_stride (int): Largest stride of a level: 8, 16 or 32. With more than 8 the network is
            cheaper and, up to level 6 of B, C and D, computes every second (fourth) value of the same
            function. Default: 8.
        dilation_scheme (str): Dilation of the first block of a dilated group. With ``'released'`` that
            block is not dilated in A (so a group of one block is not dilated at all), and has the
            group's dilation in the other families. With ``'paper'`` its first 3x3 convolution has the
            dilation of the group before (Section 2; 2 in the last group, Figure 1), so that A computes
            the function of a ResNet with the same weights, more densely. Default: ``'released'``.
        frozen_stages (int): The stem (for 0) and levels 1 to ``frozen_stages`` take no gradient and
            keep their batch-norm statistics. Default: -1, none.
        norm_eval (bool): Keep all batch norms in evaluation mode while training. Default: False.
        with_cp (bool | str | Sequence[int]): Activation recomputation; results do not change. True
            stores only the input of each level and recomputes the level in backward: a third more time
            for a fraction of the memory. Numbers of levels do so for these levels only; the shallow
            ones have the largest maps. ``'norm'`` stores the outputs of convolutions and recomputes
            cheap activations: normalization, activation, concatenation. Level 1 includes the stem.
            Default: False.
        conv_cfg (dict, optional): Convolutions. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.
        init_cfg (dict | list[dict], optional): Initialization. ``dict(type='Pretrained',
            checkpoint=PATH_OR_URL)`` takes released files, classifiers or segmentation networks, and
            those of any model that contains this network; for A also ``torchvision://resnet50`` and
            similar. A file that lacks a part of the network is an error, unless the dict has
            ``strict=False``, which initializes that part. Default: None, the released initialization:
            normal with variance 2 / (k^2 out_channels).

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.
        RuntimeError: If ``with_cp='norm'`` and PyTorch is older than 2.4.

    Example:
        >>> import torch
        >>> from mmdla.models import DRN
        >>> model = DRN('d_22').eval()
        >>> for level in model(torch.rand(1, 3, 225, 401)):
        ...     print(tuple(level.shape))
        (1, 64, 57, 101)
        (1, 128, 29, 51)
        (1, 256, 29, 51)
        (1, 512, 29, 51)
    """

    arch_settings = {
        'a_18': _arch(A, 'basic', 2, 2, 2, 2),
        'a_34': _arch(A, 'basic', 3, 4, 6, 3),
        'a_50': _arch(A, 'bottleneck', 3, 4, 6, 3),
        'a_101': _arch(A, 'bottleneck', 3, 4, 23, 3),
        'b_26': _arch(B, 'basic', 1, 1, 2, 2, 2, 2, 1, 1),
        'c_26': _arch(C, 'basic', 1, 1, 2, 2, 2, 2, 1, 1),
        'c_42': _arch(C, 'basic', 1, 1, 3, 4, 6, 3, 1, 1),
        'c_58': _arch(C, 'bottleneck', 1, 1, 3, 4, 6, 3, 1, 1),
        'd_22': _arch(D, 'basic', 1, 1, 2, 2, 2, 2, 1, 1),
        'd_24': _arch(D, 'basic', 1, 1, 2, 2, 2, 2, 2, 2),
        'd_38': _arch(D, 'basic', 1, 1, 3, 4, 6, 3, 1, 1),
        'd_40': _arch(D, 'basic', 1, 1, 3, 4, 6, 3, 2, 2),
        'd_54': _arch(D, 'bottleneck', 1, 1, 3, 4, 6, 3, 1, 1),
        'd_56': _arch(D, 'bottleneck', 1, 1, 3, 4, 6, 3, 2, 2),
        'd_105': _arch(D, 'bottleneck', 1, 1, 3, 4, 23, 3, 1, 1),
        'd_107': _arch(D, 'bottleneck', 1, 1, 3, 4, 23, 3, 2, 2),
    }
    level_name = 'layer{}'

    @deprecated_api_warning(dict(first_dilation='dilation_scheme'), 'DRN')
    def __init__(
        self,
        arch: str | dict = 'c_26',
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        output_stride: int = 8,
        dilation_scheme: str = 'released',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | str | Sequence[int] = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = None,
    ):
        settings = self._settings(arch)
        depths, channels = settings['depths'], settings['channels']
        pooled = settings['max_pooling']
        if out_indices is None:
            out_indices = (1, 2, 3, 4) if pooled else (3, 4, 5, len(depths))
        if output_stride not in (8, 16, 32):
            raise ValueError(f'output_stride={output_stride}: must be 8, 16 or 32')
        if dilation_scheme not in ('released', 'paper'):
            raise ValueError(f"dilation_scheme={dilation_scheme!r}: must be 'released' or 'paper'")
        find_conv(conv_cfg)
        numbers = range(1, len(depths) + 1)
        super().__init__(numbers, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        self.arch = settings
        self.channels = channels
        self.dilation_scheme = dilation_scheme

        layers: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        block = self._block(settings['block'], layers)
        first_group = 1 if pooled else 3  # the level that is ResNet's first group
        width = settings['stem']
        self._build_stem(in_channels, width, layers)
        stride, dilation = 4 if pooled else 1, 1
        for i, depth, out_channels in zip(numbers, depths, channels):
            if i > self.out_indices[-1]:
                break
            group, level_stride, before = i - first_group, 1, dilation
            if group > 3:
                dilation = max(dilation // 2, 1)
            elif i > 1 and stride == output_stride:
                dilation *= 2
            elif i > 1:
                level_stride = 2
                stride *= 2
            level = dict(in_channels=width, out_channels=out_channels)
            level |= dict(stride=level_stride, dilation=dilation)
            if group in range(4):
                first = self._first_dilations(group, before, dilation)
                built = self._group(block, depth, **level, first=first)
            elif settings['plain']:
                built = conv_level(num_convs=depth, **level, **layers)
            else:
                residual = group < 0 or settings['degridding_residual']
                basic = self._block(dict(type='basic', residual=residual), layers)
                built = self._group(basic, depth, **level)
            self.add_module(f'layer{i}', built)
            width = out_channels
        self._freeze()

    @classmethod
    def _settings(cls, arch: str | dict) -> dict:
        """A checked copy of the table's entry, or of a user's dict with its defaults filled in."""
        if isinstance(arch, Mapping):
            arch = rename_keys(arch, dict(residual='degridding_residual'))
        optional = dict(stem=None, max_pooling=False, degridding_residual=True, plain=False)
        settings = cls._complete(arch, ('block', 'depths', 'channels'), optional)
        for key in ('max_pooling', 'degridding_residual', 'plain'):
            if not isinstance(settings[key], bool):
                raise ValueError(f'arch[{key!r}]={settings[key]!r}: must be True or False')
        pooled = settings['max_pooling']
        if pooled and (settings['plain'] or not settings['degridding_residual']):
            raise ValueError(
                'arch: with max_pooling=True there are no levels that plain=True or '
                'degridding_residual=False could change'
            )
        lengths = (4,) if pooled else (6, 8)
        for key in ('depths', 'channels'):
            values = settings[key] = as_tuple(f'arch[{key!r}]', settings[key])
            if len(values) not in lengths or not all(type(v) is int and v > 0 for v in values):
                raise ValueError(
                    f'arch[{key!r}]={values}: must be {" or ".join(map(str, lengths))} positive '
                    f'integers, one for each level, with max_pooling={pooled}'
                )
        if len(settings['depths']) != len(settings['channels']):
            raise ValueError(
                f'arch: depths={settings["depths"]} and channels={settings["channels"]} must be of one '
                'length'
            )
        if settings['stem'] is None:
            settings['stem'] = 64 if pooled else settings['channels'][0]
        if type(settings['stem']) is not int or settings['stem'] < 1:
            raise ValueError(f"arch['stem']={settings['stem']!r}: must be a positive integer")
        return settings

    @staticmethod
    def _block(spec: str | dict | Callable, layers: dict) -> partial:
        """A callable that builds a block, from ``arch['block']``."""
        block = layer_builder(spec, "arch['block']", RESIDUAL_BLOCKS, BLOCK_ARGUMENTS, layers)
        if getattr(block.func, 'takes_shortcut', False):
            raise ValueError(
                f"arch['block']={spec!r}: leaves its shortcut to its stage, as DLA's blocks do; must "
                f'be one of {sorted(RESIDUAL_BLOCKS)} or another block that owns it'
            )
        return block

    def _build_stem(self, in_channels: int, width: int, layers: dict) -> None:
        """The 7x7 convolution, named as released: ``layer0`` in D, ``conv1`` and ``bn1`` else."""
        pooled = self.arch['max_pooling']
        if self.arch['plain']:
            self.layer0 = conv_norm_act(in_channels, width, 7, **layers)
        else:
            stride = 2 if pooled else 1
            self.conv1 = conv(in_channels, width, 7, stride, conv_cfg=layers['conv_cfg'])
            self.bn1 = norm(width, layers['norm_cfg'])
            self.relu = act(layers['act_cfg'])
        if pooled:
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def _first_dilations(self, group: int, before: int, dilation: int) -> dict:
        """Dilation of the first block of a group of ResNet, and that of its first 3x3 convolution."""
        if self.dilation_scheme == 'paper' or group < 2:
            return dict(dilation=dilation, first_dilation=before)
        if self.arch['max_pooling']:
            return dict(dilation=1, first_dilation=1)
        # The group's own, in steps of its input, which may have twice the output's resolution.
        return dict(dilation=dilation, first_dilation=2 * before)

    @staticmethod
    def _group(
        block: Callable,
        depth: int,
        in_channels: int,
        out_channels: int,
        stride: int,
        dilation: int,
        first: dict | None = None,
    ) -> Sequential:
        """Blocks in a row; ``first`` has the arguments of dilation of the first one."""
        own = dict(dilation=dilation, first_dilation=dilation)
        rest = dict(in_channels=out_channels, out_channels=out_channels, stride=1, **own)
        blocks = [
            block(in_channels=in_channels, out_channels=out_channels, stride=stride, **(first or own))
        ]
        return Sequential(*blocks, *(block(**rest) for _ in range(depth - 1)))

    def stem(self, x: Tensor) -> Tensor:
        """The layers before level 1: the 7x7 convolution and, in A, max pooling."""
        if self.arch['plain']:
            return self.layer0(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.maxpool(x) if self.arch['max_pooling'] else x

    def stem_modules(self) -> list[nn.Module]:
        """The modules that :meth:`stem` runs."""
        modules = [self.layer0] if self.arch['plain'] else [self.conv1, self.bn1, self.relu]
        return [*modules, self.maxpool] if self.arch['max_pooling'] else modules

    def dropped(self) -> tuple[str, ...]:
        """Prefixes of parameters in released files that this network does not use."""
        names = super().dropped()
        if not self.arch['max_pooling'] and not self.arch['degridding_residual']:
            names += ('layer7.0.downsample.', 'layer8.0.downsample.')
        return names
