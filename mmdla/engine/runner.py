"""Run: mmengine's runner, made reproducible, and how the tools build it."""

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

# What a run of the tools has beside the config's own hooks; all can be named in any config.
HOOKS = ('SeedIterationsHook', 'FiniteLossHook')


@RUNNERS.register_module()
class ReproducibleRunner(Runner):
    """mmengine's runner, whose runs are the same for one seed, resumed or not.

    - Samples of training are read with the generators seeded by their position in the run
      (:class:`SeededSampler`, :func:`seeded_dataset`), whatever the number of loader processes.
    - A sample that cannot be read is named.
    - With ``channels_last = True`` in the config the weights are in channels-last memory format, and so
      is what convolutions make of any input.

    ``runner_type = 'mmdla.ReproducibleRunner'`` in a config; arguments of
    :class:`mmengine.runner.Runner`.
    """

    def build_dataloader(
        self, dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader that names samples which cannot be read; that of training is seeded.

        Args:
            dataloader (DataLoader | dict): Config, or a loader, which stays as it is.
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
            # These are of worker processes; without any PyTorch refuses them.
            cfg = {k: v for k, v in cfg.items() if k not in ('persistent_workers', 'prefetch_factor')}
        return super().build_dataloader(cfg, seed=seed, diff_rank_seed=diff_rank_seed)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop.

        Raises:
            ValueError: If it has no batch, or an epoch that never ends.
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
        # Random numbers are drawn in the order of memory: contiguous, they are those of any run.
        if self._channels_last():
            self.model.to(memory_format=torch.contiguous_format)
        super()._init_model_weights()
        if self._channels_last():
            self.model.to(memory_format=torch.channels_last)

    def _channels_last(self) -> bool:
        return bool(self.cfg.get('channels_last', False))


def add_hooks(cfg: Config, train: bool) -> None:
    """Add to a config what the tools do beyond mmengine: it then stands in the config that is saved.

    Checkpoints are written by :class:`AtomicCheckpointHook` in place of mmengine's own hook, iterations
    are seeded, a loss that is not finite ends the run, and the entries of a checkpoint that is loaded
    are accounted for (``load_strict = True`` or ``False``: whether it must be the whole model). Data
    sets are validated before the run starts, unless the config says ``validate_data = False``.

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
    ``Runner``. For training the work folder is looked at, see :func:`prepare_work_dir`.

    Args:
        cfg (Config): Changed in place.
        train (bool): Whether to train; else to test.

    Raises:
        WorkDirError: If the work folder holds another run.
        ValueError: If ``channels_last``, ``validate_data`` or ``load_strict`` is no truth value, or the
            config's runner cannot do ``channels_last``.
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
