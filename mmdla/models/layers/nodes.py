"""Aggregation nodes, which join two or more feature maps into one.

A node is built as ``node(in_channels=[...], out_channels=..., deepest=...)``, ``deepest`` being the
position of the deepest input, and called with the feature maps, which have one size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .builder import layer_builder
from .conv import ACT_CFG, NORM_CFG, act, conv, norm


@MODELS.register_module()
class AggregationNode(nn.Module):
    r"""Aggregation node ``N``, with and without the residual term.

    .. math::
        N(x_1, \dots, x_n) = \sigma(\mathrm{BN}(\textstyle\sum_i W_i x_i + b) [\, + x_n ])

    where :math:`x_n` is the deepest input. The sum is one convolution of the concatenated inputs.

    Args:
        in_channels (Sequence[int]): Channels of each input.
        out_channels (int): Channels of the output.
        kernel_size (int): 1 for classification, 3 for dense prediction. Default: 1.
        residual (bool): Add the deepest input before the activation. Default: False.
        deepest (int): Position of the deepest input. Default: 0, as :class:`HDA` lists them.
        bias (bool): Whether the convolution has the paper's ``b``. The released code has none, since
            batch norm adds its own. Default: False.
        names (tuple[str, str]): State-dict names of convolution and normalization. They are ``conv``
            and ``bn`` in the released trees, ``0`` and ``1`` in the released IDA-up.
            Default: ``('conv', 'bn')``.
        conv_cfg (dict, optional): Convolution. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Raises:
        ValueError: If ``residual`` and the deepest input does not have ``out_channels`` channels.

    Source: Section 3.3, "Architectural Elements"; released ``dla.py``, ``Root``.

    Example:
        >>> node = AggregationNode([64, 64, 32], 64)
        >>> node(*(torch.rand(1, c, 8, 8) for c in (64, 64, 32))).shape
        torch.Size([1, 64, 8, 8])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel_size: int = 1,
        residual: bool = False,
        deepest: int = 0,
        bias: bool = False,
        names: tuple[str, str] = ('conv', 'bn'),
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        if residual and in_channels[deepest] != out_channels:
            raise ValueError(
                f'residual=True adds the deepest input, which has {in_channels[deepest]} channels, to '
                f'an output of {out_channels}: they must be equal'
            )
        self.residual = residual
        self.deepest = deepest
        self.conv_name, self.norm_name = names
        self.add_module(
            self.conv_name,
            conv(sum(in_channels), out_channels, kernel_size, bias=bias, conv_cfg=conv_cfg),
        )
        self.add_module(self.norm_name, norm(out_channels, norm_cfg))
        self.act = act(act_cfg)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Aggregate feature maps of one size."""
        y = getattr(self, self.conv_name)(torch.cat(inputs, 1))
        y = getattr(self, self.norm_name)(y)
        if self.residual:
            y += inputs[self.deepest]
        return self.act(y)


@MODELS.register_module()
class SumNode(nn.Module):
    r"""Node that adds its inputs before one convolution: the CenterNet family's.

    .. math::
        N(x_1, \dots, x_n) = \sigma(\mathrm{BN}(W \textstyle\sum_i x_i + b))

    Args:
        in_channels (Sequence[int]): Channels of each input; equal.
        out_channels (int): Channels of the output.
        kernel_size (int): Default: 3.
        deepest (int): Not used, since all inputs are treated alike. Default: 0.
        bias (bool): Default: True, as their deformable convolutions have.
        conv_cfg (dict, optional): Convolution; theirs are ``dict(type='DCNv2', deform_groups=1)``,
            which needs mmcv's compiled ops. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Raises:
        ValueError: If the inputs differ in channels.

    Source: Zhou et al., "Objects as Points", 2019; released ``pose_dla_dcn.py``, ``IDAUp``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel_size: int = 3,
        deepest: int = 0,
        bias: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        if len(set(in_channels)) != 1:
            raise ValueError(
                f'in_channels={list(in_channels)}: must be equal, since the inputs are added'
            )
        self.conv = conv(in_channels[0], out_channels, kernel_size, bias=bias, conv_cfg=conv_cfg)
        self.bn = norm(out_channels, norm_cfg)
        self.act = act(act_cfg)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Aggregate feature maps of one size."""
        return self.act(self.bn(self.conv(sum(inputs[1:], inputs[0]))))


@MODELS.register_module()
class PooledNode(nn.Module):
    r"""Node over maps of several strides, which max-pools them to the size of the deepest.

    .. math::
        P(x_1, \dots, x_n) = N(\mathrm{pool}(x_1), \dots, \mathrm{pool}(x_{n-1}), x_n)

    where :math:`x_n` is the deepest input and each pooling is adaptive, to the height and width of
    :math:`x_n`.

    Args:
        in_channels (Sequence[int]): Channels of each input.
        out_channels (int): Channels of the output.
        deepest (int): Position of the deepest, and so smallest, input. Default: 0.
        node (Callable | str | dict): Builds the node inside. Default: :class:`AggregationNode`.

    Raises:
        ValueError: If the inputs do not have ``in_channels`` channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        deepest: int = 0,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
    ):
        super().__init__()
        self.in_channels = list(in_channels)
        self.deepest = deepest % len(in_channels)
        self.node = node_builder(node)(
            in_channels=in_channels, out_channels=out_channels, deepest=deepest
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Aggregate feature maps of any sizes, none smaller than the deepest."""
        found = [x.shape[1] for x in inputs]
        if found != self.in_channels:
            raise ValueError(f'inputs: feature maps of {found} channels, built for {self.in_channels}')
        size = inputs[self.deepest].shape[2:]
        pooled = [
            x if i == self.deepest else F.adaptive_max_pool2d(x, size) for i, x in enumerate(inputs)
        ]
        return self.node(*pooled)


def node_builder(
    spec: str | dict | Callable = {},
    residual: bool = False,
    default: Callable[..., nn.Module] = AggregationNode,
    **offers: Any,
) -> partial:
    """Turn a config's ``node`` into a callable that builds it.

    Args:
        spec (str | dict | Callable): Further arguments of ``default``, or a dict with a ``type``, a
            registered name, or the callable itself; see :func:`layer_builder`. Default: ``{}``.
        residual (bool): Whether the node has to be residual. Default: False.
        default (Callable): The node of a ``spec`` without a type. Default: :class:`AggregationNode`.
        **offers: Arguments for a node that has parameters of these names, unless ``spec`` sets them.

    Returns:
        partial: Builds a node from ``in_channels``, ``out_channels`` and ``deepest``.

    Raises:
        TypeError: See :func:`layer_builder`.
        ValueError: See :func:`layer_builder`; or if the node must be residual and has no argument
            ``residual``.
    """
    if isinstance(spec, Mapping):
        spec = dict(type=default) | dict(spec)
    if residual:
        offers['residual'] = True
    needs = ('in_channels', 'out_channels', 'deepest')
    build = layer_builder(spec, 'node', needs=needs, offers=offers)
    if residual and 'residual' not in build.keywords:
        raise ValueError(
            f'node={spec!r}: must accept the argument residual, since the architecture has residual '
            'nodes; otherwise give arch as a dict with residual_nodes=False'
        )
    return build
