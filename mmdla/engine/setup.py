"""What the tools share: arguments, and what is done to a config before the runner gets it."""

from __future__ import annotations

import argparse
import gc
import os
import os.path as osp
import subprocess
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from ..registry import check_library
from ..utils.data_checks import check_config
from ..utils.messages import say
from .resuming import forbid_unpickling, prepare_work_dir
from .runner import ChannelsLast, Steady


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go (work_dirs/CONFIG_NAME)')
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # Old launchers pass the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='change settings of the config: key=value, key.subkey=value, key="[a,b]"',
    )


def read_config(args: argparse.Namespace) -> Config:
    """The config named, with ``--cfg-options`` applied.

    From here on the process unpickles nothing but plain data, see :func:`forbid_unpickling`.

    Raises:
        ImportError: If the library that it is for is not installed.
    """
    forbid_unpickling()
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    check_library(cfg.get('default_scope', 'mmseg'), f'{args.config}')
    return cfg


def build_model(cfg: Config, part: ConfigDict | None = None) -> nn.Module:
    """The model of a config, without the runner; SyncBN, which wants a process group, becomes BN.

    Args:
        cfg (Config): The config.
        part (ConfigDict, optional): What to build in place of the whole. Default: ``cfg.model``.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    return revert_sync_batchnorm(MODELS.build(part or cfg.model))


def dataset_meta(cfg: Config, meta: Mapping) -> dict:
    """Names of the classes and the like: what a checkpoint says, or else those of the test data's kind.

    Args:
        cfg (Config): The config.
        meta (Mapping): The checkpoint's ``meta``.
    """
    if meta.get('dataset_meta'):
        # Older files write them in capitals.
        return {name.lower(): value for name, value in meta['dataset_meta'].items()}
    if 'CLASSES' in meta:
        return dict(classes=meta['CLASSES'])
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    if dataset is None:
        return {}
    with DATASETS.switch_scope_and_registry(cfg.get('default_scope', 'mmseg')) as registry:
        kind = dataset.type
        kind = registry.get(kind) if isinstance(kind, str) else kind
    return getattr(kind, 'METAINFO', {}) | (dataset.get('metainfo') or {})


def load_config(args: argparse.Namespace) -> Config:
    """The config to train or test, as the shared arguments say.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args)
    cfg.launcher = args.launcher
    checkpoint = getattr(args, 'checkpoint', None)
    if checkpoint is not None:
        if '://' not in checkpoint and not osp.isfile(checkpoint):
            raise FileNotFoundError(f'checkpoint {checkpoint!r}: there is no such file')
        cfg.load_from = checkpoint
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    return cfg


def build_runner(cfg: Config, splits: Sequence[str]) -> Runner:
    """The runner of a config, once its data are found and it fits the machine.

    It is mmengine's, :class:`Steady`; with ``channels_last = True`` in the config the model is in that
    memory format. A runner of another kind than mmengine's ``Runner`` stays as it is. For training the
    work folder is looked at, see :func:`prepare_work_dir`.

    Args:
        cfg (Config): Changed in place, see :func:`fit_to_machine`.
        splits (Sequence[str]): Data that will be read: ``'train'``, ``'val'``, ``'test'``.

    Raises:
        DataFolderError: If a data folder is missing or incomplete.
        WorkDirError: If the work folder holds another run.
        ValueError: If ``channels_last`` is no truth value, or the runner is not of a kind that can.
    """
    channels_last = cfg.get('channels_last', False)
    if not isinstance(channels_last, bool):
        raise ValueError(f'channels_last={channels_last!r}: must be True or False')
    kind = cfg.get('runner_type', 'Runner')
    runner = RUNNERS.get(kind) if isinstance(kind, str) else kind
    plain = runner and issubclass(runner, Runner)
    if channels_last and not plain:
        raise ValueError(f"channels_last=True: needs runner_type='Runner', the config has {kind!r}")
    check_config(cfg, splits)
    fit_to_machine(cfg, cfg.launcher)
    if 'train' in splits:
        prepare_work_dir(cfg)
    if not plain:
        return RUNNERS.build(cfg)
    additions = (Steady, ChannelsLast) if channels_last else (Steady,)
    return type(runner.__name__, (*additions, runner), {}).from_cfg(cfg)


