"""Hooks for long runs: reproducible iterations, finite losses, atomic checkpoints, validated data."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..checkpoints import IncompleteError, weights_for
from ..datasets.validation import (
    SAMPLES,
    DatasetError,
    DatasetValidator,
    Outputs,
    check_class_folders,
    unwrap,
)
from .reproducibility import SeededSampler, seed_all


@HOOKS.register_module()
class SeedIterationsHook(Hook):
    """Seeds every training iteration by the run's seed, the rank and the iteration's number.

    Dropout and other random layers are then the same in a resumed run, although checkpoints do not
    store the state of random generators.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators."""
        seed_all(runner.seed, get_rank(), runner.iter)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a run whose loss is infinite or NaN, before a checkpoint is saved.

    mmengine's ``CheckInvalidLossHook`` checks every 50th iteration. By then, a checkpoint with invalid
    weights may have replaced a good one.
    """

    # Before the hook that saves checkpoints, which has a very low priority.
    priority = 'NORMAL'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the loss.

        Raises:
            FloatingPointError: If it is not finite.
        """
        outputs = outputs or {}
        loss = outputs.get('loss')
        if loss is None or math.isfinite(_number(loss)):
            return
        parts = ', '.join(f'{name}={_number(v):g}' for name, v in outputs.items() if name != 'loss')
        rates = ', '.join(
            f'{name}={values[0]:g}' for name, values in runner.optim_wrapper.get_lr().items() if values
        )
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: the loss is {_number(loss):g} ({parts}; learning rate '
            f'{rates}). A lower optim_wrapper.optimizer.lr, optim_wrapper.clip_grad=dict(max_norm=...) '
            'or a warm-up may help; with --amp float16 may have overflowed'
        )


def _number(value: torch.Tensor | float) -> float:
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


@HOOKS.register_module()
class LoadWeightsHook(Hook):
    """Loads the checkpoint that a run starts from or tests, and logs how each entry was used.

    mmengine ignores entries that do not have the model's names, even if that is all of them. This hook
    finds the names below any prefix and converts released networks, see
    :func:`mmdla.checkpoints.weights_for`. mmengine loads the checkpoint of a resumed run.

    Args:
        strict (bool, optional): Whether the file must have all weights of the model. Default: None,
            True in testing and False in training, which may start from a part, such as a backbone.
    """

    priority = 'VERY_HIGH'  # before averaged weights are copied from the loaded ones

    def __init__(self, strict: bool | None = None):
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the checkpoint's state dict by the model's weights under the model's names.

        Raises:
            CheckpointError: If no weight of the model is found, or with ``strict`` not all are.
        """
        if runner._resume:
            return
        strict = self.strict
        if strict is None:
            strict = not isinstance(runner._train_loop, BaseLoop)
        source = f'checkpoint {runner._load_from!r}'
        try:
            checkpoint['state_dict'] = weights_for(bare_model(runner), checkpoint, source, strict)
        except IncompleteError as error:
            raise IncompleteError(
                f'{error}. --cfg-options load_strict=False initializes the rest'
            ) from error


