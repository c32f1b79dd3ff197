"""Maps that backward makes again, where that costs next to nothing, instead of keeping them.

A convolution, its batch norm and its ReLU keep two maps: the convolution's output, which the norm's
backward takes, and the ReLU's. The second is two cheap operations from the first. A node's convolution
keeps the concatenation of maps of which most are kept already. Here only the first of such maps is
kept, and the others are made again, by the same operations and so to the same bits.

:func:`norm_act` and :func:`concatenate` are these two, and note what they did; within a forward method
that is decorated with :func:`remaking`, what autograd saves is looked up there.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _BatchNorm

from .recompute import compiling

# Bytes below which bookkeeping costs more than it spares: of a map, and of all that a forward is given.
LEAST_MAP = 2**18
LEAST_INPUT = 2**20
# Activations that can write over the norm's output.
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU)


class _State(threading.local):
    """What a thread notes: whether to remake, and, by id, the remakeable maps that are there."""

    def __init__(self):
        self.allowed = True
        self.active = False
        self.remakes: dict[int, tuple[weakref.ref, Callable[[], Remake | None]]] = {}


_state = _State()


class _Use:
    """One use of a map that is made again, or of a view of it."""

    __slots__ = ('remake', 'view')

    def __init__(self, remake: Remake, view: tuple | None):
        self.remake = remake
        self.view = view
        remake.uses += 1

    def get(self) -> Tensor:
        made = self.remake.take()
        return made if self.view is None else made.as_strided(*self.view)


class Remake:
    """How to make a map again. It is made at its first use in a backward, and freed at the last.

    Args:
        map_ (Tensor): The map, which is not kept; while others keep it, it is used as it is.
        changes (int): How often it is yet to be changed in place until it is what is meant.
        make (Callable): Makes it from its parts.
        parts (Sequence[Tensor | None]): What is kept, unless it can be made again itself.
    """

    def __init__(
        self, map_: Tensor, changes: int, make: Callable[..., Tensor], parts: Sequence[Tensor | None]
    ):
        self.map = weakref.ref(map_)
        self.version = map_._version + changes
        self.make = make
        self.parts = [None if part is None else pack(part) for part in parts]
        self.uses = self.left = 0
        self.made: Tensor | None = None

    def take(self) -> Tensor:
        """The map, for one of its uses."""
        made = self.made
        if made is None:
            made = self._again()
            self.left = self.uses
        self.left -= 1
        self.made = made if self.left > 0 else None
        return made

    def _again(self) -> Tensor:
        there = self.map()
        if there is not None and there._version == self.version:
            return there.detach()
        with torch.no_grad():
            return self.make(*(None if part is None else unpack(part) for part in self.parts))


def note(map_: Tensor, remake: Callable[[], Remake | None]) -> None:
    """Have what autograd saves of a map be packed as a remake, which is asked for when it does."""
    remakes, key = _state.remakes, id(map_)
    remakes[key] = weakref.ref(map_, lambda _: remakes.pop(key, None)), remake


def pack(tensor: Tensor) -> tuple[Tensor, int] | _Use:
    """What to keep for a tensor: how to make it again; or itself, and its version."""
    # Detached, since the tensor itself would hold the graph that holds it.
    kept = tensor.detach(), tensor._version
    base = tensor if tensor._base is None else tensor._base
    found = _state.remakes.get(id(base))
    if found is None or found[0]() is not base or base.dtype != tensor.dtype:
        return kept
    remake = found[1]()
    if remake is None or remake.version != tensor._version:
        return kept
    if base is tensor:
        return _Use(remake, None)
    return _Use(remake, (tensor.shape, tensor.stride(), tensor.storage_offset()))


def unpack(packed: tuple[Tensor, int] | _Use) -> Tensor:
    """What was packed.

    Raises:
        RuntimeError: As autograd does, which leaves this check to hooks, if it was changed since.
    """
    if isinstance(packed, _Use):
        return packed.get()
    tensor, version = packed
    if tensor._version != version:
        raise RuntimeError(
            'one of the variables needed for gradient computation has been modified by an inplace '
            f'operation: [{tensor.type()} {list(tensor.shape)}] is at version {tensor._version}; '
            f'expected version {version} instead'
        )
    return tensor


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _large(x: Tensor | Sequence[Tensor]) -> bool:
    """Whether a forward's input is tensors, and worth the bookkeeping."""
    maps = [x] if isinstance(x, Tensor) else x
    if not (isinstance(maps, (list, tuple)) and all(isinstance(m, Tensor) for m in maps)):
        return False
    return sum(map(_bytes, maps)) >= LEAST_INPUT