def leave_group() -> None:
    """Leave the process group, if there is one, once all its processes are done.

    A process that ends without it may be aborted by the group's threads, and with it a job that was
    finished. They end with the last that uses the group: call it when the runner is gone.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        gc.collect()  # runners refer to themselves


def on_cpu() -> bool:
    """Whether training runs on the CPU: no accelerator that mmengine would choose is there."""
    from mmengine.device import get_device

    return get_device() == 'cpu'


def fit_to_machine(cfg: Config, launcher: str) -> None:
    """Make a config written for GPUs run where there is none; elsewhere it stays as it is.

    SyncBN, which PyTorch runs on GPUs only, becomes BN; float16 becomes bfloat16; process groups use
    gloo; the model is not bound to a device number. Says in a line what it changed.

    Args:
        cfg (Config): Changed in place.
        launcher (str): ``'none'``, ``'pytorch'`` or ``'slurm'``; with ``'mpi'`` mmengine wants GPUs.

    Raises:
        RuntimeError: If there is no GPU and the launcher needs one.
    """
    if not on_cpu():
        return
    if _replace_sync_bn(cfg._cfg_dict):
        say('No GPU here: SyncBN becomes BN.')
    if cfg.get('optim_wrapper', {}).get('type') == 'AmpOptimWrapper':
        enable_amp(cfg.optim_wrapper)
        say('No GPU here: mixed precision is bfloat16.')
    if launcher == 'none':
        return
    if launcher == 'slurm':
        take_place_from_slurm()
    elif launcher != 'pytorch':
        raise RuntimeError(
            f'--launcher {launcher}: mmengine binds each of its processes to a GPU and there is none '
            'here; on CPUs start them with tools/dist_train.sh or tools/slurm_train.sh'
        )
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
    wrapper['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}
    if not dist.is_initialized():
        # mmengine binds the process to a GPU before it makes the group.
        dist.init_process_group('gloo')


def take_place_from_slurm() -> None:
    """Tell PyTorch, in its variables, which process of a Slurm job this is.

    The first host of the job is the one to meet at, on port 29500; ``MASTER_ADDR`` and ``MASTER_PORT``
    say otherwise.

    Raises:
        RuntimeError: If no Slurm job is running here.
    """
    try:
        place = {name: os.environ[f'SLURM_{key}'] for name, key in SLURM_PLACE.items()}
    except KeyError as error:
        raise RuntimeError(
            f'--launcher slurm: {error.args[0]} is not set, this is no task of a Slurm job; '
            'tools/slurm_train.sh starts one'
        ) from error
    if 'MASTER_ADDR' not in os.environ:
        hosts = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST', '')
        # `node[03-05,9],gpu1` is a list that scontrol knows to spell out.
        if '[' in hosts or ',' in hosts:
            names = ['scontrol', 'show', 'hostnames', hosts]
            hosts = subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()[0]
        place['MASTER_ADDR'] = hosts or '127.0.0.1'
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(place)


SLURM_PLACE = dict(RANK='PROCID', WORLD_SIZE='NTASKS', LOCAL_RANK='LOCALID')


def _replace_sync_bn(node) -> bool:
    """Replace every ``type='SyncBN'`` below a node of the config; whether there was one."""
    found = False
    if isinstance(node, dict):
        if node.get('type') in ('SyncBN', 'MMSyncBN'):
            node['type'] = 'BN'
            found = True
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return False
    for child in node:
        found |= _replace_sync_bn(child)
    return found


def enable_amp(optim_wrapper: ConfigDict) -> None:
    """Turn on mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.

    Args:
        optim_wrapper (ConfigDict): ``cfg.optim_wrapper``, changed in place.

    Raises:
        ValueError: If its type is not mmengine's plain one.
    """
    kind = optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise ValueError(f"--amp: needs optim_wrapper.type='OptimWrapper', the config has {kind!r}")
    if on_cpu():
        optim_wrapper['type'] = 'CPUAmpOptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_wrapper.pop(name, None)
    elif kind != 'AmpOptimWrapper':
        optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')


def device_name() -> str:
    """Name of the processor that does the work, for reports."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        with open('/proc/cpuinfo') as info:
            names = [line.split(':', 1)[1].strip() for line in info if line.startswith('model name')]
    except OSError:
        names = []
    return f'{names[0] if names else "CPU"}, {torch.get_num_threads()} threads'
