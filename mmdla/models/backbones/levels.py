"""Base class of the backbones: levels in a row, some of which are returned."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...checkpoints import load_pretrained, rename_classifier, split_pretrained
from ..layers import as_tuple, check_selective, recompute
from ..layers.conv import PAPER_INIT


def rename_keys(arch: Mapping, renamed: Mapping[str, str]) -> dict:
    """Copy an architecture with its deprecated keys renamed, and warn about them.

    Raises:
        ValueError: If the dict has a key under both names.
    """
    arch = dict(arch)
    for old, new in renamed.items():
        if old not in arch:
            continue
        if new in arch:
            raise ValueError(
                f'arch: has both {new!r} and {old!r}, its deprecated name; leave {old!r} out'
            )
        warnings.warn(
            f'arch[{old!r}] is deprecated and will be removed in the next version; use {new!r}',
            DeprecationWarning,
            stacklevel=2,
        )
        arch[new] = arch.pop(old)
    return arch


class LevelBackbone(BaseModule):
    """A stem and numbered levels, each of which takes the output of the one before.

    A subclass builds them, under the released names, and then calls :meth:`_freeze`.

    Args:
        numbers (range): The levels that the network has.
        out_indices (Sequence[int]): Levels to return, ascending. Levels past the last are not built.
        frozen_stages (int): The stem and the levels up to this one take no gradient and keep their
            batch-norm statistics. -1 freezes nothing; 0 freezes the stem alone if levels count from 1.
        norm_eval (bool): Keep all batch norms in evaluation mode while training.
        with_cp (bool | str | Sequence[int]): Recompute all levels in backward (True), the levels of
            these numbers, or the cheap activations of all levels (``'norm'``). The stem belongs to the
            first level.
        init_cfg (dict | list[dict], optional): As in mmengine; ``Pretrained`` takes released files, and
            with ``strict=False`` files that lack a part of the network, which is then initialized.
            Default: None, the papers' initialization: normal with variance 2 / (k^2 out_channels).

    Raises:
        TypeError: If ``with_cp`` is not a bool, ``'norm'``, a list or a tuple.
        ValueError: If ``out_indices``, ``frozen_stages`` or ``with_cp`` is impossible.
        RuntimeError: If ``with_cp='norm'`` and PyTorch is older than 2.4.
    """

    arch_settings: dict[str, dict]
    # Released names of a level, to be formatted with its number, and of the classifier.
    level_name: str
    classifier_name = 'fc'

    def __init__(
        self,
        numbers: range,
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool | str | Sequence[int],
        init_cfg: dict | list[dict] | None,
    ):
        pretrained, others = split_pretrained(init_cfg)
        super().__init__(others or PAPER_INIT)
        self.pretrained = pretrained
        self.numbers = numbers
        self.out_indices = indices = as_tuple('out_indices', out_indices)
        ascending = indices == tuple(sorted(set(indices)))
        if not indices or not ascending or not all(i in numbers for i in indices):
            raise ValueError(
                f'out_indices={indices}: must be levels from {numbers[0]} to {numbers[-1]}, in '
                'ascending order, without repetition'
            )
        last_built = indices[-1]
        if frozen_stages not in range(-1, last_built + 1):
            raise ValueError(
                f'frozen_stages={frozen_stages}: must be from -1 (none) to {last_built}, the last '
                f'level that out_indices={indices} has built'
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.recomputed = self._check_with_cp(range(numbers[0], last_built + 1))

    def _check_with_cp(self, built: range) -> frozenset[int]:
        """The levels to recompute, of those that are built."""
        if isinstance(self.with_cp, bool) or check_selective(self.with_cp):
            return frozenset(built if self.with_cp else ())
        if isinstance(self.with_cp, str) or not isinstance(self.with_cp, Sequence):
            raise TypeError(
                f'with_cp={self.with_cp!r}: must be True, False, "norm", or a list or tuple of levels'
            )
        numbers = [i for i in self.with_cp if type(i) is int and i in built]
        if len(numbers) != len(self.with_cp):
            raise ValueError(
                f'with_cp={self.with_cp!r}: must be True, False, "norm", or levels from {built[0]} to '
                f'{built[-1]}, the last that out_indices={self.out_indices} has built'
            )
        return frozenset(numbers)

    @classmethod
    def _complete(cls, arch: str | dict, needed: Sequence[str], optional: dict) -> dict:
        """Copy the table's entry, or a user's dict, and fill in the defaults."""
        if not isinstance(arch, str | Mapping):
            raise TypeError(f'arch={arch!r}: must be a name or a dict')
        if isinstance(arch, str):
            if arch not in cls.arch_settings:
                raise ValueError(f'arch={arch!r}: must be one of {sorted(cls.arch_settings)} or a dict')
            arch = cls.arch_settings[arch]
        missing, unknown = set(needed) - set(arch), set(arch) - set(needed) - set(optional)
        if missing or unknown:
            raise ValueError(
                f'arch={dict(arch)}: a dict has the keys {", ".join(needed)} and may have '
                f'{", ".join(optional)}; missing: {sorted(missing)}, unknown: {sorted(unknown)}'
            )
        return optional | copy.deepcopy(dict(arch))

    def stem(self, x: Tensor) -> Tensor:
        """The layers before the first level."""
        raise NotImplementedError

    def stem_modules(self) -> list[nn.Module]:
        """The modules that :meth:`stem` runs."""
        raise NotImplementedError

    def levels(self) -> list[tuple[int, nn.Module]]:
        """The levels that were built, with their numbers."""
        built = range(self.numbers[0], self.out_indices[-1] + 1)
        return [(i, getattr(self, self.level_name.format(i))) for i in built]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the levels in ``out_indices``, shallowest first.

        Args:
            x (Tensor): Images, (N, in_channels, H, W).
        """
        x = self._run(self.numbers[0], self.stem, x, self.stem_modules())
        outs = []
        for i, level in self.levels():
            x = self._run(i, level, x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _run(
        self, number: int, function: Callable, x: Tensor, modules: list[nn.Module] | None = None
    ) -> Tensor:
        if number in self.recomputed:
            return recompute(function, x, modules, self.with_cp == 'norm')
        return function(x)

    def init_weights(self) -> None:
        """Initialize the weights; :mod:`mmdla.checkpoints` reads a ``Pretrained`` entry."""
        first = not self.is_init
        super().init_weights()
        if self.pretrained is not None and first:
            load_pretrained(self, **self.pretrained)

    def train(self, mode: bool = True) -> LevelBackbone:
        """Set the mode, keeping frozen levels and, with ``norm_eval``, batch norms as they are."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        # If levels count from 0, the stem belongs to the first.
        frozen = self.stem_modules() if self.frozen_stages >= 0 else []
        frozen += [level for i, level in self.levels() if i <= self.frozen_stages]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning-rate decay in mmpretrain.

        The stem has depth 0, then come the levels; modules after the backbone come last.

        Args:
            param_name (str): Name of a parameter of the whole model.
            prefix (str): Prefix of the backbone's parameters. Default: ``''``.

        Returns:
            tuple[int, int]: Its depth, and the number of depths.
        """
        names = [self.level_name.format(i) for i, _ in self.levels()]
        after = len(names) + 1
        if not param_name.startswith(prefix):
            return after, after + 1
        name = param_name[len(prefix) :].split('.')[0]
        return (names.index(name) + 1 if name in names else 0), after + 1

    @staticmethod
    def _checkpoint_filter(state_dict: dict, prefix: str, *args: Any) -> None:
        """Rename the entries of a released classifier; mmpretrain's classifier calls this."""
        rename_classifier(state_dict, prefix)

    def dropped(self) -> tuple[str, ...]:
        """Prefixes of parameters in released files that this network does not use."""
        after = range(self.out_indices[-1] + 1, self.numbers[-1] + 1)
        return (f'{self.classifier_name}.', *(f'{self.level_name.format(i)}.' for i in after))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        dropped, own = self.dropped(), self.state_dict().keys()
        for key in [k for k in state_dict if k.startswith(prefix)]:
            name = key[len(prefix) :]
            if name.startswith(dropped) and name not in own:  # a subclass may have a classifier
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)
