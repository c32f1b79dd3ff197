"""mmpretrain's blocks as blocks of DLA: ``arch=dict(block=dict(type='mmdla.ConvNeXtBlock'), ...)``.

Each is mmpretrain's block with the arguments that ``blocks.py`` describes. They own their shortcut, so
the stages neither pool nor project one for them. Parameter names are mmpretrain's, except those of the
layers that bring an input to the block's stride and width.
"""

from __future__ import annotations

from typing import Any

from mmpretrain.models.backbones import convnext, repvgg, resnet, resnext
from mmpretrain.models.utils import InvertedResidual as _InvertedResidual
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from ...registry import MODELS
from .blocks import strided
from .conv import ACT_CFG, NORM_CFG, conv_norm, in_place


def _dilate(conv: nn.Conv2d, dilation: int) -> None:
    """Give a convolution dilation in place of its stride."""
    conv.stride = (1, 1)
    conv.dilation = (dilation, dilation)
    conv.padding = tuple(dilation * (k // 2) for k in conv.kernel_size)


class _ResNetArguments(nn.Module):
    """The arguments of ResNet's blocks, from those of a block of DLA."""

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
        **kwargs: Any,
    ):
        expansion = kwargs.get('expansion', 1)
        if out_channels % expansion:
            raise ValueError(
                f'out_channels={out_channels}: must be a multiple of expansion={expansion}'
            )
        shortcut = None
        if strided(stride, dilation, first_dilation) or in_channels != out_channels:
            shortcut = conv_norm(
                in_channels, out_channels, 1, stride, conv_cfg=conv_cfg, norm_cfg=norm_cfg
            )
        super().__init__(
            in_channels,
            out_channels,
            stride=stride,
            dilation=first_dilation or dilation,
            downsample=shortcut,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=in_place(act_cfg),
            **kwargs,
        )


@MODELS.register_module()
class ResNetBasicBlock(_ResNetArguments, resnet.BasicBlock):
    """ResNet-18's and -34's block, with a strided 1x1 convolution as its shortcut.

    The shortcut of DLA's own basic block is the projected, max-pooled input instead.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2. Default: 1.
        dilation (int): Dilation of the second convolution. Default: 1.
        first_dilation (int, optional): Dilation of the first. Default: ``dilation``.
        conv_cfg, norm_cfg, act_cfg (dict): As in mmpretrain.
        **kwargs: Of mmpretrain's block: ``drop_path_rate``, ``with_cp``.
    """

    conv2: nn.Conv2d

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, **kwargs: Any
    ):
        if kwargs.get('expansion', 1) != 1:
            raise ValueError(f'expansion={kwargs["expansion"]}: must be 1 for a basic block')
        super().__init__(in_channels, out_channels, stride, dilation, **kwargs)
        _dilate(self.conv2, dilation)


@MODELS.register_module()
class ResNetBottleneck(_ResNetArguments, resnet.Bottleneck):
    """ResNet-50's block; its 3x3 convolution has a quarter of ``out_channels``.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2. Default: 1.
        dilation, first_dilation (int, optional): Dilation of the 3x3 convolution: the second, where
            it is given. Default: 1.
        conv_cfg, norm_cfg, act_cfg (dict): As in mmpretrain.
        expansion (int): ``out_channels`` in multiples of the 3x3 convolution's. Default: 4.
        **kwargs: Of mmpretrain's block: ``drop_path_rate``, ``with_cp`` ...

    Raises:
        ValueError: If ``out_channels`` is no multiple of ``expansion``.
    """

    def __init__(self, *args: Any, expansion: int = 4, **kwargs: Any):
        super().__init__(*args, expansion=expansion, **kwargs)


