"""Memory of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


class _Storages(TorchDispatchMode):
    """Tracks the storages of tensors computed within it, except for those given."""

    def __init__(self, but: list[Tensor]):
        super().__init__()
        self.but = {StorageWeakRef(t.untyped_storage()).cdata for t in but}
        self.seen: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        new = False
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                ref = StorageWeakRef(storage)
                if ref.cdata not in self.but and ref.cdata not in self.seen:
                    # The reference keeps the address from being given to another storage.
                    self.seen[ref.cdata] = ref, storage.nbytes()
                    new = True
        if new:
            self.peak = max(self.peak, self.alive())
        return out

    def alive(self) -> int:
        """Bytes of the storages that still exist."""
        self.seen = {key: (ref, n) for key, (ref, n) in self.seen.items() if not ref.expired()}
        return sum(n for _, n in self.seen.values())


def _outputs(out: Any) -> list[Tensor]:
    return [t for t in tree_flatten(out)[0] if isinstance(t, Tensor) and t.requires_grad]


def saved_bytes(model: nn.Module, x: Tensor | list[Tensor]) -> int:
    """Bytes that training stores for backward, each storage once, without parameters and buffers.

    These are the storages that exist after a forward pass when only the graph is left of its output.

    Args:
        model (nn.Module): Put into training mode.
        x (Tensor | list[Tensor]): Its input.
    """
    model.train()
    with _Storages([*tree_flatten(x)[0], *model.parameters(), *model.buffers()]) as storages:
        # Copies, so that the input counts if the graph stores it.
        copied = tree_map(lambda t: t.detach().clone().requires_grad_(t.requires_grad), x)
        graph = [t.grad_fn for t in _outputs(model(copied))]
        del copied
        saved = storages.alive()
    del graph
    return saved


def peak_bytes(model: nn.Module, x: Tensor) -> int:
    """Most bytes that exist at once in a training step, without parameters and buffers.

    Counts tensors, gradients of parameters among them, not the workspaces of a library.

    Args:
        model (nn.Module): Put into training mode; its gradients are left as they were.
        x (Tensor): Its input.
    """
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    with _Storages([x, *model.parameters(), *model.buffers()]) as storages:
        losses = [t.square().mean() for t in _outputs(model(x.detach().clone()))]
        loss = sum(losses[1:], losses[0])
        torch.autograd.grad(loss, parameters, allow_unused=True)
    return storages.peak
