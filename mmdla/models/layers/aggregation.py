"""Deep layer aggregation: nodes, and the six ways of Figure 2 to join blocks by them.

Section 3 of "Deep Layer Aggregation" (Yu, Wang, Shelhamer, Darrell, CVPR 2018), one class an
equation. :class:`IDA`, :class:`ShallowSkips` and :class:`AggregationTree` join feature maps;
:class:`Chain`, :class:`ReentrantTree` and :class:`HDA` are stages: blocks and their aggregation.

A node is built as ``node(in_channels=[...], out_channels=..., deepest=...)``, ``deepest`` being the
position of the deepest input, and called with the feature maps, which have one size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .blocks import BLOCKS, strided
from .conv import ACT_CFG, NORM_CFG, OwnInit, act, conv, conv_norm, norm
from .factory import factory, sequence
from .recompute import exporting
from .remake import concatenate, norm_act


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
        y = getattr(self, self.conv_name)(concatenate(inputs))
        norm = getattr(self, self.norm_name)
        if not self.residual:
            return norm_act(norm, self.act, y)
        y = norm(y)
        y += inputs[self.deepest]
        return self.act(y)


def node_factory(
    spec: str | dict | Callable = {},
    residual: bool = False,
    default: Callable[..., nn.Module] = AggregationNode,
    **offers,
) -> Callable[..., nn.Module]:
    """What builds a node, from what a config says of it.

    Args:
        spec (str | dict | Callable): Further arguments of ``default``, or a dict with a ``type``, a
            registered name, or the callable itself; see :func:`factory`. Default: ``{}``.
        residual (bool): Whether the node has to be residual. Default: False.
        default (Callable): The node of a ``spec`` without type. Default: :class:`AggregationNode`.
        **offers: Arguments that the node gets if it names them and ``spec`` does not set them.

    Raises:
        TypeError: See :func:`factory`.
        ValueError: See :func:`factory`; or if the node knows no ``residual`` and has to be.
    """
    if isinstance(spec, Mapping):
        spec = dict(type=default) | dict(spec)
    if residual:
        offers['residual'] = True
    needs = ('in_channels', 'out_channels', 'deepest')
    build = factory(spec, 'node', needs=needs, offers=offers)
    if residual and 'residual' not in build.keywords:
        raise ValueError(
            f'node={spec!r}: takes no argument residual, and the architecture has residual nodes; give '
            'arch as a dict with residual=False, or a node that takes it'
        )
    return build


def check_number(inputs: Sequence[Tensor], wanted: int) -> None:
    """Refuse another number of feature maps than an aggregation was built for."""
    if len(inputs) != wanted:
        raise ValueError(f'inputs: {len(inputs)} feature maps, built for {wanted}')


@MODELS.register_module()
class SumNode(nn.Module):
    r"""Node that adds its inputs before one convolution: the CenterNet family's.

    .. math::
        N(x_1, \dots, x_n) = \sigma(\mathrm{BN}(W \textstyle\sum_i x_i + b))

    Args:
        in_channels (Sequence[int]): Channels of each input; equal.
        out_channels (int): Channels of the output.
        kernel_size (int): Default: 3.
        deepest (int): Not used: the inputs count alike. Default: 0.
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
            raise ValueError(f'in_channels={list(in_channels)}: what is added has equal channels')
        self.conv = conv(in_channels[0], out_channels, kernel_size, bias=bias, conv_cfg=conv_cfg)
        self.bn = norm(out_channels, norm_cfg)
        self.act = act(act_cfg)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Aggregate feature maps of one size."""
        return norm_act(self.bn, self.act, self.conv(sum(inputs[1:], inputs[0])))


@MODELS.register_module()
class PooledNode(nn.Module):
    """Node over maps of several strides: max-pools them to the deepest one's size, then aggregates.

    Args:
        in_channels (Sequence[int]): Channels of each input.
        out_channels (int): Channels of the output.
        deepest (int): Position of the deepest, and so smallest, input. Default: 0.
        node (Callable | str | dict): Builds the node inside. Default: :class:`AggregationNode`.

    Raises:
        ValueError: If the inputs have other channels than it was built for.
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
        self.node = node_factory(node)(
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


@MODELS.register_module()
class IDA(nn.Module):
    r"""Figure 2(c), equation (1): iterative deep aggregation.

    .. math::
        I(x_1, \dots, x_n) = \begin{cases} x_1 & n = 1 \\
        I(N(x_1, x_2), \dots, x_n) & \text{otherwise} \end{cases}

    Aggregation begins at the shallowest, largest scale and merges deeper ones in one after the other.

    Args:
        in_channels (Sequence[int]): Channels of :math:`x_1` to :math:`x_n`, shallowest first.
        out_channels (int): Channels of each node's output.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.

    Source: Section 3.1; the nodes are named ``node_1`` ... as in the released ``dla_up.py``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
    ):
        super().__init__()
        shallow, *deeper = sequence('in_channels', in_channels, least=1)
        self.inputs = len(in_channels)
        node = node_factory(node)
        for i, deep in enumerate(deeper, 1):
            built = node(in_channels=[shallow, deep], out_channels=out_channels, deepest=-1)
            self.add_module(f'node_{i}', built)
            shallow = out_channels

    def partial_aggregations(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        r""":math:`I(x_1), I(x_1, x_2), \dots, I(x_1, \dots, x_n)`."""
        check_number(inputs, self.inputs)
        outs = [inputs[0]]
        for i, deep in enumerate(inputs[1:], 1):
            outs.append(getattr(self, f'node_{i}')(outs[-1], deep))
        return outs

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Aggregate feature maps of one size, shallowest first."""
        return self.partial_aggregations(inputs)[-1]


@MODELS.register_module()
class ShallowSkips(nn.Module):
    r"""Figure 2(b): skip connections that merge each earlier part in a single step.

    .. math::
        S(x_1, \dots, x_n) = \begin{cases} x_n & n = 1 \\
        N(x_1, S(x_2, \dots, x_n)) & \text{otherwise} \end{cases}

    As in FCN, U-Net and FPN, merging begins at the deepest; the shallowest passes one node only.
    :class:`IDA` is the same connections in the other order.

    Args:
        in_channels (Sequence[int]): Channels of :math:`x_1` to :math:`x_n`, shallowest first.
        out_channels (int): Channels of each node's output.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.

    Source: Section 3, Figure 2(b), there for comparison.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
    ):
        super().__init__()
        self.inputs = len(sequence('in_channels', in_channels, least=1))
        node = node_factory(node)
        deep = in_channels[-1]
        for i in range(len(in_channels) - 1, 0, -1):
            built = node(in_channels=[in_channels[i - 1], deep], out_channels=out_channels, deepest=-1)
            self.add_module(f'node_{i}', built)
            deep = out_channels

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Aggregate feature maps of one size, shallowest first."""
        check_number(inputs, self.inputs)
        y = inputs[-1]
        for i in range(len(inputs) - 1, 0, -1):
            y = getattr(self, f'node_{i}')(inputs[i - 1], y)
        return y


@MODELS.register_module()
class AggregationTree(nn.Module):
    r"""Figure 2(d): a binary tree of nodes over blocks in a row, without re-entrance.

    .. math::
        A(x_1) &= x_1 \\
        A(x_1, \dots, x_{2m}) &= N(A(x_{m+1}, \dots, x_{2m}), A(x_1, \dots, x_m))

    No aggregation feeds a block. An input more than a power of two is the stage's own, the
    shallowest: :math:`A(x_0, x_1, \dots, x_{2m}) = N(A(x_{m+1}, \dots), A(x_1, \dots), x_0)`.

    Args:
        in_channels (Sequence[int]): Channels of the inputs, shallowest first; :math:`2^n` of them, or
            one more.
        out_channels (int): Channels of each node's output.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.

    Raises:
        ValueError: If the number of inputs is another.

    Source: Section 3.2, Figure 2(d).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
    ):
        super().__init__()
        in_channels = sequence('in_channels', in_channels)
        # Inputs in each subtree, and inputs that the root takes beside them.
        self.half = 2 ** len(in_channels).bit_length() // 4
        self.given = len(in_channels) - 2 * self.half
        if len(in_channels) == 1:
            self.given = 0
            self.out_channels = in_channels[0]
            return
        if self.given > 1 or not in_channels:
            raise ValueError(
                f'in_channels={list(in_channels)}: a tree joins 2, 4, 8, ... inputs, or one more'
            )
        node = node_factory(node)
        given, shallow, deep = self._split(in_channels)
        self.out_channels = out_channels
        self.tree1 = AggregationTree(shallow, out_channels, node)
        self.tree2 = AggregationTree(deep, out_channels, node)
        widths = [self.tree2.out_channels, self.tree1.out_channels, *given]
        self.root = node(in_channels=widths, out_channels=out_channels, deepest=0)

    def _split(self, inputs: Sequence) -> tuple[Sequence, Sequence, Sequence]:
        """What the root takes beside the subtrees, and the shallow and the deep half."""
        middle = self.given + self.half
        return inputs[: self.given], inputs[self.given : middle], inputs[middle:]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Aggregate feature maps of one size, shallowest first."""
        check_number(inputs, self.given + max(1, 2 * self.half))
        if self.half == 0:
            return inputs[0]
        given, shallow, deep = self._split(inputs)
        return self.root(self.tree2(deep), self.tree1(shallow), *given)


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


class CeilMaxPool2d(nn.MaxPool2d):
    """Max pooling without overlap that rounds sizes up, as the strided convolution beside it does.

    Args:
        stride (int): Of the windows, and their size.
    """

    def __init__(self, stride: int):
        super().__init__(stride, stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        if exporting():
            # The same without PyTorch's branch on whether the size is a multiple of the stride.
            more = self.stride - 1
            x = F.pad(x, (0, more, 0, more), value=float('-inf'))
            return F.max_pool2d(x, self.kernel_size, self.stride)
        return super().forward(x)


def pooling(stride: int, dilation: int = 1, first_dilation: int | None = None) -> nn.Module:
    """Pooling that does to the size of a map what a block of this stride or dilation does."""
    if stride > 1:
        return CeilMaxPool2d(stride)
    if strided(stride, dilation, first_dilation):
        return DenseMaxPool2d(first_dilation)
    return nn.Identity()


def block_channels(depth: int, out_channels: int | Sequence[int], stride: int) -> list[int]:
    """Channels of each block of a stage.

    Raises:
        ValueError: If one of the arguments is impossible.
    """
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f'depth={depth!r}: must be a whole number, 1 or more')
    if stride not in (1, 2):
        raise ValueError(f'stride={stride}: a stage has stride 1 or 2')
    blocks = 2**depth
    channels = [out_channels] * blocks
    if not isinstance(out_channels, int):
        channels = list(sequence('out_channels', out_channels))
    if len(channels) != blocks or not all(isinstance(c, int) and c > 0 for c in channels):
        raise ValueError(
            f'out_channels={out_channels}: must be a positive whole number, or {blocks} of them, one '
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
    """Build a block, see ``blocks.py``; it hears of dilation only where there is one."""
    args = dict(in_channels=in_channels, out_channels=out_channels, stride=stride)
    if dilation > 1 or strided(1, dilation, first_dilation):
        args.update(dilation=dilation, first_dilation=first_dilation)
    return block(**args)


def build_projection(
    block: nn.Module, in_channels: int, out_channels: int, conv_cfg: dict | None, norm_cfg: dict
) -> nn.Module | None:
    """Projection of a block's shortcut, a 1x1 convolution where the widths differ.

    Returns:
        nn.Module | None: None for a block that is called without a shortcut.
    """
    if not getattr(block, 'takes_shortcut', False):
        return None
    if in_channels == out_channels:
        return nn.Identity()
    return conv_norm(in_channels, out_channels, conv_cfg=conv_cfg, norm_cfg=norm_cfg)


def check_width(block: nn.Module, in_channels: int, out_channels: int) -> nn.Module:
    """The block, a stage's second or later one, unless its shortcut would need a projection."""
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
            Default: none (a).

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
        block = factory(block, 'block', BLOCKS)
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
            aggregation = factory(aggregation, 'aggregation', AGGREGATIONS, needs)
            self.aggregation = aggregation(
                in_channels=joined, out_channels=channels[-1], node=node_factory(node)
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
        aggregate_input (bool): Give the pooled input to the root too. This is how the networks
            aggregate iteratively between stages. Default: False.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.
        conv_cfg (dict, optional): Convolution of the projection. Default: plain.
        norm_cfg (dict): Normalization of the projection. Default: ``dict(type='BN')``.
        extra_channels (Sequence[int]): Channels of ``c`` beside the pooled input, which an enclosing
            tree gives. Default: none.

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
        block, node = factory(block, 'block', BLOCKS), node_factory(node)
        self.depth = depth
        self.aggregate_input = aggregate_input
        self.pool = pooling(stride, dilation, first_dilation)
        if aggregate_input:
            extra_channels = (*extra_channels, in_channels)
        half = len(channels) // 2
        middle, last = channels[half - 1], channels[-1]
        if depth == 1:
            # Before the blocks, so that it draws its random weights first, as it always has.
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
        if self.aggregate_input:
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
    of its own but gives the first subtree's output, and whatever ``c`` it was given, to the last node
    of the second:

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

    def _second_half(self, subtree, middle, channels, extra_channels, node):
        self.tree2 = subtree(middle, channels, extra_channels=(*extra_channels, middle))

    def _join(self, x1, extra):
        if self.depth == 1:
            return super()._join(x1, extra)
        return self.tree2(x1, (*extra, x1))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if self.depth > 1:
            for key in [k for k in state_dict if k.startswith(f'{prefix}project.')]:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


# Figure 2: what joins the blocks of a chain, and what builds a stage of each form.
AGGREGATIONS = dict(shallow=ShallowSkips, ida=IDA, tree=AggregationTree)
FORMS = dict(
    none=Chain,
    **{name: partial(Chain, aggregation=joins) for name, joins in AGGREGATIONS.items()},
    reentrant=ReentrantTree,
    hda=HDA,
)
