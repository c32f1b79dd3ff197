"""Node and IDA equal the paper's equations; blocks and pooling dilate exactly. The forms: test_forms.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import random_norms
from torch import nn

from mmdla.models.layers import (
    HDA,
    IDA,
    AggregationNode,
    BasicBlock,
    Bottleneck,
    DenseMaxPool2d,
    Res2NetBlock,
    SplitBottleneck,
)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('kernel', [1, 3])
def test_node_is_a_sum_of_convolutions(kernel, residual, bias):
    channels = [6, 4, 3]
    node = random_norms(AggregationNode(channels, 6, kernel, residual=residual, bias=bias))
    xs = [torch.randn(2, c, 7, 9) for c in channels]
    total = sum(
        F.conv2d(x, w, padding=kernel // 2) for x, w in zip(xs, node.conv.weight.split(channels, dim=1))
    )
    if bias:
        total = total + node.conv.bias[:, None, None]
    y = node.bn(total)
    wanted = (y + xs[0] if residual else y).relu()
    torch.testing.assert_close(node(*xs), wanted)


def test_node_refuses_a_residual_of_another_width():
    with pytest.raises(ValueError, match=r'deepest input, which has 4 channels.*output of 8'):
        AggregationNode([4, 8], 8, residual=True)


def literal_ida(nodes, xs):
    """Equation (1): I(x1, ..., xn) = x1 if n = 1 else I(N(x1, x2), ..., xn)."""
    if len(xs) == 1:
        return xs[0]
    return literal_ida(nodes[1:], [nodes[0](xs[0], xs[1]), *xs[2:]])


@pytest.mark.parametrize('n', [1, 2, 5])
def test_ida_is_equation_1(n):
    ida = random_norms(IDA([4, 6, 8, 3, 5][:n], 4))
    xs = [torch.randn(1, c, 8, 8) for c in [4, 6, 8, 3, 5][:n]]
    nodes = [getattr(ida, f'node_{i}') for i in range(1, n)]
    outs = ida.partial_aggregations(xs)
    wanted = [literal_ida(nodes, xs[: i + 1]) for i in range(n)]
    torch.testing.assert_close(outs, wanted)
    torch.testing.assert_close(ida(xs), wanted[-1])


@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_hda_has_the_papers_blocks_and_nodes(depth):
    tree = HDA(depth, BasicBlock, 4, 6, 2, aggregate_input=True)
    modules = list(tree.modules())
    assert sum(isinstance(m, BasicBlock) for m in modules) == 2**depth
    assert sum(isinstance(m, AggregationNode) for m in modules) == 2 ** (depth - 1)
    # One projection, at the first leaf: inner ones would be thrown away.
    assert sum(name.endswith('project.0') for name, _ in tree.named_modules()) == 1
    # Tools that look for the last normalization find the tree's own node.
    norms = [name for name, m in tree.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms[-1] == 'tree2.' * (depth - 1) + 'root.bn'


@pytest.mark.parametrize('block', [BasicBlock, Bottleneck, Res2NetBlock])
def test_gradients(block):
    tree = HDA(2, block, 8, 16, 2, aggregate_input=True).double().eval()
    x = torch.randn(1, 8, 5, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(tree, (x,), fast_mode=True)


@pytest.mark.parametrize('groups', [32, 64])
def test_split_width(groups):
    block = SplitBottleneck(64, 128, groups=groups)
    assert block.conv2.weight.shape == (128 * groups // 32, 128 // 32, 3, 3)


@pytest.mark.parametrize('block', [BasicBlock, Bottleneck, SplitBottleneck, Res2NetBlock])
@pytest.mark.parametrize('size', [(8, 8), (9, 7)])
@pytest.mark.parametrize('dilation', [1, 2])
def test_dilation_computes_the_strided_block_at_every_position(block, size, dilation):
    """A block with dilation in a stride's place, sampled, is the block with the stride."""
    strided = random_norms(block(64, 64, stride=2))
    dense = random_norms(block(64, 64, dilation=2, first_dilation=1))
    dense.load_state_dict(strided.state_dict())
    x = torch.randn(1, 64, *size)
    if dilation == 2:
        # The same once more inside: interleave the input with what must not be seen.
        dense = random_norms(block(64, 64, dilation=4, first_dilation=2))
        dense.load_state_dict(strided.state_dict())
        wide = torch.randn(1, 64, 2 * size[0] - 1, 2 * size[1] - 1)
        wide[..., ::2, ::2] = x
        shortcut = torch.randn_like(wide)
        wanted = strided(x, shortcut[..., ::4, ::4])
        torch.testing.assert_close(dense(wide, shortcut)[..., ::4, ::4], wanted)
        return
    shortcut = torch.randn_like(x)
    wanted = strided(x, shortcut[..., ::2, ::2])
    torch.testing.assert_close(dense(x, shortcut)[..., ::2, ::2], wanted)


@pytest.mark.parametrize('size', [(8, 8), (9, 7), (1, 1)])
def test_dense_pooling_is_strided_pooling_at_every_position(size):
    x = torch.randn(1, 3, *size)
    wanted = F.max_pool2d(x, 2, ceil_mode=True)
    torch.testing.assert_close(DenseMaxPool2d(1)(x)[..., ::2, ::2], wanted)
    assert DenseMaxPool2d(4)(x).shape == x.shape
