"""The residual blocks ``B`` that are aggregated.

A block is any module that is built as ``Block(in_channels=..., out_channels=..., stride=...)`` and
turns (N, in_channels, H, W) into (N, out_channels, ceil(H / stride), ceil(W / stride)). Its attribute
``takes_shortcut`` says how it is called:

- False, or no such attribute: ``block(x)``. The block owns its shortcut, if it has one: it projects it
  where ``in_channels`` and ``out_channels`` differ and brings it to its stride. ResNet's blocks are of
  this kind, and so are DRN's at the end of this file and other libraries' (``mmpretrain_blocks.py`` has
  mmpretrain's).
- True, as in DLA's blocks: the first block of a stage is called as ``block(x, shortcut)``, the others
  as ``block(x)``, whose shortcut is ``x``. The stage pools and projects the first one's, as the
  released code does, because it aggregates the pooled input too.

A block must not change its input in place, since nodes and users of the level read it too.

A block that can be dilated also takes ``dilation`` and ``first_dilation``; an output stride below 32
asks for them. ``first_dilation`` is the dilation of the convolution that would have the stride, and of
those before it, whose input has the old density. Those after it have ``dilation``, since their input is
twice as dense. ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` are passed to a block that has these
arguments or ``**kwargs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .conv import ACT_CFG, NORM_CFG, act, conv, conv_norm, norm


def strided(stride: int, dilation: int, first_dilation: int | None) -> bool:
    """Whether a block has a stride, or dilation in a stride's place."""
    return stride > 1 or first_dilation not in (None, dilation)


