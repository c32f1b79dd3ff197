"""What keeps a long run safe: repeatable iterations, finite losses, checkpoints that are whole."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .draws import seed_all


@HOOKS.register_module()
class SeedIterationsHook(Hook):
    """Seeds every iteration of training by the run's seed, the process and the iteration's number.

    Dropout and the like then are the same in a resumed run, of which a checkpoint holds no generator.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Seed the generators."""
        seed_all(runner.seed, get_rank(), runner.iter)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends a run whose loss is infinite or NaN, before anything of it is saved.

    mmengine's ``CheckInvalidLossHook`` looks at every 50th iteration, by which time weights that are no
    numbers may have taken the place of good ones.
    """

    # Before checkpoints are saved, which is of very low priority.
    priority = 'NORMAL'

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Look at the loss.

        Raises:
            FloatingPointError: If it is not finite.
        """
        loss = (outputs or {}).get('loss')
        if loss is None or math.isfinite(float(loss)):
            return
        parts = ', '.join(f'{name}={float(v):g}' for name, v in outputs.items() if name != 'loss')
        rates = runner.optim_wrapper.get_lr()
        told = ', '.join(f'{name}={values[0]:g}' for name, values in rates.items() if values)
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: the loss is {float(loss):g} ({parts}; learning rate {told}) '
            'and was not learned from any further. A lower optim_wrapper.optimizer.lr, '
            'optim_wrapper.clip_grad=dict(max_norm=...) or a warm-up may help; with --amp float16 may '
            'have overflowed'
        )


class WholeFilesBackend(LocalBackend):
    """Files of this machine, under their names only once they are whole and on the disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file.

        Args:
            obj (bytes): What it holds.
            filepath (str | Path): Where; the folder is made if there is none.

        Raises:
            OSError: If it cannot be written; a file of this name stays as it was.
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
                f'{error.strerror}: {len(obj):,} bytes could not be written; what was there before is '
                'kept',
                str(path),
            ) from error


register_backend('WholeFilesBackend', WholeFilesBackend, force=True)


class _RemovingLater:
    """A storage whose files are removed when it is told so."""

    def __init__(self, backend):
        self._backend = backend
        self._waiting: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, filepath: str) -> None:
        self._waiting.append((self._backend.remove, filepath))

    def rmtree(self, folder: str) -> None:
        self._waiting.append((self._backend.rmtree, folder))

    def remove_now(self, but: set[str]) -> None:
        """Remove what was to be removed, but not what has been written again since."""
        waiting, self._waiting = self._waiting, []
        for remove, path in waiting:
            if path not in but:
                remove(path)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, after which there always is a whole checkpoint.

    A file comes to be under its name once it is whole; the old one that it takes the place of
    (``max_keep_ckpts``, ``save_best``) is removed after that. Weights that are not finite are refused.

    Args:
        **kwargs: Of :class:`mmengine.hooks.CheckpointHook`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._own = self.backend_args is None and self.file_client_args is None

    def before_train(self, runner: Runner) -> None:
        """Find out where checkpoints go."""
        if self._own and type(get_file_backend(self.out_dir or runner.work_dir)) is LocalBackend:
            self.backend_args = dict(backend='WholeFilesBackend')
        super().before_train(runner)
        self.file_backend = _RemovingLater(self.file_backend)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        wrong = [n for n, v in runner.model.state_dict().items() if not torch.isfinite(v).all()]
        if wrong:
            raise FloatingPointError(
                f'iteration {meta["iter"]}: {len(wrong)} of the weights are not finite, as {wrong[0]}; '
                'they are not saved, the checkpoint before is kept'
            )
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_old()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_old()

    def _remove_old(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', None) or {0: getattr(self, 'best_ckpt_path', None)}
        self.file_backend.remove_now({self.last_ckpt, *best.values()})