def bare_model(runner: Runner) -> torch.nn.Module:
    """A runner's model without its wrappers: DDP, test-time augmentation."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


class AtomicFileBackend(LocalBackend):
    """Writes local files atomically: a file gets its name only when it is complete on the disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file.

        Args:
            obj (bytes): Content.
            filepath (str | Path): Path; its folder is created if necessary.

        Raises:
            OSError: If it cannot be written; an existing file of this name is kept.
        """
        path = Path(filepath)
        part = path.with_name(f'{path.name}.part')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f'{error.strerror}: {len(obj):,} bytes could not be written; an existing file is kept',
                str(path),
            ) from error


register_backend('AtomicFileBackend', AtomicFileBackend, force=True)


class _DelayedRemoval:
    """A file backend that removes files only when :meth:`remove_now` is called."""

    def __init__(self, backend: Any):
        self._backend = backend
        self._waiting: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, filepath: str) -> None:
        self._waiting.append((self._backend.remove, filepath))

    def rmtree(self, folder: str) -> None:
        self._waiting.append((self._backend.rmtree, folder))

    def remove_now(self, but: set[str]) -> None:
        """Remove the files whose removal was requested, except those that were written again since."""
        waiting, self._waiting = self._waiting, []
        for remove, path in waiting:
            if path not in but:
                remove(path)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` with atomic writes, so that a killed run leaves complete files.

    A file gets its name only when it is complete. The file that it replaces (``max_keep_ckpts``,
    ``save_best``) is removed after that. Weights that are not finite are not saved.

    Args:
        **kwargs: Of :class:`mmengine.hooks.CheckpointHook`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.backend_args: dict | None
        self._own = self.backend_args is None and self.file_client_args is None

    def before_train(self, runner: Runner) -> None:
        """Choose the file backend of checkpoints."""
        if self._own and type(get_file_backend(self.out_dir or runner.work_dir)) is LocalBackend:
            self.backend_args = dict(backend='AtomicFileBackend')
        super().before_train(runner)
        self.file_backend: Any = _DelayedRemoval(self.file_backend)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        wrong = [n for n, v in runner.model.state_dict().items() if not torch.isfinite(v).all()]
        if wrong:
            raise FloatingPointError(
                f'iteration {meta["iter"]}: {len(wrong)} of the weights are not finite, as {wrong[0]}; '
                'they are not saved, and the previous checkpoint is kept'
            )
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_old()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_old()

    def _remove_old(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', None) or {0: getattr(self, 'best_ckpt_path', None)}
        self.file_backend.remove_now({self.last_ckpt, *best.values()})


@HOOKS.register_module()
class DatasetValidationHook(Hook):
    """Validates the data sets of a run before it starts, see :class:`DatasetValidator`.

    The tools add this hook to every run; ``validate_data = False`` in a config turns it off. In a
    distributed run only the first process validates.

    Args:
        samples (int): How many samples of each data set to read. Default: 8.
    """

    priority = 'VERY_HIGH'

    def __init__(self, samples: int = SAMPLES):
        self.samples = samples

    def before_run(self, runner: Runner) -> None:
        """Validate the data sets of the loops that were built.

        Raises:
            DatasetError: If training or evaluating is certain to fail; the message says what to do.
        """
        loops = {s: getattr(runner, f'_{s}_loop', None) for s in ('train', 'val', 'test')}
        loops = {split: loop for split, loop in loops.items() if isinstance(loop, BaseLoop)}
        failed: list[str | None] = [None]
        if get_rank() == 0:
            try:
                self._validate(runner, loops)
            except DatasetError as error:
                failed[0] = str(error)
        broadcast_object_list(failed)
        if failed[0] is not None:
            raise DatasetError(failed[0])

    def _validate(self, runner: Runner, loops: dict[str, BaseLoop]) -> None:
        def warn(text: str) -> None:
            print_log(text, runner.logger, logging.WARNING)

        validator = DatasetValidator(Outputs.of(bare_model(runner)), warn, self.samples)
        # A user's own loop may have several loaders.
        loaders = {split: loop.dataloader for split, loop in loops.items()}
        loaders = {split: one for split, one in loaders.items() if isinstance(one, DataLoader)}
        for split, loader in loaders.items():
            validator(f'{split}_dataloader.dataset', loader.dataset)
        check_class_folders({s: list(unwrap(loader.dataset)) for s, loader in loaders.items()}, warn)
        for line in validator.report:
            runner.logger.info(f'Validated {line}')


def check_train_loop(loop: BaseLoop) -> None:
    """Check that a training loop has batches and that its epochs end.

    Raises:
        ValueError: If there is no batch, or if epochs use an infinite sampler.
    """
    loader = loop.dataloader
    if not isinstance(loader, DataLoader):  # of a user's own loop
        return
    sampler = loader.sampler
    sampler = sampler.sampler if isinstance(sampler, SeededSampler) else sampler
    endless = isinstance(sampler, InfiniteSampler)
    if endless and isinstance(loop, EpochBasedTrainLoop):
        raise ValueError(
            'train_dataloader.sampler is an InfiniteSampler, whose epochs never end, but '
            "train_cfg counts epochs: use sampler=dict(type='DefaultSampler', shuffle=True), or "
            "train_cfg=dict(type='IterBasedTrainLoop', max_iters=...)"
        )
    try:
        empty = not endless and not len(loader)
    except TypeError:  # a sampler without a length, whose loop counts iterations
        return
    if empty:
        samples = len(loader.dataset)  # type: ignore[arg-type]
        raise ValueError(
            f'train_dataloader has no batch: {samples} samples are fewer than '
            f'batch_size={loader.batch_size}, and drop_last leaves the rest out. Use a smaller '
            'batch_size, or drop_last=False'
        )
