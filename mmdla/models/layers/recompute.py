"""Activation recomputation: backward runs a part of the network again instead of storing activations.

Two modes, both PyTorch's activation checkpointing without re-entrance. The plain one stores the input
of a part only. The selective one, ``with_cp='norm'``, also stores what convolutions and matrix products
compute, so that only cheap operations run again: normalization, activation, concatenation, pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# The expensive operators, whose outputs the selective mode stores.
_aten = torch.ops.aten
STORED_OPERATORS = [
    _aten.convolution.default,
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
]


class _SecondRun:
    """Context of the run in backward, which updates copies of the buffers of a module.

    A context manager that can be entered again, since a graph may be run backward more than once.

    Args:
        module (nn.Module): What runs.
        stored (AbstractContextManager): Returns the outputs that the first run stored.
    """

    def __init__(self, module: nn.Module, stored: AbstractContextManager):
        self.owners = [m for m in module.modules() if m._buffers]
        self.stored = stored
        self.before: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self.before = [dict(m._buffers) for m in self.owners]
        for owner, buffers in zip(self.owners, self.before):
            copies = {k: None if b is None else b.clone() for k, b in buffers.items()}
            owner._buffers.update(copies)
        # Last, since it knows the operators of the first run only.
        self.stored.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.stored.__exit__(*error)
        for owner, buffers in zip(self.owners, self.before):
            owner._buffers.update(buffers)


def _contexts(
    module: nn.Module, selective: bool
) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of the first run and of the run in backward."""
    if not selective:
        return nullcontext(), _SecondRun(module, nullcontext())
    first, stored = torch.utils.checkpoint.create_selective_checkpoint_contexts(STORED_OPERATORS)
    return first, _SecondRun(module, stored)


def check_selective(with_cp: object) -> bool:
    """Whether ``with_cp`` is ``'norm'``, the selective mode.

    Raises:
        RuntimeError: If it is, and PyTorch does not have selective checkpointing.
    """
    if not isinstance(with_cp, str) or with_cp != 'norm':
        return False
    if not hasattr(torch.utils.checkpoint, 'create_selective_checkpoint_contexts'):
        raise RuntimeError(
            "with_cp='norm': needs selective activation checkpointing, which came with PyTorch 2.4; "
            f'this is {torch.__version__}. with_cp=True works with it'
        )
    return True


def compiling() -> bool:
    """Whether the compiler or an exporter runs the code."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()  # PyTorch 2.1 and 2.2


def exporting() -> bool:
    """Whether ``torch.export`` traces: a branch on a size would then bind the graph to it."""
    # PyTorch without it is not exported from, see mmdla/deploy/exporting.py.
    return hasattr(torch.compiler, 'is_exporting') and torch.compiler.is_exporting()


def _needs_gradients(x: Tensor | list[Tensor], modules: nn.Module) -> bool:
    """Whether there will be a backward pass through the modules."""
    inputs = [x] if isinstance(x, Tensor) else x
    return torch.is_grad_enabled() and any(
        t.requires_grad for part in (inputs, modules.parameters()) for t in part
    )


def recompute(
    function: Callable,
    x: Tensor | list[Tensor],
    modules: Iterable[nn.Module] | None = None,
    selective: bool = False,
) -> Any:
    """Compute ``function(x)``, and run it again in backward instead of storing its activations.

    Outputs, gradients and buffers are those of ``function(x)``, to the bit: the second run leaves
    running statistics alone and draws the same random numbers. Without gradients and within
    ``torch.jit.trace`` this is ``function(x)``; so it is under ``torch.compile`` if ``selective``,
    since the compiler's partitioner recomputes cheap operations by itself.

    Args:
        function (Callable): A module, or a function, of one argument.
        x (Tensor | list[Tensor]): Its argument. It is stored.
        modules (Iterable[nn.Module], optional): The modules that the function runs. Default: None, the
            function, which is a module itself.
        selective (bool): Store the outputs of convolutions and matrix products too. PyTorch then allows
            one backward pass through the graph, whatever ``retain_graph`` says, and no change in place
            of a convolution's output; it raises a RuntimeError otherwise. Default: False.
    """
    if compiling():
        # The compiler plans the recomputation itself and repeats no side effect.
        plain = selective or exporting() or not torch.is_grad_enabled()
        return function(x) if plain else checkpoint(function, x, use_reentrant=False)
    owner = function if isinstance(function, nn.Module) else nn.ModuleList(modules or [])
    if not _needs_gradients(x, owner) or torch.jit.is_tracing():
        return function(x)
    contexts = partial(_contexts, owner, selective)
    return checkpoint(function, x, use_reentrant=False, context_fn=contexts)