def _worth(tensor: Tensor) -> bool:
    """Whether to note a map, which has just been made."""
    return not compiling() and _state.active and tensor.requires_grad and _bytes(tensor) >= LEAST_MAP


def _plain(module: nn.Module) -> bool:
    """Whether nobody changes what the module does."""
    return not (module._forward_hooks or module._forward_pre_hooks or 'forward' in vars(module))


def norm_act(norm: nn.Module, act: nn.Module, x: Tensor) -> Tensor:
    r""":math:`\sigma(\mathrm{BN}(x))`, of which :math:`x` alone is kept for backward.

    Any layers may be given; what is not a plain batch norm and an activation in place is kept.

    Args:
        norm (nn.Module): Normalization.
        act (nn.Module): Activation.
        x (Tensor): Input.
    """
    y = norm(x)
    if not (
        _worth(y)
        and isinstance(norm, _BatchNorm)
        and type(norm).forward is _BatchNorm.forward  # not SyncBN's
        and type(act) in ACTIVATIONS
        and act.inplace
        and _plain(norm)
        and _plain(act)
    ):
        return act(y)
    training = norm.training or norm.running_mean is None
    statistics = (None, None) if training else (norm.running_mean, norm.running_var)
    tracked = training and norm.running_mean is not None
    eps = norm.eps

    def make(x, weight, bias, mean, var):
        if tracked:  # what is updated decides which kernel runs
            mean, var = (torch.empty_like(buffer) for buffer in (norm.running_mean, norm.running_var))
        return act(F.batch_norm(x, mean, var, weight, bias, training, 0.0, eps))

    remake = Remake(y, 1, make, (x, norm.weight, norm.bias, *statistics))
    # A weak reference: who keeps the output does not keep the input with it.
    note(y, weakref.ref(remake))
    return act(y)


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Channels of all maps, of which the maps alone are kept for backward."""
    y = torch.cat(maps, 1)
    if _worth(y):
        remake = Remake(y, 0, _cat, maps)
        note(y, lambda: remake)
    return y


def _cat(*maps: Tensor) -> Tensor:
    return torch.cat(maps, 1)


def _hooked() -> bool:
    """Whether somebody else decides what is kept: checkpointing, offloading."""
    one = torch.ones((), device='cpu', requires_grad=True)
    node = (one * one).grad_fn  # PyTorch 2.1 frees what a node saved that nobody holds
    try:
        node._raw_saved_self.register_hooks(lambda t: t, lambda t: t)
    except RuntimeError:  # there may be one pair of hooks
        return True
    return False


def remaking(forward: Callable) -> Callable:
    """Decorate a module's forward: in training, what it can make again in backward is not kept.

    Gradients are those without, to the bit. It does nothing where others' hooks decide what is kept (in
    particular within :func:`recompute`, which keeps less) and where the compiler does.
    """

    @functools.wraps(forward)
    def run(self, *args, **kwargs):
        if compiling():
            return forward(self, *args, **kwargs)
        x = next(iter((*args, *kwargs.values())), None)
        if (
            not (self.training and torch.is_grad_enabled() and _state.allowed)
            or not _large(x)
            or _hooked()
        ):
            return forward(self, *args, **kwargs)
        hooks = saved_tensors_hooks(pack, unpack)
        try:
            hooks.__enter__()
        except RuntimeError:  # torch.func allows none
            return forward(self, *args, **kwargs)
        _state.active = True
        try:
            return forward(self, *args, **kwargs)
        finally:
            _state.active = False
            hooks.__exit__()

    return run


@contextmanager
def keep_all():
    """Within it backbones and necks keep every map for backward, as autograd does by itself.

    For comparisons; of this thread.

    Example:
        >>> from mmdla.models import DLA
        >>> model = DLA('46_c')
        >>> with keep_all():
        ...     levels = model(torch.rand(2, 3, 64, 64))
    """
    before = _state.allowed
    _state.allowed = False
    try:
        yield
    finally:
        _state.allowed = before
