"""Replaces 3x3 convolutions of a network by Winograd's algorithm where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .winograd import available, is_profitable, transform_weights


class WinogradConv2d(nn.Module):
    """A convolution of kernel 3 and stride 1 by :func:`mmdla.deploy.winograd.winograd`.

    Args:
        conv (nn.Conv2d): Whose weights it takes.
    """

    weights: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer('weights', transform_weights(conv.weight))
        self.register_buffer('bias', bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H, W)."""
        return torch.ops.mmdla.winograd([x], self.weights, self.bias, None, False)


def _fits(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (conv.groups, conv.padding_mode) == (1, 'zeros')
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == 'cpu'
    )


def replace_convolutions(module: nn.Module, run: Callable[[], object]) -> None:
    """Replace, in place, the convolutions that Winograd's algorithm computes faster.

    Args:
        module (nn.Module): Whose children are replaced.
        run (Callable): Runs it on an example, to measure the sizes of the maps.
    """
    shapes: dict[nn.Conv2d, torch.Size] = {}

    def note(conv: nn.Conv2d, inputs: tuple) -> None:
        shapes[conv] = max(shapes.get(conv, inputs[0].shape), inputs[0].shape, key=lambda s: s.numel())

    convs = [m for m in module.modules() if _fits(m)]
    if not convs:
        return
    hooks = [conv.register_forward_pre_hook(note) for conv in convs]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    fast = {
        conv
        for conv, (batch, channels, height, width) in shapes.items()
        if is_profitable(channels, conv.out_channels, height, width, batch)
    }
    if not fast or not available():
        return
    new: dict[nn.Module, WinogradConv2d] = {conv: WinogradConv2d(conv) for conv in fast}
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if child in new:
                setattr(parent, name, new[child])


# -- fusion, when compiled ------------------------------------------------------------------------

# Functions, modules, names of methods; operators by their names, of `y + x` and of `y += x`.
_RELU = {F.relu, torch.relu, torch.relu_, nn.ReLU, 'relu', 'relu_'}
_ADD = {torch.add, 'add', 'add_', 'iadd'}
_IN_PLACE = {'iadd', 'isub', 'imul', 'itruediv', 'ifloordiv', 'ipow', 'imod', 'iand', 'ior', 'ixor'}


def _target(graph: fx.GraphModule, node: fx.Node) -> object:
    """The target of a node of the compiler's graph: a function, a method's name, a module's class."""
    if node.op == 'call_module':
        return type(graph.get_submodule(str(node.target)))
    is_operator = getattr(node.target, '__module__', None) == '_operator'
    return getattr(node.target, '__name__', None) if is_operator else node.target


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _added(graph: fx.GraphModule, node: fx.Node, to: fx.Node) -> fx.Node | None:
    """The operand that a node adds to another of the same shape; None if it does something else."""
    if node.kwargs or len(node.args) != 2:
        return None
    if _target(graph, node) not in _ADD:
        return None
    (other,) = [a for a in node.args if a is not to] or [None]
    if not isinstance(other, fx.Node):
        return None
    shapes = [getattr(n.meta.get('example_value'), 'shape', None) for n in (other, to)]
    return other if None not in shapes and shapes[0] == shapes[1] else None


def _changes(graph: fx.GraphModule, start: fx.Node, end: fx.Node, but: Sequence[fx.Node] = ()) -> bool:
    """Whether a node between two nodes works in place, so that reading a map later is not allowed."""
    node = start.next
    while node is not end:
        if node not in but and _in_place(graph, node):
            return True
        node = node.next
    return False


def _in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == 'call_module':
        return bool(getattr(graph.get_submodule(str(node.target)), 'inplace', False))
    if node.op not in ('call_function', 'call_method'):
        return False
    if node.kwargs.get('inplace') or 'out' in node.kwargs:
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, '__name__', '')
    operators = getattr(node.target, '__module__', None) == '_operator'
    return name == 'setitem' or name.endswith('_') or (operators and name in _IN_PLACE)


def fuse(graph: fx.GraphModule) -> int:
    """Fuse Winograd convolutions with the concatenation before them and the sum and ReLU after.

    Args:
        graph (fx.GraphModule): Graph from PyTorch's compiler; changed in place.

    Returns:
        int: The number of operations that were fused.
    """
    number = 0
    if not hasattr(torch.ops.mmdla, 'winograd'):
        return 0
    operator = torch.ops.mmdla.winograd
    nodes: list[fx.Node] = list(graph.graph.nodes)
    for node in nodes:
        if node.op != 'call_function' or node.target not in (operator, operator.default):
            continue
        arguments: Any = node.args
        xs, weights, bias, residual, relu = arguments
        before = xs[0]
        if len(xs) == 1 and _only_user(before) is node and _target(graph, before) is torch.cat:
            cat = dict(zip(('tensors', 'dim'), before.args)) | before.kwargs
            if cat.get('dim') == 1 and not _changes(graph, before, node):
                xs, number = list(cat['tensors']), number + 1
        taken: list[fx.Node] = []
        after = _only_user(node)
        added = None if after is None else _added(graph, after, node)
        if after is not None and added is not None and not _changes(graph, node, after):
            residual = added
            taken.append(after)
            after = _only_user(after)
        is_relu = after is not None and _target(graph, after) in _RELU
        if after is not None and is_relu and not _changes(graph, node, after, taken):
            relu = True
            taken.append(after)
        number += len(taken)
        # At the place of the last one, since the addend may be computed after the convolution.
        last = taken[-1] if taken else node
        with graph.graph.inserting_after(last):
            new = graph.graph.call_function(node.target, (list(xs), weights, bias, residual, relu))
        new.meta = dict(last.meta)
        last.replace_all_uses_with(new)
        for old in [*reversed(taken), node]:
            graph.graph.erase_node(old)
        if not before.users:
            graph.graph.erase_node(before)
    graph.graph.lint()
    graph.recompile()
    return number


def backend(graph: fx.GraphModule, inputs: Sequence[Tensor], **options: Any) -> Callable:
    """Backend of ``torch.compile``: :func:`fuse`, then PyTorch's own backend."""
    from torch._inductor.compile_fx import compile_fx

    fuse(graph)
    return compile_fx(graph, inputs, **options)  # type: ignore[return-value]
