"""Adapts a config to the platform: no GPU, Slurm, mixed precision."""

from __future__ import annotations

import gc
import os
import subprocess
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from ..utils.messages import print_rank0
from .config import type_name

SLURM_VARIABLES = dict(RANK='PROCID', WORLD_SIZE='NTASKS', LOCAL_RANK='LOCALID')


def on_cpu() -> bool:
    """Whether training runs on the CPU, because mmengine finds no accelerator."""
    return get_device() == 'cpu'


def adapt_to_platform(cfg: Config) -> None:
    """Make a config written for GPUs run on a machine without GPUs; with GPUs it does not change.

    SyncBN, which PyTorch runs on GPUs only, becomes BN; float16 becomes bfloat16; process groups use
    gloo; the model is not bound to a device number. A message says what was changed.

    Args:
        cfg (Config): Changed in place. ``cfg.launcher='mpi'`` needs GPUs, since mmengine requires them.

    Raises:
        RuntimeError: If there is no GPU and the launcher needs one.
    """
    if not on_cpu():
        return
    if _replace_sync_bn(cfg._cfg_dict):
        print_rank0('There is no GPU: SyncBN becomes BN.')
    if type_name(cfg.get('optim_wrapper') or {}) == 'AmpOptimWrapper':
        enable_amp(cfg.optim_wrapper)
        print_rank0('There is no GPU: mixed precision is bfloat16.')
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if launcher == 'slurm':
        read_slurm_variables()
    elif launcher != 'pytorch':
        raise RuntimeError(
            f'--launcher {launcher}: mmengine binds each of its processes to a GPU, but there is none; '
            'on CPUs start them with tools/dist_train.sh or tools/slurm_train.sh'
        )
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
    wrapper['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}
    if not dist.is_initialized():
        # mmengine binds the process to a GPU before it makes the group.
        dist.init_process_group('gloo')


def read_slurm_variables() -> None:
    """Set PyTorch's variables from Slurm's: rank, number of processes, address of the first host.

    The port is 29500; ``MASTER_ADDR`` and ``MASTER_PORT`` override address and port.

    Raises:
        RuntimeError: If this process is no task of a Slurm job.
    """
    try:
        values = {name: os.environ[f'SLURM_{key}'] for name, key in SLURM_VARIABLES.items()}
    except KeyError as error:
        raise RuntimeError(
            f'--launcher slurm: {error.args[0]} is not set, this is no task of a Slurm job; '
            'tools/slurm_train.sh starts one'
        ) from error
    if 'MASTER_ADDR' not in os.environ:
        hosts = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST', '')
        # `node[03-05,9],gpu1` is a list that scontrol spells out.
        if '[' in hosts or ',' in hosts:
            names = ['scontrol', 'show', 'hostnames', hosts]
            hosts = subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()[0]
        values['MASTER_ADDR'] = hosts or '127.0.0.1'
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(values)


def _replace_sync_bn(node: Any) -> bool:
    """Replace every SyncBN below a node of the config, and return whether there was one."""
    found = False
    if isinstance(node, dict):
        if type_name(node) in ('SyncBN', 'MMSyncBN', 'SyncBatchNorm'):
            node['type'] = 'BN'
            found = True
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return False
    for child in node:
        found |= _replace_sync_bn(child)
    return found


def enable_amp(optim_wrapper: ConfigDict | None) -> None:
    """Turn on mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.

    Args:
        optim_wrapper (ConfigDict): ``cfg.optim_wrapper``, changed in place.

    Raises:
        ValueError: If there is none, or its type is not mmengine's plain one.
    """
    if not optim_wrapper:
        raise ValueError('--amp: the config has no optim_wrapper')
    kind = type_name(optim_wrapper) or 'OptimWrapper'
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise ValueError(f"--amp: needs optim_wrapper.type='OptimWrapper', the config has {kind!r}")
    if on_cpu():
        optim_wrapper['type'] = 'CPUAmpOptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_wrapper.pop(name, None)
    elif kind != 'AmpOptimWrapper':
        optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')


def leave_process_group() -> None:
    """Leave the process group, if there is one, once all its processes are done.

    Otherwise the group's threads may abort a process that exits, and with it a job that has finished.
    The threads end with the last object that uses the group, so call this when the runner is deleted.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        gc.collect()  # runners refer to themselves


def device_name() -> str:
    """Name of the GPU or CPU in use, for reports."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        with open('/proc/cpuinfo') as info:
            names = [line.split(':', 1)[1].strip() for line in info if line.startswith('model name')]
    except OSError:
        names = []
    return f'{names[0] if names else "CPU"}, {torch.get_num_threads()} threads'