@MODELS.register_module('DLABasicBlock')
class BasicBlock(nn.Module):
    r"""Two 3x3 convolutions, :math:`y = \sigma(W_2 \sigma(W_1 x) + s)`.

    Normalization after each convolution is left out of the equations here.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution. Default: 1.
        dilation (int): Dilation. Default: 1.
        first_dilation (int, optional): Dilation of the first 3x3 convolution. Default: ``dilation``.
        conv_cfg (dict, optional): Convolution. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: He et al., 2016; released ``dla.py``, ``BasicBlock``.
    """

    takes_shortcut = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        first_dilation = first_dilation or dilation
        self.conv1 = conv(in_channels, out_channels, 3, stride, first_dilation, conv_cfg=conv_cfg)
        self.bn1 = norm(out_channels, norm_cfg)
        self.conv2 = conv(out_channels, out_channels, 3, 1, dilation, conv_cfg=conv_cfg)
        self.bn2 = norm(out_channels, norm_cfg)
        self.act = act(act_cfg)

    def branch(self, x: Tensor) -> Tensor:
        """The block without its shortcut and last activation."""
        y = self.act(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        y = self.branch(x)
        y += x if shortcut is None else shortcut
        return self.act(y)


@MODELS.register_module('DLABottleneck')
class Bottleneck(nn.Module):
    r"""1x1, 3x3 and 1x1 convolution, :math:`y = \sigma(W_3 \sigma(W_2 \sigma(W_1 x)) + s)`.

    The inner width is ``out_channels / 2`` with one group. :class:`SplitBottleneck` is the same with
    several groups.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the 3x3 convolution. Default: 1.
        dilation (int): Dilation. Default: 1.
        first_dilation (int, optional): Dilation of the 3x3 convolution. Default: ``dilation``.
        conv_cfg (dict, optional): Convolution. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Raises:
        ValueError: If ``out_channels`` is below 2.

    Source: released ``dla.py``, ``Bottleneck``.
    """

    takes_shortcut = True
    groups = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        width = self.inner_width(out_channels)
        first_dilation = first_dilation or dilation
        self.conv1 = conv(in_channels, width, 1, conv_cfg=conv_cfg)
        self.bn1 = norm(width, norm_cfg)
        self.conv2 = conv(width, width, 3, stride, first_dilation, self.groups, conv_cfg=conv_cfg)
        self.bn2 = norm(width, norm_cfg)
        self.conv3 = conv(width, out_channels, 1, conv_cfg=conv_cfg)
        self.bn3 = norm(out_channels, norm_cfg)
        self.act = act(act_cfg)

    def inner_width(self, out_channels: int) -> int:
        """Channels of the 3x3 convolution."""
        if out_channels < 2:
            raise ValueError(f'out_channels={out_channels}: must be 2 or more')
        return out_channels // 2

    def branch(self, x: Tensor) -> Tensor:
        """The block without its shortcut and last activation."""
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        y = self.branch(x)
        y += x if shortcut is None else shortcut
        return self.act(y)


@MODELS.register_module('DLASplitBottleneck')
class SplitBottleneck(Bottleneck):
    r"""Bottleneck whose 3x3 convolution is split into groups: the "X" of DLA-X.

    :math:`y = \sigma(W_3 \sigma(W_2 \sigma(W_1 x)) + s)` with a block-diagonal :math:`W_2`.
    The inner width is ``out_channels * groups / 32``.

    Args:
        groups (int): Groups of the 3x3 convolution. Default: 32.

    The other arguments are :class:`Bottleneck`'s.

    Raises:
        ValueError: If ``out_channels`` is not a multiple of 32.

    Source: Section 4.1 (after ResNeXt); released ``dla.py``, ``BottleneckX``.
    """

    def __init__(self, *args: Any, groups: int = 32, **kwargs: Any):
        self.groups = groups
        super().__init__(*args, **kwargs)

    def inner_width(self, out_channels: int) -> int:
        if out_channels % 32:
            raise ValueError(
                f'out_channels={out_channels}: must be a multiple of 32, so that the width of a group '
                'is an integer'
            )
        return out_channels * self.groups // 32


@MODELS.register_module('DLARes2NetBlock')
class Res2NetBlock(nn.Module):
    r"""Bottleneck whose 3x3 convolution is a cascade over ``scale`` slices of the channels.

    With slices :math:`x_1 \dots x_s` of the first convolution's output,
    :math:`y_i = \sigma(W_i (x_i + y_{i-1}))`, :math:`y_1 = \sigma(W_1 x_1)` and :math:`y_s = x_s`.
    In a block with a stride (or dilation in its place) the slices are not added and the last one is
    average-pooled.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the 3x3 convolutions. Default: 1.
        dilation (int): Dilation. Default: 1.
        first_dilation (int, optional): Dilation of the 3x3 convolutions. Default: ``dilation``.
        scale (int): Number of slices, 2 or more. Default: 4.
        groups (int): Groups of each 3x3 convolution. Default: 1.
        base_width (int): Width of a slice and group at 64 channels, before halving. Default: 28.
        conv_cfg (dict, optional): Convolution. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Raises:
        ValueError: If ``scale`` is below 2, or ``out_channels`` leaves no width to a slice.

    Source: Gao et al., "Res2Net", 2019; the weights are timm's ``dla60_res2net`` and
    ``dla60_res2next``.
    """

    takes_shortcut = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        scale: int = 4,
        groups: int = 1,
        base_width: int = 28,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        self.stride = stride
        self.is_first = strided(stride, dilation, first_dilation)
        self.pool_dilation = first_dilation = first_dilation or dilation
        self.width = width = out_channels * base_width // 64 * groups // 2
        if scale < 2:
            raise ValueError(f'scale={scale}: must be 2 or more')
        if width < 1 or width % groups:
            raise ValueError(
                f'out_channels={out_channels}: with base_width={base_width} a slice would be {width} '
                f'wide, which must be a multiple of groups={groups}; multiples of 64 always work'
            )
        self.conv1 = conv(in_channels, width * scale, 1, conv_cfg=conv_cfg)
        self.bn1 = norm(width * scale, norm_cfg)
        self.convs = nn.ModuleList(
            conv(width, width, 3, stride, first_dilation, groups, conv_cfg=conv_cfg)
            for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(norm(width, norm_cfg) for _ in range(scale - 1))
        self.conv3 = conv(width * scale, out_channels, 1, conv_cfg=conv_cfg)
        self.bn3 = norm(out_channels, norm_cfg)
        self.act = act(act_cfg)

    def branch(self, x: Tensor) -> Tensor:
        """The block without its shortcut and last activation."""
        *slices, last = self.act(self.bn1(self.conv1(x))).split(self.width, 1)
        outs: list[Tensor] = []
        for piece, conv3x3, bn in zip(slices, self.convs, self.bns):
            if outs and not self.is_first:
                piece = piece + outs[-1]
            outs.append(self.act(bn(conv3x3(piece))))
        outs.append(self._average(last) if self.is_first else last)
        return self.bn3(self.conv3(torch.cat(outs, 1)))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        y = self.branch(x)
        y += x if shortcut is None else shortcut
        return self.act(y)

    def _average(self, x: Tensor) -> Tensor:
        """Mean of the 3x3 neighbourhood that the convolutions beside it see."""
        if self.pool_dilation == 1:
            return F.avg_pool2d(x, 3, self.stride, 1)
        # PyTorch's average pooling has no dilation; a convolution with 1/9 everywhere is the same.
        d = self.pool_dilation
        kernel = x.new_full((x.shape[1], 1, 3, 3), 1 / 9)
        return F.conv2d(x, kernel, padding=d, dilation=d, groups=x.shape[1])


class _OwnShortcut(nn.Module):
    r"""A block of DLA that owns its shortcut, as ResNet's do: :math:`y = \sigma(F(x) + W_s x)`.

    :math:`F` is the block's branch; :math:`W_s` is the identity where shapes are equal.
    """

    takes_shortcut = False
    # Of the block that is the other base class.
    branch: Callable[[Tensor], Tensor]
    act: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        residual: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__(
            in_channels,
            out_channels,
            stride,
            dilation,
            first_dilation,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        self.residual = residual
        self.downsample = None
        if residual and (stride > 1 or in_channels != out_channels):
            self.downsample = conv_norm(
                in_channels, out_channels, 1, stride, conv_cfg=conv_cfg, norm_cfg=norm_cfg
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.residual:
            y += x if self.downsample is None else self.downsample(x)
        return self.act(y)


@MODELS.register_module('DRNBasicBlock')
class ResidualBasicBlock(_OwnShortcut, BasicBlock):  # type: ignore[misc]
    r"""Two 3x3 convolutions and their own shortcut, :math:`y = \sigma(W_2 \sigma(W_1 x) + W_s x)`.

    :math:`W_s` is a 1x1 convolution where stride or width change, and the identity elsewhere.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution and of the shortcut. Default: 1.
        dilation (int): Dilation. Default: 1.
        first_dilation (int, optional): Dilation of the first 3x3 convolution. Default: ``dilation``.
        residual (bool): Add the shortcut. If False, as in the last levels of DRN-C,
            :math:`y = \sigma(W_2 \sigma(W_1 x))`. Default: True.
        conv_cfg (dict, optional): Convolution. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: He et al., 2016; released ``drn.py``, ``BasicBlock``.
    """


@MODELS.register_module('DRNBottleneck')
class ResidualBottleneck(_OwnShortcut, Bottleneck):  # type: ignore[misc]
    r"""1x1, 3x3 and 1x1 convolution and their own shortcut.

    :math:`y = \sigma(W_3 \sigma(W_2 \sigma(W_1 x)) + W_s x)`; the 3x3 convolution has a quarter of
    ``out_channels``. Arguments are :class:`ResidualBasicBlock`'s; the 3x3 convolution takes stride and
    ``first_dilation``.

    Raises:
        ValueError: If ``out_channels`` is below 4.

    Source: He et al., 2016; released ``drn.py``, ``Bottleneck``.
    """

    def inner_width(self, out_channels: int) -> int:
        if out_channels < 4:
            raise ValueError(f'out_channels={out_channels}: must be 4 or more')
        return out_channels // 4


# Short names, for configs.
BLOCKS = dict(basic=BasicBlock, bottleneck=Bottleneck, split=SplitBottleneck, res2net=Res2NetBlock)
RESIDUAL_BLOCKS = dict(basic=ResidualBasicBlock, bottleneck=ResidualBottleneck)
