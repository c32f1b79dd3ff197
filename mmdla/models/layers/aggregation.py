"""Deep layer aggregation: the node, iterative and hierarchical aggregation.

Section 3 of "Deep Layer Aggregation" (Yu, Wang, Shelhamer, Darrell, CVPR 2018), one class an
equation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .conv import ACT_CFG, NORM_CFG, act, conv, conv_norm, norm


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
        bias (bool): The text's ``b``. The released code has none, batch norm adding its own.
            Default: False.
        names (tuple[str, str]): State-dict names of convolution and normalization: the released
            trees say ``conv`` and ``bn``, the released IDA-up ``0`` and ``1``.
            Default: ``('conv', 'bn')``.
        conv_cfg (dict, optional): Convolution. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.

    Raises:
        ValueError: If ``residual`` and the deepest input has other than ``out_channels`` channels.

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
class IDA(nn.Module):
    r"""Iterative deep aggregation, equation (1).

    .. math::
        I(x_1, \dots, x_n) = \begin{cases} x_1 & n = 1 \\
        I(N(x_1, x_2), \dots, x_n) & \text{otherwise} \end{cases}

    Aggregation begins at the shallowest, largest scale and merges deeper ones in one after the other.

    Args:
        in_channels (Sequence[int]): Channels of :math:`x_1` to :math:`x_n`, shallowest first.
        out_channels (int): Channels of each node's output.
        node (Callable): ``node(in_channels, out_channels, deepest=...)`` builds a node.
            Default: :class:`AggregationNode`.

    Source: Section 3.1; the nodes are named ``node_1`` ... as in the released ``dla_up.py``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        node: Callable[..., nn.Module] = AggregationNode,
    ):
        super().__init__()
        shallow = in_channels[0]
        for i, deep in enumerate(in_channels[1:], 1):
            self.add_module(f'node_{i}', node([shallow, deep], out_channels, deepest=-1))
            shallow = out_channels

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Aggregate feature maps of one size.

        Returns:
            list[Tensor]: :math:`I(x_1), I(x_1, x_2), \\dots, I(x_1, \\dots, x_n)`; the last one is
            the aggregation, the others are what further aggregations start from.
        """
        outs = [inputs[0]]
        for i, deep in enumerate(inputs[1:], 1):
            outs.append(getattr(self, f'node_{i}')(outs[-1], deep))
        return outs


class DenseMaxPool2d(nn.Module):
    """2x2 max pooling of stride 1: what stride 2 gives, at every position.

    Takes the pooling's place where dilation takes a stride's: every ``dilation``-th pixel apart is a
    neighbour. Windows that reach over the bottom or right edge see only what is inside.

    Args:
        dilation (int): Distance of the two rows and columns of a window.
    """

    def __init__(self, dilation: int):
        super().__init__()
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        d = self.dilation
        x = F.pad(x, (0, d, 0, d), value=float('-inf'))
        return F.max_pool2d(x, 2, stride=1, dilation=d)

    def extra_repr(self) -> str:
        return f'dilation={self.dilation}'


@MODELS.register_module()
class HDA(nn.Module):
    r"""Hierarchical deep aggregation, equation (2), written as the recursion it amounts to.

    The paper, with blocks ``B`` and nodes ``N``:

    .. math::
        T_n(x) &= N(R^n_{n-1}(x), \dots, R^n_1(x), L^n_1(x), L^n_2(x)) \\
        L^n_2 &= B(L^n_1), \quad L^n_1 = B(R^n_1), \quad
        R^n_m = \begin{cases} T_m(x) & m = n - 1 \\ T_m(R^n_{m+1}) & \text{otherwise} \end{cases}

    A tree of depth ``n`` is a tree of depth ``n - 1`` followed by another one, whose last node also
    takes the first one's output and whatever ``c`` this tree was given:

    .. math::
        T_n(x; c) &= T_{n-1}(T_{n-1}(x);\, c, T_{n-1}(x)) \\
        T_1(x; c) &= N(B(B(x)), B(x), c)

    Args:
        depth (int): ``n``, 1 or more. A tree of depth ``n`` has :math:`2^n` blocks.
        block (Callable): ``block(in_channels, out_channels, stride, dilation, first_dilation)``
            builds a block that is called with its input and a shortcut (see ``blocks.py``).
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2. With 2 the first block has that stride. Default: 1.
        dilation (int): Dilation of the blocks. Default: 1.
        first_dilation (int, optional): Dilation in place of the stride: of the first block's first
            3x3 convolution and of the pooling. Default: ``dilation``, no stride to replace.
        aggregate_input (bool): Give the pooled input to the last node too. This is how the networks
            aggregate iteratively between stages. Default: False.
        node (Callable): ``node(in_channels, out_channels)`` builds a node. Default:
            :class:`AggregationNode`.
        conv_cfg (dict, optional): Convolution of the projection. Default: plain.
        norm_cfg (dict): Normalization of the projection. Default: ``dict(type='BN')``.
        extra_channels (Sequence[int]): Channels of ``c``, which an enclosing tree passes to the last
            node. Default: none.

    Raises:
        ValueError: If ``depth`` is below 1 or ``stride`` neither 1 nor 2.

    Sections 3.2 and 4.1; parameter names of the released ``dla.py``, ``Tree``. The released trees
    also build a projection at inner trees and throw its output away; loading drops those keys. A
    tree's node is registered last, so that tools that look for the last layer find it.

    Example:
        >>> tree = HDA(2, BasicBlock, 64, 128, stride=2, aggregate_input=True)
        >>> tree(torch.rand(1, 64, 23, 31)).shape
        torch.Size([1, 128, 12, 16])
    """

    def __init__(
        self,
        depth: int,
        block: Callable[..., nn.Module],
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        aggregate_input: bool = False,
        node: Callable[..., nn.Module] = AggregationNode,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        extra_channels: Sequence[int] = (),
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f'depth={depth}: a tree has a depth of 1 or more')
        if stride not in (1, 2):
            raise ValueError(f'stride={stride}: a tree has stride 1 or 2')
        self.depth = depth
        self.aggregate_input = aggregate_input
        if aggregate_input:
            extra_channels = (*extra_channels, in_channels)

        if stride > 1:
            # Rounds sizes up like the strided convolution beside it; equal on even sizes.
            self.pool = nn.MaxPool2d(stride, stride, ceil_mode=True)
        elif first_dilation not in (None, dilation):
            self.pool = DenseMaxPool2d(first_dilation)
        else:
            self.pool = nn.Identity()

        if depth > 1:
            shared = dict(dilation=dilation, node=node, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
            self.tree1 = HDA(
                depth - 1,
                block,
                in_channels,
                out_channels,
                stride=stride,
                first_dilation=first_dilation,
                **shared,
            )
            self.tree2 = HDA(
                depth - 1,
                block,
                out_channels,
                out_channels,
                extra_channels=(*extra_channels, out_channels),
                **shared,
            )
        else:
            if in_channels == out_channels:
                self.project = nn.Identity()
            else:
                self.project = conv_norm(
                    in_channels, out_channels, conv_cfg=conv_cfg, norm_cfg=norm_cfg
                )
            self.tree1 = block(in_channels, out_channels, stride, dilation, first_dilation)
            self.tree2 = block(out_channels, out_channels, 1, dilation, None)
            self.root = node([out_channels, out_channels, *extra_channels], out_channels)

    def forward(
        self, x: Tensor, extra: tuple[Tensor, ...] = (), pooled: Tensor | None = None
    ) -> Tensor:
        """Run the tree.

        Args:
            x (Tensor): Input, (N, C, H, W).
            extra (tuple[Tensor]): ``c``, of the output's height and width. Default: none.
            pooled (Tensor, optional): The pooled input, where an enclosing tree has it already.

        Returns:
            Tensor: (N, out_channels, ceil(H / stride), ceil(W / stride)).
        """
        if pooled is None:
            pooled = self.pool(x)
        if self.aggregate_input:
            extra = (*extra, pooled)
        if self.depth > 1:
            x1 = self.tree1(x, pooled=pooled)
            return self.tree2(x1, (*extra, x1))
        x1 = self.tree1(x, self.project(pooled))
        x2 = self.tree2(x1)
        return self.root(x2, x1, *extra)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if self.depth > 1:
            for key in [k for k in state_dict if k.startswith(f'{prefix}project.')]:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)
