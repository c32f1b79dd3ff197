"""Recomputing activations in backward instead of keeping them."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextmanager
def _running_statistics_kept(module: nn.Module):
    """Batch norms use the batch's statistics as in training, and leave the running ones alone."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    layers = [m for m in layers if m.training]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def recompute(module: nn.Module, x):
    """``module(x)``, keeping only ``x`` for backward and running the module again then.

    The second run updates no running statistics, so that a step leaves the same buffers and
    gradients as without.

    Args:
        module (nn.Module): A module of one argument.
        x (Tensor | list[Tensor]): Its argument.
    """
    if torch.compiler.is_compiling():
        # The compiler plans the recomputation itself and repeats no side effect.
        return checkpoint(module, x, use_reentrant=False)
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _running_statistics_kept(module)),
    )
