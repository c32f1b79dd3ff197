"""Recomputing activations in backward instead of keeping them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def _buffers_kept(module: nn.Module):
    """Whatever runs inside updates copies of the module's buffers."""
    owners = [m for m in module.modules() if m._buffers]
    kept = [dict(m._buffers) for m in owners]
    for owner, buffers in zip(owners, kept):
        owner._buffers.update({k: None if b is None else b.clone() for k, b in buffers.items()})
    try:
        yield
    finally:
        for owner, buffers in zip(owners, kept):
            owner._buffers.update(buffers)


def compiling() -> bool:
    """Whether the compiler or an exporter runs the code."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()  # PyTorch 2.1 and 2.2


def exporting() -> bool:
    """Whether ``torch.export`` traces: a branch on a size would then bind the graph to it."""
    # PyTorch without it is not exported from, see mmdla/deploy/exporting.py.
    return hasattr(torch.compiler, 'is_exporting') and torch.compiler.is_exporting()


def recompute(function: Callable, x, modules: Iterable[nn.Module] | None = None):
    """``function(x)``, keeping only ``x`` for backward and running the function again then.

    The second run leaves running statistics alone, so that a step ends with the same buffers and
    gradients as without.

    Args:
        function (Callable): A module, or a function, of one argument.
        x (Tensor | list[Tensor]): Its argument.
        modules (Iterable[nn.Module], optional): What it runs. Default: ``function``, a module.
    """
    if compiling():
        # The compiler plans the recomputation itself and repeats no side effect.
        return checkpoint(function, x, use_reentrant=False)
    owner = function if modules is None else nn.ModuleList(modules)
    return checkpoint(
        function, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _buffers_kept(owner))
    )
