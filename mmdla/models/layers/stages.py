"""Stages: the blocks of a level and their aggregation, one class for each way of Figure 2.

"Deep Layer Aggregation" (Yu, Wang, Shelhamer, Darrell, CVPR 2018), Section 3: :class:`Chain` is (a) to
(d), :class:`ReentrantTree` (e) and :class:`HDA` (f). All are built from the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from .aggregation import AGGREGATIONS
from .blocks import BLOCKS, strided
from .builder import as_tuple, layer_builder
from .conv import NORM_CFG, OwnInit, conv_norm
from .nodes import AggregationNode, node_builder
from .pooling import pooling


def block_channels(depth: int, out_channels: int | Sequence[int], stride: int) -> list[int]:
    """Channels of each block of a stage.

    Raises:
        ValueError: If one of the arguments is impossible.
    """
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f'depth={depth!r}: must be an integer, 1 or more')
    if stride not in (1, 2):
        raise ValueError(f'stride={stride}: a stage has stride 1 or 2')
    blocks = 2**depth
    if isinstance(out_channels, int):
        channels = [out_channels] * blocks
    else:
        channels = list(as_tuple('out_channels', out_channels))
    if len(channels) != blocks or not all(isinstance(c, int) and c > 0 for c in channels):
        raise ValueError(
            f'out_channels={out_channels}: must be a positive integer, or {blocks} of them, one '
            f'for each block of depth={depth}'
        )
    return channels


def build_block(
    block: Callable[..., nn.Module],
    in_channels: int,
    out_channels: int,
    stride: int = 1,
    dilation: int = 1,
    first_dilation: int | None = None,
) -> nn.Module:
    """Build a block, see ``blocks.py``; only a dilated block gets the arguments of dilation."""
    args: dict[str, int | None] = dict(
        in_channels=in_channels, out_channels=out_channels, stride=stride
    )
    if dilation > 1 or strided(1, dilation, first_dilation):
        args.update(dilation=dilation, first_dilation=first_dilation)
    return block(**args)


def build_projection(
    block: nn.Module, in_channels: int, out_channels: int, conv_cfg: dict | None, norm_cfg: dict
) -> nn.Module | None:
    r"""Projection of a block's shortcut, :math:`s = \mathrm{BN}(W x)` where the widths differ.

    Returns:
        nn.Module | None: None for a block that is called without a shortcut.
    """
    if not getattr(block, 'takes_shortcut', False):
        return None
    if in_channels == out_channels:
        return nn.Identity()
    return conv_norm(in_channels, out_channels, conv_cfg=conv_cfg, norm_cfg=norm_cfg)


def check_width(block: nn.Module, in_channels: int, out_channels: int) -> nn.Module:
    """Return a stage's second or later block, unless its shortcut would need a projection.

    Raises:
        ValueError: If it would: the stage projects the shortcut of its first block only.
    """
    if getattr(block, 'takes_shortcut', False) and in_channels != out_channels:
        raise ValueError(
            f'out_channels: {type(block).__name__} leaves its shortcut to the stage, which projects '
            f'that of its first block only; a later one cannot go from {in_channels} to '
            f'{out_channels} channels'
        )
    return block


@MODELS.register_module()
class Chain(OwnInit):
    r"""Figure 2(a) to (d): :math:`2^n` blocks in a row, and what joins their outputs.

    .. math::
        x_i = B(x_{i-1}), \qquad y = A(x_1, \dots, x_{2^n})

    :math:`A` is an aggregation that feeds no block; without one :math:`y = x_{2^n}`, Figure 2(a).
    With ``aggregate_input`` the pooled input is the shallowest that it takes.

    Args:
        depth (int): ``n``, 1 or more.
        block (Callable | str | dict): Builds a block, see ``blocks.py``.
        in_channels (int): Channels of the input.
        out_channels (int | Sequence[int]): Channels of the blocks' and nodes' outputs; of each block,
            where they differ, nodes having those of the deepest.
        stride (int): Stride of the first block, 1 or 2. Default: 1.
        dilation (int): Dilation of the blocks. Default: 1.
        first_dilation (int, optional): Dilation in place of the stride: of the first block's first
            3x3 convolution and of the pooling. Default: ``dilation``, no stride to replace.
        aggregate_input (bool): Aggregate the pooled input too. Default: False.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.
        conv_cfg (dict, optional): Convolution of the projection. Default: plain.
        norm_cfg (dict): Normalization of the projection. Default: ``dict(type='BN')``.
        aggregation (Callable | str | dict, optional): ``A``: :class:`ShallowSkips` (b),
            :class:`IDA` (c), :class:`AggregationTree` (d), or what is built and called like these.
            Default: None (a).

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Example:
        >>> stage = Chain(2, BasicBlock, 64, 128, stride=2, aggregation=IDA)
        >>> stage(torch.rand(1, 64, 23, 31)).shape
        torch.Size([1, 128, 12, 16])
    """

    def __init__(
        self,
        depth: int,
        block: str | dict | Callable[..., nn.Module],
        in_channels: int,
        out_channels: int | Sequence[int],
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        aggregate_input: bool = False,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        aggregation: str | dict | Callable[..., nn.Module] | None = None,
    ):
        super().__init__()
        channels = block_channels(depth, out_channels, stride)
        block = layer_builder(block, 'block', BLOCKS)
        if aggregate_input and aggregation is None:
            raise ValueError('aggregate_input=True: without an aggregation there is no node to take it')
        self.aggregate_input = aggregate_input
        self.pool = pooling(stride, dilation, first_dilation)
        first = build_block(block, in_channels, channels[0], stride, dilation, first_dilation)
        self.project = build_projection(first, in_channels, channels[0], conv_cfg, norm_cfg)
        self.blocks = nn.ModuleList([first])
        for width, out in pairwise(channels):
            self.blocks.append(check_width(build_block(block, width, out, 1, dilation), width, out))
        self.aggregation = None
        if aggregation is not None:
            joined = [in_channels, *channels] if aggregate_input else channels
            needs = ('in_channels', 'out_channels', 'node')
            aggregation = layer_builder(aggregation, 'aggregation', AGGREGATIONS, needs)
            self.aggregation = aggregation(
                in_channels=joined, out_channels=channels[-1], node=node_builder(node)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks and aggregate: (N, C, H, W) to (N, C', ceil(H / stride), ...)."""
        first, *others = self.blocks
        outs = []
        if self.aggregate_input or self.project is not None:
            pooled = self.pool(x)
        if self.aggregate_input:
            outs.append(pooled)
        x = first(x) if self.project is None else first(x, self.project(pooled))
        outs.append(x)
        for block in others:
            x = block(x)
            outs.append(x)
        return x if self.aggregation is None else self.aggregation(outs)


