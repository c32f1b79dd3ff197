"""A reproducible version of mmengine's runner, and the function with which the tools build it."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from .config import type_name
from .hooks import check_train_loop
from .reproducibility import SeededSampler, seeded_dataset
from .resume import check_same_network, prepare_work_dir

# Hooks that the tools add to a config for training.
HOOKS = ('SeedIterationsHook', 'FiniteLossHook')


@RUNNERS.register_module()
class ReproducibleRunner(Runner):
    """mmengine's runner with reproducible runs: the same seed gives the same run, resumed or not.

    - The random generators are seeded by the position of a training sample in the run before the sample
      is read (:class:`SeededSampler`, :func:`seeded_dataset`), for any number of loader processes.
    - The error for a sample that cannot be read names the sample.
    - ``channels_last = True`` in the config puts weights, and thereby the outputs of convolutions, into
      channels-last memory format.

    A config selects it with ``runner_type = 'mmdla.ReproducibleRunner'``. Its arguments are those of
    :class:`mmengine.runner.Runner`.
    """

    def build_dataloader(
        self, dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose errors name the sample; the one for training is seeded.

        Args:
            dataloader (DataLoader | dict): Config, or a loader, which is returned unchanged.
            seed (int, optional): Seed of the sampler and the loader's processes.
            diff_rank_seed (bool): Whether processes have different seeds. Default: False.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        cfg = dict(dataloader)
        if isinstance(cfg['dataset'], dict):
            cfg['dataset'] = dict(type=seeded_dataset, dataset=cfg['dataset'])
            if dataloader is self._train_dataloader and isinstance(cfg.get('sampler'), dict):
                cfg['sampler'] = dict(type=SeededSampler, sampler=cfg['sampler'])
        if not cfg.get('num_workers'):
            # PyTorch refuses these arguments without worker processes.
            cfg = {k: v for k, v in cfg.items() if k not in ('persistent_workers', 'prefetch_factor')}
        return super().build_dataloader(cfg, seed=seed, diff_rank_seed=diff_rank_seed)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop.

        Raises:
            ValueError: If it has no batch, or its epochs never end.
        """
        loop = super().build_train_loop(loop)
        check_train_loop(loop)
        return loop

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, in the memory format that the config asks for."""
        built = super().build_model(model)
        # Before it is wrapped: DDP's buckets take the weights' strides.
        return built.to(memory_format=torch.channels_last) if self._channels_last() else built

    def _init_model_weights(self) -> None:
        # Random numbers are drawn in memory order, so a contiguous layout gives those of any run.
        if self._channels_last():
            self.model.to(memory_format=torch.contiguous_format)
        super()._init_model_weights()
        if self._channels_last():
            self.model.to(memory_format=torch.channels_last)

    def _channels_last(self) -> bool:
        return bool(self.cfg.get('channels_last', False))


def add_hooks(cfg: Config, train: bool) -> None:
    """Add the hooks of this project to a config, so that the saved config shows them.

    :class:`AtomicCheckpointHook` replaces mmengine's own hook. The others seed iterations, stop a run
    whose loss is not finite, and load checkpoints with a report (``load_strict = True`` or ``False`` in
    the config: whether they must have all weights of the model). Data sets are validated before the run
    starts, unless the config has ``validate_data = False``.

    Args:
        cfg (Config): Changed in place.
        train (bool): Whether to train.
    """
    present = {type_name(hook) for hook in cfg.get('custom_hooks') or () if isinstance(hook, dict)}
    wanted = [
        *(HOOKS if train else ()),
        *(['DatasetValidationHook'] if cfg.get('validate_data', True) else ()),
    ]
    added = [dict(type=f'mmdla.{name}') for name in wanted if name not in present]
    if 'LoadWeightsHook' not in present:
        added.append(dict(type='mmdla.LoadWeightsHook', strict=cfg.get('load_strict')))
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or ()), *added]
    if not train:
        return
    hooks = dict(cfg.get('default_hooks') or {})
    saving = hooks.get('checkpoint', dict(type='CheckpointHook'))
    if isinstance(saving, dict) and type_name(saving) == 'CheckpointHook':
        hooks['checkpoint'] = {**saving, 'type': 'mmdla.AtomicCheckpointHook'}
        cfg.default_hooks = hooks


def build_runner(cfg: Config, train: bool) -> Runner:
    """Build the runner of a config that was adapted to the platform.

    It is a :class:`ReproducibleRunner`, unless the config has a ``runner_type`` other than mmengine's
    ``Runner``. For training, the work folder is checked, see :func:`prepare_work_dir`.

    Args:
        cfg (Config): Changed in place.
        train (bool): Whether to train (True) or to test (False).

    Raises:
        WorkDirError: If the work folder holds another run.
        ValueError: If ``channels_last``, ``validate_data`` or ``load_strict`` is not a bool, or the
            config's runner does not support ``channels_last``.
    """
    for name in ('channels_last', 'validate_data', 'load_strict'):
        if not isinstance(cfg.get(name, False), bool):
            raise ValueError(f'{name}={cfg[name]!r}: must be True or False')
    kind = type_name(dict(type=cfg.get('runner_type') or 'Runner'))
    if kind == 'Runner':
        cfg.runner_type = 'mmdla.ReproducibleRunner'
    elif cfg.get('channels_last') and kind != 'ReproducibleRunner':
        raise ValueError(f"channels_last=True: needs runner_type='Runner', the config has {kind!r}")
    add_hooks(cfg, train)
    checkpoint = prepare_work_dir(cfg) if train else None
    runner = RUNNERS.build(cfg)
    if checkpoint is not None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_same_network(model, checkpoint, cfg.load_from)
    return runner
