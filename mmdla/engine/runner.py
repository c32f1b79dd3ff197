"""What mmengine's runner gets from the tools: runs that can be repeated, resumed and trusted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from torch import nn
from torch.utils.data import DataLoader

from .draws import NumberedSampler, SeededReading
from .hooks import FiniteLossHook, SeedIterationsHook, WholeCheckpointHook
from .samples import SampleChecks


class Steady:
    """Of a runner: the same seed gives the same run, whatever interrupts it; faults name their cause.

    - Samples of training are read with the generators seeded by their place (:class:`NumberedSampler`),
      iterations run with them seeded by their number (:class:`SeedIterationsHook`).
    - Every sample is checked as it is read (:class:`SampleChecks`).
    - A loss that is not finite ends the run (:class:`FiniteLossHook`).
    - Checkpoints are whole (:class:`WholeCheckpointHook`, in place of mmengine's own).

    A mix-in: ``type('Runner', (Steady, Runner), {})``.
    """

    def build_dataloader(
        self, dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """A data loader whose samples are checked, those of training also numbered.

        Args:
            dataloader (DataLoader | dict): Config, or a loader, which stays as it is.
            seed (int, optional): Seed of the sampler and the loader's processes.
            diff_rank_seed (bool): Whether processes have different seeds. Default: False.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        cfg = dict(dataloader)
        if dataloader is self._train_dataloader and cfg.get('sampler') is not None:
            cfg['sampler'] = dict(type=NumberedSampler, sampler=cfg['sampler'])
        loader = super().build_dataloader(cfg, seed=seed, diff_rank_seed=diff_rank_seed)
        # A data set that reads batches by a way of its own keeps it.
        if not getattr(loader.dataset, '__getitems__', None):
            checks = SampleChecks.for_model(self.cfg)
            loader.dataset.__getitems__ = SeededReading(loader.dataset, checks)
        return loader

    def register_hooks(
        self,
        default_hooks: dict[str, Hook | dict] | None = None,
        custom_hooks: Sequence[Hook | dict] | None = None,
    ) -> None:
        """Register hooks, and with them those that keep a run steady."""
        default_hooks = dict(default_hooks or {})
        saving = default_hooks.get('checkpoint', dict(type='CheckpointHook'))
        if isinstance(saving, dict):
            kind = saving['type']
            if (HOOKS.get(kind) if isinstance(kind, str) else kind) is CheckpointHook:
                default_hooks['checkpoint'] = {**saving, 'type': WholeCheckpointHook}
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(SeedIterationsHook())
        self.register_hook(FiniteLossHook())


class ChannelsLast:
    """Of a runner: its weights are channels-last, and so is what convolutions make of any input."""

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """The model, in channels-last memory format."""
        # Before it is wrapped: DDP's buckets take the weights' strides.
        return super().build_model(model).to(memory_format=torch.channels_last)

    def _init_model_weights(self) -> None:
        # Random numbers are drawn in the order of memory: so that they are those of any run.
        self.model.to(memory_format=torch.contiguous_format)
        super()._init_model_weights()
        self.model.to(memory_format=torch.channels_last)
