"""Recomputing activations in backward instead of keeping them."""

from __future__ import annotations

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


def _compiling() -> bool:
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()  # PyTorch 2.1 and 2.2


def recompute(module: nn.Module, x):
    """``module(x)``, keeping only ``x`` for backward and running the module again then.

    The second run leaves running statistics alone, so that a step ends with the same buffers and
    gradients as without.

    Args:
        module (nn.Module): A module of one argument.
        x (Tensor | list[Tensor]): Its argument.
    """
    if _compiling():
        # The compiler plans the recomputation itself and repeats no side effect.
        return checkpoint(module, x, use_reentrant=False)
    return checkpoint(
        module, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _buffers_kept(module))
    )
