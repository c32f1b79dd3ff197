"""Going on with a run: from which file, and whether it is that run."""

from __future__ import annotations

import ast
import os
import re
import zipfile
from pathlib import Path

import torch
from mmengine.config import Config

from ..checkpoints import CheckpointError, allow_plain_classes, read_checkpoint, state_dict_of
from ..utils.messages import say

# Settings that may differ between the parts of one run without its numbers being others.
FREE = ('work_dir', 'resume', 'load_from', 'launcher', 'log_level', 'log_processor', 'default_hooks',
        'custom_hooks', 'vis_backends', 'visualizer', 'val_dataloader', 'val_cfg', 'val_evaluator',
        'test_dataloader', 'test_cfg', 'test_evaluator', 'tta_model', 'tta_pipeline', 'env_cfg',
        'test_pipeline', 'model_wrapper_cfg', 'randomness', 'default_scope')  # fmt: skip


class WorkDirError(RuntimeError):
    """The work folder is another run's; the message says what to do."""


def checkpoints_in(folder: str | os.PathLike) -> list[Path]:
    """The training checkpoints in a work folder, the latest first.

    Args:
        folder (str | PathLike): The folder; there need not be one.
    """
    files = [p for p in Path(folder).glob('*_*.pth') if re.fullmatch(r'(iter|epoch)_\d+', p.stem)]
    kinds = {p.stem.partition('_')[0] for p in files}
    if len(kinds) > 1:
        return sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)
    return sorted(files, key=lambda p: int(p.stem.partition('_')[2]), reverse=True)


def latest_whole(folder: str | os.PathLike) -> tuple[Path, dict] | None:
    """The latest checkpoint of a work folder that can be read, and what it holds; None if it has none.

    Says in a line which ones cannot.

    Args:
        folder (str | PathLike): The work folder.

    Raises:
        WorkDirError: If it has checkpoints and none can be read.
    """
    reason = None
    for path in checkpoints_in(folder):
        try:
            return path, _structure(path)
        except CheckpointError as error:
            say(f'Not resumed from: {error}')
            reason = error
    if reason is not None:
        raise WorkDirError(
            f'--resume: no checkpoint in {folder} can be read ({reason}); another --work-dir begins a '
            'new run'
        )
    return None


def _structure(path: Path) -> dict:
    """A checkpoint without its tensors' values; its file is known to be whole.

    Raises:
        CheckpointError: If it is not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f'checkpoint {str(path)!r}: truncated or damaged ({error})') from error
    if damaged:
        raise CheckpointError(f'checkpoint {str(path)!r}: damaged at {damaged}')
    return read_checkpoint(path, 'meta')


def prepare_work_dir(cfg: Config) -> None:
    """Find what a run goes on from, or see that its folder holds no other.

    With ``cfg.resume``, or where ``torchrun`` has started processes again, ``cfg.load_from`` becomes
    the folder's latest whole checkpoint, and the seed that of its run; where there is none the run
    begins. A training checkpoint that ``cfg.load_from`` names goes before.

    Args:
        cfg (Config): Changed in place; ``cfg.work_dir`` is set.

    Raises:
        WorkDirError: If the folder holds checkpoints and the run is not to go on from them, or they are
            another network's.
    """
    restarted = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0
    if not (cfg.get('resume') or restarted):
        present = checkpoints_in(cfg.work_dir)
        if present:
            raise WorkDirError(
                f'--work-dir {cfg.work_dir}: holds {present[0].name} of a run before, which would be '
                'overwritten; --resume goes on with that run, another --work-dir begins a new one'
            )
        return
    named = cfg.get('load_from')
    if named and not restarted and '://' not in named:
        content = read_checkpoint(named, 'meta')
        found = (Path(named), content) if 'optimizer' in content else latest_whole(cfg.work_dir)
    else:
        found = latest_whole(cfg.work_dir)
    cfg.resume = found is not None
    if found is None:
        say(f'No checkpoint in {cfg.work_dir}: the run begins.')
        return
    path, checkpoint = found
    cfg.load_from = str(path)
    _check_same_run(cfg, checkpoint, path)


def _check_same_run(cfg: Config, checkpoint: dict, path: Path) -> None:
    """Whether a checkpoint is of the run that a config describes; its seed is taken over.

    Raises:
        WorkDirError: If the network is another.
    """
    meta = checkpoint.get('meta') or {}
    seed = meta.get('seed')
    if seed is not None:
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    if not isinstance(meta.get('cfg'), str):
        return
    differing = changes(settings(meta['cfg']), settings(cfg.pretty_text))
    network = [line for line in differing if line.startswith('model.')]
    # Others may be of no matter: where the first weights came from, `with_cp`, a loss.
    if network and not _fits(cfg, checkpoint):
        raise WorkDirError(
            f'--resume: {path} is of another network than the config: {"; ".join(network[:5])}. The '
            'config that it was trained with goes on with it, another --work-dir begins a new run'
        )
    if differing:
        say(f'Resumed with other settings than the run began with: {"; ".join(differing[:10])}')


def _fits(cfg: Config, checkpoint: dict) -> bool:
    """Whether the weights in a checkpoint are those of a config's network, by names and shapes."""
    from .setup import build_model

    shapes = [
        {name.removeprefix('module.'): tuple(v.shape) for name, v in weights.items()}
        for weights in (build_model(cfg).state_dict(), state_dict_of(checkpoint))
    ]
    return shapes[0] == shapes[1]