@MODELS.register_module()
class ResNeXtBottleneck(_ResNetArguments, resnext.Bottleneck):
    """ResNeXt's block, by default 32x4d.

    Args:
        out_channels (int): Channels of the output: a group is ``width_per_group`` wide at 256 and in
            proportion elsewhere.
        groups (int): Default: 32.
        width_per_group (int): Default: 4.
        **kwargs: As :class:`ResNetBottleneck`.

    Raises:
        ValueError: If the width of a group would not be an integer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *args: Any,
        groups: int = 32,
        width_per_group: int = 4,
        expansion: int = 4,
        **kwargs: Any,
    ):
        if out_channels * width_per_group % 256:
            raise ValueError(
                f'out_channels={out_channels}: a group would be {out_channels * width_per_group}/256 '
                f'wide; must be a multiple of {256 // width_per_group} with '
                f'width_per_group={width_per_group}'
            )
        super().__init__(
            in_channels,
            out_channels,
            *args,
            groups=groups,
            # mmpretrain scales from 64 inner channels and takes multiples of these only.
            width_per_group=out_channels * width_per_group // 256,
            base_channels=out_channels // expansion,
            expansion=expansion,
            **kwargs,
        )


@MODELS.register_module()
class ConvNeXtBlock(convnext.ConvNeXtBlock):
    """ConvNeXt's block, after ConvNeXt's downsampling where stride or width change.

    Downsampling is layer norm and a 2x2 convolution, padded at the bottom and right so that sizes are
    rounded up. Normalization is ConvNeXt's, whatever the backbone's ``norm_cfg``.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2. Default: 1.
        dilation (int): Dilation of the depthwise convolution. Default: 1.
        first_dilation (int, optional): Dilation of the 2x2 convolution. Default: ``dilation``.
        kernel_size (int): Of the depthwise convolution. Default: 7.
        mlp_ratio (float): Default: 4.
        layer_scale_init_value (float): Default: 1e-6.
        drop_path_rate (float): Default: 0.
        use_grn (bool): Global response normalization, ConvNeXt V2's. Default: False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        kernel_size: int = 7,
        mlp_ratio: float = 4.0,
        layer_scale_init_value: float = 1e-6,
        drop_path_rate: float = 0.0,
        use_grn: bool = False,
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size}: must be odd, for the size to be kept')
        super().__init__(
            out_channels,
            dw_conv_cfg=dict(
                kernel_size=kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation
            ),
            mlp_ratio=mlp_ratio,
            layer_scale_init_value=layer_scale_init_value,
            drop_path_rate=drop_path_rate,
            use_grn=use_grn,
        )
        self.downsample: nn.Module = nn.Identity()
        if strided(stride, dilation, first_dilation):
            d = first_dilation or dilation
            self.downsample = nn.Sequential(
                LayerNorm2d(in_channels, eps=1e-6),
                nn.ZeroPad2d((0, d, 0, d)),
                nn.Conv2d(in_channels, out_channels, 2, stride=stride, dilation=d),
            )
        elif in_channels != out_channels:
            self.downsample = nn.Sequential(
                LayerNorm2d(in_channels, eps=1e-6), nn.Conv2d(in_channels, out_channels, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.downsample(x))


@MODELS.register_module()
class InvertedResidual(_InvertedResidual):
    """MobileNetV2's block, whose output has no activation.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2. Default: 1.
        dilation, first_dilation (int, optional): Dilation of the depthwise convolution: the second,
            where it is given. Default: 1.
        expand_ratio (int): Inner channels, in multiples of ``in_channels``. Default: 6.
        conv_cfg, norm_cfg, act_cfg (dict): As in mmpretrain.
        **kwargs: Of mmpretrain's block: ``kernel_size`` (3), ``drop_path_rate``, ``with_cp``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        expand_ratio: int = 6,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
        **kwargs: Any,
    ):
        super().__init__(
            in_channels,
            out_channels,
            in_channels * expand_ratio,
            stride=stride,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            **kwargs,
        )
        dilations = first_dilation or dilation
        if dilations > 1:
            _dilate(self.depthwise_conv.conv, dilations)
        if strided(stride, dilation, first_dilation):
            self.with_res_shortcut = False


@MODELS.register_module()
class RepVGGBlock(repvgg.RepVGGBlock):
    """RepVGG's block; ``switch_to_deploy()`` makes it one convolution after training.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2. Default: 1.
        dilation, first_dilation (int, optional): Dilation of the 3x3 convolution: the second, where
            it is given. Default: 1.
        conv_cfg, norm_cfg, act_cfg (dict): As in mmpretrain.
        **kwargs: Of mmpretrain's block: ``groups``, ``se_cfg``, ``with_cp``, ``deploy``.
    """

    stride: int

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
        **kwargs: Any,
    ):
        d = first_dilation or dilation
        super().__init__(
            in_channels,
            out_channels,
            # With dilation in place of a stride it has the layers of a strided block: no identity.
            stride=2 if strided(stride, dilation, first_dilation) else 1,
            padding=d,
            dilation=d,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            **kwargs,
        )
        if self.stride != stride:
            self.stride = stride
            if self.deploy:
                _dilate(self.branch_reparam, d)
            else:
                _dilate(self.branch_3x3.conv, d)
                _dilate(self.branch_1x1.conv, 1)
