"""What libraries say of faults in terms of their own, said in terms of the config."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config

from .resuming import checkpoints_in


class FaultError(RuntimeError):
    """A run was ended from outside, or cannot be as its config says; the message says what to do."""


def _ended_worker(cfg: Config, error: Exception) -> str:
    workers = (cfg.get('train_dataloader') or {}).get('num_workers')
    return (
        'a process that loads data ended from outside; most often the machine ran out of memory, or of '
        f'shared memory (/dev/shm): fewer train_dataloader.num_workers (now {workers}) need less'
    )


def _ended_rank(cfg: Config, error: Exception) -> str:
    return 'another process of this job ended or cannot be reached; the cause is what it said last'


def _one_value(cfg: Config, error: Exception) -> str:
    size = (cfg.get('train_dataloader') or {}).get('batch_size')
    shape = re.search(r'torch\.Size\((\[.*?\])\)', str(error))
    return (
        f'batch norm has one value a channel ({shape[1] if shape else "1x1 maps"}, from '
        f'train_dataloader.batch_size={size}) and nothing to average: larger batches, larger crops, or '
        'model.backbone.norm_eval=True'
    )


# What PyTorch's message holds, and what it means.
KNOWN = {
    r'DataLoader worker \(pid.*(exited unexpectedly|is killed by signal)': _ended_worker,
    r'Connection (closed|reset) by peer|Broken pipe|Socket Timeout|Connection refused': _ended_rank,
    r'Expected more than 1 value per channel when training': _one_value,
}


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Within it, faults that libraries tell in their own terms are told in the config's.

    Args:
        cfg (Config): What runs.

    Raises:
        FaultError: For a fault of :data:`KNOWN`, and a full disk.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        reason = next((tell(cfg, error) for p, tell in KNOWN.items() if re.search(p, str(error))), None)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f'{error.filename or cfg.work_dir}: {error.strerror}'
        if reason is None:
            raise
        raise FaultError(f'{reason}. {what_is_left(cfg)}') from error


def what_is_left(cfg: Config) -> str:
    """What there is to go on from after a fault.

    Args:
        cfg (Config): What ran.
    """
    kept = checkpoints_in(cfg.work_dir)
    if not kept:
        return f'No checkpoint was saved in {cfg.work_dir} yet'
    return f'{kept[0]} is kept: --resume goes on from it'
