"""Resuming: finds the checkpoint and checks that its network is that of the config."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from torch import nn

from ..checkpoints import state_dict_of
from ..io.checkpoint_files import CheckpointError, read_checkpoint
from ..utils.messages import print_rank0


class WorkDirError(RuntimeError):
    """The work folder holds another run, or none that can be resumed; the message says what to do."""


def saved_checkpoints(cfg: Config) -> list[str]:
    """List the training checkpoints of a work folder, with the one to resume from first.

    The first is the one that mmengine recorded in the file ``last_checkpoint``. The others follow by
    time, the latest first; they have the names of ``CheckpointHook`` (``out_dir``, ``filename_tmpl``).

    Args:
        cfg (Config): With ``work_dir`` set.
    """
    work_dir = Path(cfg.work_dir)
    saving = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folders = [work_dir]
    if saving.get('out_dir') and '://' not in str(saving['out_dir']):
        folders.append(Path(saving['out_dir'], work_dir.name))
    names = (
        [saving['filename_tmpl']] if saving.get('filename_tmpl') else ['epoch_{}.pth', 'iter_{}.pth']
    )
    patterns = [re.sub(r'\{.*?\}', '*', name) for name in names]
    found = {path for folder in folders for pattern in patterns for path in folder.glob(pattern)}
    others = [str(p) for p in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)]
    recorded = find_latest_checkpoint(cfg.work_dir) if (work_dir / 'last_checkpoint').exists() else None
    if not recorded:
        return others
    # The folder may have been moved, or the record be relative to another current folder.
    places = [recorded, *(str(folder / Path(recorded).name) for folder in folders)]
    first = next((p for p in places if '://' in p or Path(p).is_file()), None)
    if first is None:
        print_rank0(f'{work_dir / "last_checkpoint"} names {recorded}, which does not exist.')
        return others
    return [first, *(p for p in others if p != first)]


def prepare_work_dir(cfg: Config) -> Mapping | None:
    """Find the checkpoint to resume from, or check that the work folder holds no other run.

    A run resumes if ``cfg.resume`` is set, which may also be the path or address of a checkpoint, and
    if ``torchrun`` restarted its processes after they saved one. ``cfg.load_from`` then becomes the
    checkpoint, and the run gets its seed. If ``cfg.load_from`` was set, the run resumes from it if it
    is a checkpoint of the work folder, or if that folder has none and the file holds the state of an
    optimizer. Without any checkpoint, a new run begins.

    Args:
        cfg (Config): Changed in place; ``work_dir`` is set.

    Returns:
        Mapping | None: The checkpoint, if the run resumes and this process has read it.

    Raises:
        WorkDirError: If the work folder holds checkpoints and the run is not to resume, or none of them
            can be read.
        FileNotFoundError, CheckpointError: If a checkpoint that was named cannot be read.
    """
    resume, named = cfg.get('resume'), cfg.get('load_from')
    saved = saved_checkpoints(cfg)
    # A run that was killed before it saved a checkpoint starts again.
    restarted = bool(saved) and int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0
    if not (resume or restarted):
        if saved:
            raise WorkDirError(
                f'--work-dir {cfg.work_dir} holds {Path(saved[0]).name} of an earlier run, which would '
                'be overwritten: --resume continues that run, another --work-dir begins a new one'
            )
        return None
    path: str | None
    checkpoint: Mapping | None
    if isinstance(resume, str) and not restarted:
        path, checkpoint = resume, _read(resume, plain_only=True)
    elif named and not restarted and os.path.realpath(named) in map(os.path.realpath, saved):
        path, checkpoint = named, read_checkpoint(named, plain_only=True)
    else:
        path, checkpoint = _first_readable(saved, cfg.work_dir)
    if path is None and named and 'optimizer' in _read(named):
        path, checkpoint = named, _read(named, plain_only=True)
    cfg.resume = path is not None
    if path is None and (Path(cfg.work_dir) / 'last_checkpoint').exists():
        raise WorkDirError(
            f'--resume: {cfg.work_dir} is the folder of a run whose checkpoints are gone from where '
            'last_checkpoint says: --resume CHECKPOINT names one, another --work-dir begins a new run'
        )
    if path is None:
        print_rank0(f'There is no checkpoint in {cfg.work_dir}: the run begins.')
        return None
    cfg.load_from = path
    meta = (checkpoint or {}).get('meta')
    if isinstance(meta, Mapping) and meta.get('seed') is not None:
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': meta['seed']}
    return checkpoint


def _read(source: str, plain_only: bool = False) -> Mapping:
    """Read a checkpoint; mmengine reads those of storages such as ``s3://``."""
    if re.match(r'(?!https?:|file:)[\w+-]+://', source):
        return CheckpointLoader.load_checkpoint(source, 'cpu')
    return read_checkpoint(source, plain_only=plain_only)


def _first_readable(saved: list[str], work_dir: str) -> tuple[str | None, dict | None]:
    """The first checkpoint that can be read, and its content.

    Raises:
        WorkDirError: If there are checkpoints and none can be read.
    """
    first: Exception | None = None
    for path in saved:
        if '://' in path:  # mmengine knows the storage
            return path, None
        try:
            checkpoint = read_checkpoint(path, plain_only=True)
            _check_sums(path)
            return path, checkpoint
        except CheckpointError as error:
            print_rank0(f'Cannot resume from {path}: {error}')
            first = first or error
    if first is not None:
        raise WorkDirError(
            f'--resume: no checkpoint in {work_dir} can be read ({first}); another --work-dir begins a '
            'new run'
        ) from first
    return None, None


def _check_sums(path: str) -> None:
    """Compare a checkpoint with the checksums in it, which PyTorch writes but does not check.

    Raises:
        CheckpointError: If they differ.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong:
            raise CheckpointError(f'checkpoint {path!r}: {wrong} in it does not match its checksum')


def _weights(checkpoint: Mapping) -> Mapping:
    """The weights that mmengine loads, not the averaged ones, which have one more entry."""
    weights = checkpoint.get('state_dict')
    return weights if isinstance(weights, Mapping) else state_dict_of(checkpoint)


def check_same_network(model: nn.Module, checkpoint: Mapping, path: str) -> None:
    """Check that the weights in a checkpoint have the names and shapes of a model's.

    Args:
        model (nn.Module): The model, without wrappers.
        checkpoint (Mapping): Content of the file.
        path (str): Its name, for the message.

    Raises:
        WorkDirError: If names or shapes differ.
    """
    own, saved = (
        {name.removeprefix('module.'): tuple(value.shape) for name, value in weights.items()}
        for weights in (model.state_dict(), _weights(checkpoint))
    )
    differing = sorted({name for name, _ in own.items() ^ saved.items()})
    if differing:
        shown = ', '.join(
            f'{n} {saved.get(n, "(none)")} -> {own.get(n, "(none)")}' for n in differing[:3]
        )
        raise WorkDirError(
            f'--resume: {path} is of another network than the config; {len(differing)} weights differ '
            f'(checkpoint -> config: {shown}, ...). The config that it was trained with resumes it, '
            'another --work-dir begins a new run'
        )