def changes(before: dict, now: dict, name: str = '') -> list[str]:
    """The settings that differ, each as ``name: before -> now``.

    Args:
        before (dict): Settings.
        now (dict): Others.
        name (str): What they are below. Default: the whole config, of which :data:`FREE` are left out.
    """
    found = []
    for key in {**before, **now}:
        if not name and key in FREE:
            continue
        old, new = before.get(key), now.get(key)
        path = f'{name}.{key}' if name else str(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += changes(old, new, path)
        elif old != new:
            found.append(f'{path}: {old!r} -> {new!r}')
    return found


def settings(text: str) -> dict:
    """The settings of a config that was written out, which is read and not run.

    Args:
        text (str): Assignments of literals and ``dict(...)``, as in a training checkpoint.

    Returns:
        dict: Values by name; of what is neither, the text. Empty if the text is no Python.
    """

    def value(node: ast.expr):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict' and not node.args:
            return {k.arg: value(k.value) for k in node.keywords}
        if isinstance(node, ast.Dict):
            return {ast.unparse(k): value(v) for k, v in zip(node.keys, node.values) if k}
        if isinstance(node, (ast.List, ast.Tuple)):
            return [value(v) for v in node.elts]
        return node.value if isinstance(node, ast.Constant) else ast.unparse(node)

    try:
        lines = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found = [line for line in lines if isinstance(line, ast.Assign)]
    return {target.id: value(a.value) for a in found for target in a.targets if hasattr(target, 'id')}


def forbid_unpickling() -> None:
    """Have everything that this process loads be plain data, mmengine's checkpoints included.

    OneDL's mmengine unpickles at will what PyTorch's safe reader refuses. From here on ``torch.load``
    refuses too, and files of this machine and addresses are read by :func:`read_checkpoint`, which says
    what it refuses. For tools: it is for the whole process.
    """
    from mmengine.runner import CheckpointLoader

    if not hasattr(torch.serialization, 'add_safe_globals'):
        say(
            f'PyTorch {torch.__version__} cannot read training checkpoints without unpickling: load '
            'only files that you trust (2.4 and later can)'
        )
        return
    # Again: OneDL's loader takes off the list what it had allowed for a while, whoever put it there.
    allow_plain_classes()
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    CheckpointLoader.register_scheme(['', 'http://', 'https://'], load_from_plain_data, force=True)


def load_from_plain_data(filename: str, map_location=None) -> dict:
    """mmengine's way to :func:`read_checkpoint`, for all that a training checkpoint holds.

    Args:
        filename (str): Path or address.
        map_location (str | torch.device, optional): Device of the tensors. Default: the CPU.

    Returns:
        dict: The content, without the text that mmengine would run as a config.
    """
    known = isinstance(map_location, (str, torch.device))
    content = dict(read_checkpoint(filename, str(map_location) if known else 'cpu'))
    if isinstance(content.get('meta'), dict):
        content['meta'] = {k: v for k, v in content['meta'].items() if k != 'config'}
    return content