@MODELS.register_module()
class ReentrantTree(OwnInit):
    r"""Figure 2(e): a tree whose aggregations feed the blocks that follow.

    .. math::
        T_0(x) = B(x), \qquad T_n(x; c) = N(T_{n-1}(T_{n-1}(x)), T_{n-1}(x), c)

    The second subtree's input is the first one's aggregation. ``c`` is what the root takes beside
    them: the pooled input with ``aggregate_input``, otherwise nothing.

    Args:
        depth (int): ``n``, 1 or more. A tree of depth ``n`` has :math:`2^n` blocks.
        block (Callable | str | dict): Builds a block, see ``blocks.py``.
        in_channels (int): Channels of the input.
        out_channels (int | Sequence[int]): Channels of the blocks' and nodes' outputs; of each block,
            where they differ, nodes having those of the deepest.
        stride (int): Stride of the first block, 1 or 2. Default: 1.
        dilation (int): Dilation of the blocks. Default: 1.
        first_dilation (int, optional): Dilation in place of the stride: of the first block's first
            3x3 convolution and of the pooling. Default: ``dilation``, no stride to replace.
        aggregate_input (bool): Whether the root also takes the pooled input. This is how the networks
            aggregate iteratively between stages. Default: False.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.
        conv_cfg (dict, optional): Convolution of the projection. Default: plain.
        norm_cfg (dict): Normalization of the projection. Default: ``dict(type='BN')``.
        extra_channels (Sequence[int]): Channels of the maps in ``c`` other than the pooled input, which
            come from an enclosing tree. Default: ``()``.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Source: Section 3.2, Figure 2(e). A tree's node is registered last, so that tools that look for
    the last layer find it.
    """

    def __init__(
        self,
        depth: int,
        block: str | dict | Callable[..., nn.Module],
        in_channels: int,
        out_channels: int | Sequence[int],
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        aggregate_input: bool = False,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
        conv_cfg: dict | None = None,
        norm_cfg: dict = NORM_CFG,
        extra_channels: Sequence[int] = (),
    ):
        super().__init__()
        channels = block_channels(depth, out_channels, stride)
        block, node = layer_builder(block, 'block', BLOCKS), node_builder(node)
        self.depth = depth
        self.aggregate_input = aggregate_input
        self.pool = pooling(stride, dilation, first_dilation)
        if aggregate_input:
            extra_channels = (*extra_channels, in_channels)
        half = len(channels) // 2
        middle, last = channels[half - 1], channels[-1]
        if depth == 1:
            # Registered before the blocks, so that its random weights are drawn first.
            self.register_module('project', None)
            self.tree1 = build_block(block, in_channels, middle, stride, dilation, first_dilation)
            self.project = build_projection(self.tree1, in_channels, middle, conv_cfg, norm_cfg)
            self.needs_pooled = aggregate_input or self.project is not None
            self.tree2 = check_width(build_block(block, middle, last, 1, dilation), middle, last)
            self.root = node(in_channels=[last, middle, *extra_channels], out_channels=last, deepest=0)
            return
        subtree = partial(
            type(self),
            depth - 1,
            block,
            dilation=dilation,
            node=node,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
        )
        self.tree1 = subtree(in_channels, channels[:half], stride=stride, first_dilation=first_dilation)
        self.needs_pooled = aggregate_input or self.tree1.needs_pooled
        self._second_half(subtree, middle, channels[half:], extra_channels, node)

    def _second_half(
        self,
        subtree: Callable[..., nn.Module],
        middle: int,
        channels: list[int],
        extra_channels: Sequence[int],
        node: Callable[..., nn.Module],
    ) -> None:
        """Build what follows the first subtree, whose output has ``middle`` channels."""
        last = channels[-1]
        self.tree2 = subtree(middle, channels)
        self.root = node(in_channels=[last, middle, *extra_channels], out_channels=last, deepest=0)

    def forward(
        self, x: Tensor, extra: tuple[Tensor, ...] = (), pooled: Tensor | None = None
    ) -> Tensor:
        """Run the tree.

        Args:
            x (Tensor): Input, (N, C, H, W).
            extra (tuple[Tensor]): ``c`` beside the pooled input, of the output's height and width.
                Default: none.
            pooled (Tensor, optional): The pooled input, where an enclosing tree has it already.

        Returns:
            Tensor: (N, out_channels, ceil(H / stride), ceil(W / stride)).
        """
        if pooled is None and self.needs_pooled:
            pooled = self.pool(x)
        if self.aggregate_input and pooled is not None:
            extra = (*extra, pooled)
        if self.depth > 1:
            x1 = self.tree1(x, pooled=pooled)
        elif self.project is None:
            x1 = self.tree1(x)
        else:
            x1 = self.tree1(x, self.project(pooled))
        return self._join(x1, extra)

    def _join(self, x1: Tensor, extra: tuple[Tensor, ...]) -> Tensor:
        """The output, from the first subtree's."""
        return self.root(self.tree2(x1), x1, *extra)


