"""Attentive feature aggregation: attention over pixels and channels, levels and scales.

"Dense Prediction with Attentive Feature Aggregation" (Yang, Huang, Sun, Rota Bulò, Kontschieder, Yu;
WACV 2023), one class an equation. Parameters have the released names. Every class has a method that
returns its attention maps, for figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import Sequential
from mmengine.registry import MODELS
from torch import Tensor, nn

from .aggregation import check_number
from .builder import as_tuple
from .conv import ACT_CFG, NORM_CFG, conv, conv_activated
from .upsampling import resize


@MODELS.register_module()
class SpatialAttention(nn.Module):
    r"""Spatial attention: how much each pixel counts.

    .. math::
        \mathrm{SA}(x) = \mathrm{sigmoid}(z), \qquad
        z = w^\top \sigma(\mathrm{BN}(W_2\, \sigma(\mathrm{BN}(W_1 x))))

    where :math:`W_1` and :math:`W_2` are 3x3 convolutions and :math:`w` is a 1x1 convolution to one
    channel; none has a bias.

    Args:
        channels (int): Channels of the input.
        hidden_channels (int, optional): Channels of both 3x3 convolutions. Default: ``channels``.
        conv_cfg (dict, optional): The 3x3 convolutions. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: Section 3.2; released ``SpatialAttention``.

    Example:
        >>> SpatialAttention(8)(torch.rand(1, 8, 5, 6)).shape
        torch.Size([1, 1, 5, 6])
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        hidden = hidden_channels or channels
        layers: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv = conv_activated(channels, hidden, 3, **layers)
        self.conv_inner = conv_activated(hidden, hidden, 3, **layers)
        self.final = Sequential(conv(hidden, 1, 1))

    def logits(self, x: Tensor) -> Tensor:
        """``z``, (N, 1, H, W)."""
        return self.final(self.conv_inner(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Attention of each pixel, (N, 1, H, W), from 0 to 1."""
        return self.logits(x).sigmoid()


@MODELS.register_module()
class ChannelAttention(nn.Module):
    r"""Channel attention: how much each channel of an image counts.

    .. math::
        \mathrm{CA}(x) = \mathrm{sigmoid}(M(\mathrm{avg}\, x) + M(\mathrm{max}\, x)), \qquad
        M(v) = W_2\, \sigma(\mathrm{BN}(W_1 v))

    where the average and the maximum are over all pixels and :math:`W_1` and :math:`W_2` are 1x1
    convolutions, to a sixteenth of the channels and back, without bias.

    Batch norm in training mode needs two values or more of each channel. Here an image has one, so
    that training takes two images a process, or ``norm_cfg=dict(type='SyncBN')`` over several.

    Args:
        channels (int): Channels of the input.
        reduction (int): What :math:`W_1` divides the channels by, to no less than one. Default: 16.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: Section 3.2; released ``ChannelAttention``.

    Example:
        >>> ChannelAttention(32)(torch.rand(2, 32, 5, 6)).shape
        torch.Size([2, 32, 1, 1])
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        self.conv1 = conv_activated(
            channels, max(1, channels // reduction), norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        self.conv2 = Sequential(conv(max(1, channels // reduction), channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Attention of each channel, (N, C, 1, 1), from 0 to 1.

        Raises:
            ValueError: If batch norm is to be trained with one image.
        """
        norm: Any = self.conv1[1][0]
        if self.training and len(x) == 1 and isinstance(norm, nn.BatchNorm2d) and norm.training:
            raise ValueError(
                'ChannelAttention: batch norm over one image cannot be trained; use a batch_size of '
                "two or more and drop_last, or norm_cfg=dict(type='SyncBN') on several GPUs"
            )
        mean, largest = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return (self.conv2(self.conv1(mean)) + self.conv2(self.conv1(largest))).sigmoid()


@MODELS.register_module()
class AttentiveNode(nn.Module):
    r"""Attentive aggregation node: an input's own pixels, the deeper one's channels decide.

    .. math::
        N(s, d) &= \mathrm{SA}(s) (1 - \mathrm{CA}(d)) s + (1 - \mathrm{SA}(s)) \mathrm{CA}(d) d \\
        N(x_1, \dots, x_n) &= N(N(x_1, \dots, x_{n-1}), x_n)

    where :math:`d` is the deeper input and :math:`x_n` the deepest; the second line is for the nodes
    of trees, which join more than two, in the order in which they are given. No convolution or norm
    follows. An input of other than ``out_channels`` channels is projected first,
    :math:`\sigma(\mathrm{BN}(W x))`, as the released up-network does before its nodes.

    Args:
        in_channels (Sequence[int]): Channels of each input; two or more.
        out_channels (int): Channels of the output.
        residual (bool): Add the deepest input, projected. Default: False.
        deepest (int): Position of the deepest input. Default: 0, as :class:`HDA` lists them.
        reduction (int): Of :class:`ChannelAttention`. Default: 16.
        conv_cfg (dict, optional): Convolutions of projections and spatial attention. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: Section 3.2, "Binary fusion"; released ``AFAIDAUp``, where the attentions of an IDA's node
    ``i`` are called ``sa_i`` and ``ca_i``. Here they are ``sa_1`` and ``ca_1`` of ``node_i``.

    Example:
        >>> node = AttentiveNode([64, 64, 32], 64)
        >>> node(*(torch.rand(2, c, 8, 8) for c in (64, 64, 32))).shape
        torch.Size([2, 64, 8, 8])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        residual: bool = False,
        deepest: int = 0,
        reduction: int = 16,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        self.inputs = len(as_tuple('in_channels', in_channels, least=2))
        self.deepest = deepest % self.inputs
        self.residual = residual
        layers: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        for i, channels in enumerate(self._deepest_last(in_channels)):
            wanted = channels != out_channels
            project = conv_activated(channels, out_channels, conv_cfg=conv_cfg, **layers)
            self.add_module(f'proj_{i}', project if wanted else nn.Identity())
        for i in range(1, self.inputs):
            self.add_module(f'sa_{i}', SpatialAttention(out_channels, conv_cfg=conv_cfg, **layers))
            self.add_module(f'ca_{i}', ChannelAttention(out_channels, reduction, **layers))

    def _deepest_last(self, inputs: Sequence) -> list:
        others = [x for i, x in enumerate(inputs) if i != self.deepest]
        return [*others, inputs[self.deepest]]

    def _project(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        check_number(inputs, self.inputs)
        ordered = self._deepest_last(inputs)
        return [getattr(self, f'proj_{i}')(x) for i, x in enumerate(ordered)]

    def _attention(self, i: int, shallow: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        return getattr(self, f'sa_{i}')(shallow), getattr(self, f'ca_{i}')(deep)

    @staticmethod
    def _join(shallow: Tensor, deep: Tensor, sa: Tensor, ca: Tensor) -> Tensor:
        return sa * (1 - ca) * shallow + (1 - sa) * ca * deep

    def attention(self, *inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Spatial attention (N, 1, H, W) and channel attention (N, C, 1, 1), of each pair joined."""
        y, *deeper = self._project(inputs)
        found = []
        for i, deep in enumerate(deeper, 1):
            found.append(self._attention(i, y, deep))
            y = self._join(y, deep, *found[-1])
        return found

    def forward(self, *inputs: Tensor) -> Tensor:
        """Aggregate feature maps of one size."""
        y, *deeper = self._project(inputs)
        for i, deep in enumerate(deeper, 1):
            y = self._join(y, deep, *self._attention(i, y, deep))
        return y + deeper[-1] if self.residual else y


@MODELS.register_module()
class LevelFusion(nn.Module):
    r"""Attentive fusion of levels: finer ones leave to coarser ones what they do not attend to.

    .. math::
        F = \sum_i A_i C_i F_i, \qquad
        A_i = a_i \prod_{k > i} (1 - a_k), \quad C_i = c_i \prod_{k > i} (1 - c_k)

    where :math:`a_i = \mathrm{SA}(F_i)` and :math:`c_i = \mathrm{CA}(F_i)` are of one attention over
    pixels and one over channels that all levels share, and :math:`F_n` is the finest level. The others
    are projected to its channels, :math:`\sigma(\mathrm{BN}(W x))`, and interpolated to its size.

    Args:
        in_channels (Sequence[int]): Channels of the levels, coarsest first.
        reduction (int): Of :class:`ChannelAttention`. Default: 16.
        conv_cfg (dict, optional): Convolutions of projections and spatial attention. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: Section 3.2, "Multiple feature fusion"; released ``proj_1`` ..., ``level_sa``,
    ``level_ca``.

    Example:
        >>> levels = [torch.rand(2, 64, 3, 4), torch.rand(2, 32, 5, 7)]
        >>> LevelFusion([64, 32])(levels).shape
        torch.Size([2, 32, 5, 7])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        reduction: int = 16,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__()
        *coarser, finest = as_tuple('in_channels', in_channels, least=1)
        self.inputs = len(in_channels)
        layers: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        for i, channels in enumerate(coarser, 1):
            project = conv_activated(channels, finest, conv_cfg=conv_cfg, **layers)
            self.add_module(f'proj_{i}', project)
        self.level_sa = SpatialAttention(finest, conv_cfg=conv_cfg, **layers)
        self.level_ca = ChannelAttention(finest, reduction, **layers)

    def _align(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The levels, with the finest one's channels and size."""
        check_number(inputs, self.inputs)
        *coarser, finest = inputs
        projected = (getattr(self, f'proj_{i}')(x) for i, x in enumerate(coarser, 1))
        return [*(resize(x, finest.shape[2:]) for x in projected), finest]

    def _attention(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        found: list[tuple[Tensor, Tensor]] = []
        left_a: Tensor | float = 1.0
        left_c: Tensor | float = 1.0
        for level in reversed(levels):
            a, c = self.level_sa(level), self.level_ca(level)
            found.insert(0, (a * left_a, c * left_c))
            left_a, left_c = left_a * (1 - a), left_c * (1 - c)
        return found

    def attention(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        r""":math:`A_i` (N, 1, H, W) and :math:`C_i` (N, C, 1, 1), of each level."""
        return self._attention(self._align(inputs))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Fuse levels of any sizes, coarsest first: (N, C, H, W) of the finest."""
        levels = self._align(inputs)
        weighted = [a * c * x for (a, c), x in zip(self._attention(levels), levels)]
        return sum(weighted[1:], weighted[0])


@MODELS.register_module()
class ScaleSpaceRendering(SpatialAttention):
    r"""Scale-space rendering: predictions at several scales, composed as a volume is along a ray.

    .. math::
        P = \sum_i w_i P_i, \qquad w_i = (1 - e^{-y_i}) \prod_{j < i} e^{-y_j}, \quad y_i = |z_i|

    with the scales ascending; :math:`z_i` are the logits of a :class:`SpatialAttention` of the features
    at scale :math:`i`, one for all scales. The weights need not sum to 1.

    Arguments are :class:`SpatialAttention`'s.

    Source: Section 3.3; released ``scale_space_attn``.

    Example:
        >>> rendering = ScaleSpaceRendering(8)
        >>> attention = [rendering.attend(torch.rand(1, 8, 5, 6)) for scale in (0.5, 1)]
        >>> [w.shape for w in rendering.weights(attention)]
        [torch.Size([1, 1, 5, 6]), torch.Size([1, 1, 5, 6])]
    """

    def attend(self, features: Tensor) -> Tensor:
        """``y`` of the features at one scale, (N, 1, H, W), 0 or more."""
        return self.logits(features).abs()

    def weights(self, attention: Sequence[Tensor]) -> list[Tensor]:
        """The weight of each scale.

        Args:
            attention (Sequence[Tensor]): What :meth:`attend` returned at each scale, ascending, resized
                to one size.

        Returns:
            list[Tensor]: One a scale, (N, 1, H, W).
        """
        found = []
        through: Tensor | float = 1.0
        for y in attention:
            found.append(-torch.expm1(-y) * through)
            through = through * torch.exp(-y)
        return found


@MODELS.register_module()
class HierarchicalAttention(SpatialAttention):
    r"""Hierarchical multi-scale attention, to which :class:`ScaleSpaceRendering` is the alternative.

    .. math:: P^{(i)} = a_i P_i + (1 - a_i) P^{(i + 1)}, \qquad P^{(n)} = P_n

    with the scales ascending: the largest is taken first, and each smaller one replaces as much of a
    pixel as it attends to, :math:`a_i`. This is a sum with the weights
    :math:`w_i = a_i \prod_{j < i} (1 - a_j)`, where 1 stands for :math:`a_n`.

    Args:
        channels (int): Channels of the features.
        hidden_channels (int): Channels of both 3x3 convolutions. Default: 256, as published.
        conv_cfg (dict, optional): Convolutions. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Source: Tao, Sapra, Catanzaro, "Hierarchical Multi-Scale Attention for Semantic Segmentation", 2020,
    Section 3.1; Section 3.3 compares with it.

    Example:
        >>> hierarchy = HierarchicalAttention(8)
        >>> attention = [hierarchy.attend(torch.rand(1, 8, 5, 6)) for scale in (0.5, 1)]
        >>> torch.allclose(sum(hierarchy.weights(attention)), torch.ones(1, 1, 5, 6))
        True
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int = 256,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
    ):
        super().__init__(channels, hidden_channels, conv_cfg, norm_cfg, act_cfg)

    def attend(self, features: Tensor) -> Tensor:
        """``a`` of the features at one scale, (N, 1, H, W), from 0 to 1."""
        return self(features)

    def weights(self, attention: Sequence[Tensor]) -> list[Tensor]:
        """The weight of each scale.

        Args:
            attention (Sequence[Tensor]): What :meth:`attend` returned at each scale, ascending, resized
                to one size.

        Returns:
            list[Tensor]: One a scale, (N, 1, H, W). They sum to 1.
        """
        *smaller, largest = attention
        found = []
        through = torch.ones_like(largest)
        for a in smaller:
            found.append(a * through)
            through = through * (1 - a)
        return [*found, through]
