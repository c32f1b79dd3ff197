"""Aggregations, which join the feature maps of a row of blocks or levels, node by node.

Section 3 and Figure 2 of "Deep Layer Aggregation" (Yu, Wang, Shelhamer, Darrell, CVPR 2018), one class
an equation. Each is built as ``aggregation(in_channels=[...], out_channels=..., node=...)`` and called
with a list of feature maps of one size, shallowest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmengine.registry import MODELS
from torch import Tensor, nn

from .builder import as_tuple
from .nodes import AggregationNode, node_builder


def check_number(inputs: Sequence[Tensor], wanted: int) -> None:
    """Refuse another number of feature maps than an aggregation was built for."""
    if len(inputs) != wanted:
        raise ValueError(f'inputs: {len(inputs)} feature maps, built for {wanted}')


@MODELS.register_module()
class IDA(nn.Module):
    r"""Figure 2(c), equation (1): iterative deep aggregation.

    .. math::
        I(x_1, \dots, x_n) = \begin{cases} x_1 & n = 1 \\
        I(N(x_1, x_2), \dots, x_n) & \text{otherwise} \end{cases}

    Aggregation begins at the shallowest, largest scale and then merges deeper scales, one at a time.

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
        shallow, *deeper = as_tuple('in_channels', in_channels, least=1)
        self.inputs = len(in_channels)
        node = node_builder(node)
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
        self.inputs = len(as_tuple('in_channels', in_channels, least=1))
        node = node_builder(node)
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

    No aggregation feeds a block. With one input more than a power of two, the shallowest is the input
    of the stage: :math:`A(x_0, x_1, \dots, x_{2m}) = N(A(x_{m+1}, \dots), A(x_1, \dots), x_0)`.

    Args:
        in_channels (Sequence[int]): Channels of the inputs, shallowest first; :math:`2^n` of them, or
            one more.
        out_channels (int): Channels of each node's output.
        node (Callable | str | dict): Builds a node. Default: :class:`AggregationNode`.

    Raises:
        ValueError: If the number of inputs is neither.

    Source: Section 3.2, Figure 2(d).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        node: str | dict | Callable[..., nn.Module] = AggregationNode,
    ):
        super().__init__()
        in_channels = as_tuple('in_channels', in_channels)
        # Inputs in each subtree, and inputs that the root takes beside them.
        self.half_size = 2 ** len(in_channels).bit_length() // 4
        self.given = len(in_channels) - 2 * self.half_size
        if len(in_channels) == 1:
            self.given = 0
            self.out_channels = in_channels[0]
            return
        if self.given > 1 or not in_channels:
            raise ValueError(
                f'in_channels={list(in_channels)}: a tree joins 2, 4, 8, ... inputs, or one more'
            )
        node = node_builder(node)
        given, shallow, deep = self._split(in_channels)
        self.out_channels = out_channels
        self.tree1 = AggregationTree(shallow, out_channels, node)
        self.tree2 = AggregationTree(deep, out_channels, node)
        widths = [self.tree2.out_channels, self.tree1.out_channels, *given]
        self.root = node(in_channels=widths, out_channels=out_channels, deepest=0)

    def _split(self, inputs: Sequence) -> tuple[Sequence, Sequence, Sequence]:
        """Split inputs into those of the root itself, the shallow half and the deep half."""
        middle = self.given + self.half_size
        return inputs[: self.given], inputs[self.given : middle], inputs[middle:]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Aggregate feature maps of one size, shallowest first."""
        check_number(inputs, self.given + max(1, 2 * self.half_size))
        if self.half_size == 0:
            return inputs[0]
        given, shallow, deep = self._split(inputs)
        return self.root(self.tree2(deep), self.tree1(shallow), *given)


# Short names, for configs.
AGGREGATIONS: dict[str, Callable[..., nn.Module]] = dict(
    shallow=ShallowSkips, ida=IDA, tree=AggregationTree
)