@MODELS.register_module()
class HDA(ReentrantTree):
    r"""Figure 2(f), equation (2): hierarchical deep aggregation.

    The paper, with blocks ``B`` and nodes ``N``:

    .. math::
        T_n(x) &= N(R^n_{n-1}(x), \dots, R^n_1(x), L^n_1(x), L^n_2(x)) \\
        L^n_2 &= B(L^n_1), \quad L^n_1 = B(R^n_1), \quad
        R^n_m = \begin{cases} T_m(x) & m = n - 1 \\ T_m(R^n_{m+1}) & \text{otherwise} \end{cases}

    :class:`ReentrantTree` with the aggregations of one depth merged: a tree of depth ``n`` has no root
    of its own. It passes the first subtree's output, together with ``c``, to the last node of the
    second subtree:

    .. math::
        T_n(x; c) &= T_{n-1}(T_{n-1}(x);\, c, T_{n-1}(x)) \\
        T_1(x; c) &= N(B(B(x)), B(x), c)

    Arguments are :class:`ReentrantTree`'s.

    Sections 3.2 and 4.1; parameter names of the released ``dla.py``, ``Tree``. The released trees
    also build a projection at inner trees and throw its output away; loading drops those keys.

    Example:
        >>> tree = HDA(2, BasicBlock, 64, 128, stride=2, aggregate_input=True)
        >>> tree(torch.rand(1, 64, 23, 31)).shape
        torch.Size([1, 128, 12, 16])
    """

    def _second_half(
        self,
        subtree: Callable[..., nn.Module],
        middle: int,
        channels: list[int],
        extra_channels: Sequence[int],
        node: Callable[..., nn.Module],
    ) -> None:
        self.tree2 = subtree(middle, channels, extra_channels=(*extra_channels, middle))

    def _join(self, x1: Tensor, extra: tuple[Tensor, ...]) -> Tensor:
        if self.depth == 1:
            return super()._join(x1, extra)
        return self.tree2(x1, (*extra, x1))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.depth > 1:
            for key in [k for k in state_dict if k.startswith(f'{prefix}project.')]:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


# The stage of each form of Figure 2, by its name in configs.
FORMS: dict[str, Callable[..., nn.Module]] = dict(
    none=Chain,
    **{name: partial(Chain, aggregation=joins) for name, joins in AGGREGATIONS.items()},
    reentrant=ReentrantTree,
    hda=HDA,
)
