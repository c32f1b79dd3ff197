"""Convolution, normalization and activation, built from OpenMMLab configs."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmengine.model import Sequential
from mmengine.registry import MODELS
from torch import nn

NORM_CFG = dict(type='BN')
ACT_CFG = dict(type='ReLU')
# Section 4 and released code: normal weights of variance 2 / (k^2 out_channels), batch norm 1 and 0.
PAPER_INIT = [
    dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu'),
    dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1, bias=0),
]
# Activations whose backward needs only their output, so that working in place saves memory.
_INPLACE = {'ReLU', 'LeakyReLU', 'ReLU6', 'ELU'}


def find_conv(conv_cfg: dict | None) -> None:
    """Import mmcv's compiled operators if the convolution is one of them, so that it is registered.

    Raises:
        ValueError: If there is no such convolution.
    """
    kind = (conv_cfg or {}).get('type', 'Conv2d')
    if not isinstance(kind, str):
        return
    with MODELS.switch_scope_and_registry(None) as registry:
        if registry.get(kind) is None:
            with suppress(ImportError):
                import mmcv.ops  # noqa: F401
        if registry.get(kind) is None:
            raise ValueError(
                f'conv_cfg={conv_cfg}: no convolution {kind!r} is registered; DCNv2 and its like need '
                'an mmcv with compiled ops'
            )


class OwnInit(nn.Module):
    """Calls ``init_weights`` of all nested layers that have it, such as DCNv2's.

    mmengine calls it for a module's direct children only, after the general initialization and before
    a ``Pretrained`` one.
    """

    def init_weights(self) -> None:
        """Call ``init_weights`` of the nested layers that have it."""
        _init_own(self)


def _init_own(module: nn.Module) -> None:
    for child in module.children():
        init_weights = getattr(child, 'init_weights', None)
        if init_weights is None:
            _init_own(child)
        elif not getattr(child, 'is_init', False):
            init_weights()


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    conv_cfg: dict | None = None,
) -> nn.Module:
    """Convolution of odd kernel size, padded so that stride 1 keeps the size.

    Raises:
        ValueError: If the kernel size is even.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f'kernel_size={kernel_size}: must be odd, for the size to be kept')
    return build_conv_layer(
        conv_cfg,
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def norm(channels: int, norm_cfg: dict = NORM_CFG) -> nn.Module:
    """Normalization layer of ``channels`` channels.

    The number of groups of a group norm is reduced to a divisor of the channels: the networks begin
    with 16 channels, where mmdet3d's DLANet halves its 32 groups too.
    """
    if norm_cfg['type'] == 'GN':
        norm_cfg = norm_cfg | dict(num_groups=math.gcd(norm_cfg['num_groups'], channels))
    return build_norm_layer(norm_cfg, channels)[1]


def in_place(act_cfg: dict) -> dict:
    """The activation's config, in place where its type can be unless the config says otherwise."""
    return dict(inplace=True) | act_cfg if act_cfg['type'] in _INPLACE else act_cfg


def act(act_cfg: dict = ACT_CFG) -> nn.Module:
    """Activation, in place where its type can be unless the config says otherwise."""
    return build_activation_layer(in_place(act_cfg))


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = NORM_CFG,
) -> Sequential:
    r"""Convolution without bias and normalization, :math:`\mathrm{BN}(W x)`, named ``0`` and ``1``."""
    return Sequential(
        conv(in_channels, out_channels, kernel_size, stride, dilation, conv_cfg=conv_cfg),
        norm(out_channels, norm_cfg),
    )


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = NORM_CFG,
    act_cfg: dict = ACT_CFG,
) -> Sequential:
    r""":math:`\sigma(\mathrm{BN}(W x))`: convolution, normalization, activation; ``0`` to ``2``."""
    layers = conv_norm(in_channels, out_channels, kernel_size, stride, dilation, conv_cfg, norm_cfg)
    layers.append(act(act_cfg))
    return layers


def conv_activated(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = NORM_CFG,
    act_cfg: dict = ACT_CFG,
) -> Sequential:
    r""":math:`\sigma(\mathrm{BN}(W x))` as AFA-DLA's released code names it, ``0`` and ``1.0``.

    Normalization and activation are one layer there, which may be an InPlace-ABN.
    """
    return Sequential(
        conv(in_channels, out_channels, kernel_size, conv_cfg=conv_cfg),
        Sequential(norm(out_channels, norm_cfg), act(act_cfg)),
    )


def conv_level(
    in_channels: int,
    out_channels: int,
    num_convs: int,
    stride: int = 1,
    dilation: int = 1,
    **layers: Any,
) -> Sequential:
    """A level of ``num_convs`` 3x3 convolutions, each with its normalization and activation.

    The first has the stride. The layers are named ``0`` to ``3 * num_convs - 1``.
    """
    level = conv_norm_act(in_channels, out_channels, 3, stride, dilation, **layers)
    for _ in range(num_convs - 1):
        level.extend(conv_norm_act(out_channels, out_channels, 3, 1, dilation, **layers))
    return level
