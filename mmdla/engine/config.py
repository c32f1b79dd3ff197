"""Loads configs: the arguments that the tools share, and what they read from a config."""

from __future__ import annotations

import argparse
import os
import os.path as osp
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from ..io.checkpoint_files import load_for_mmengine
from ..registry import check_library, register_all_modules


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (work_dirs/CONFIG_NAME)')
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


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, the picture to write, and ``--force``."""
    parser.add_argument('--out', type=Path, required=True, help='picture to write: .svg, .png or .pdf')
    parser.add_argument('--force', action='store_true', help='overwrite the picture')


def check_picture(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with an error if the picture has another format, or exists and is not to be overwritten."""
    if args.out.suffix not in ('.svg', '.png', '.pdf'):
        parser.error(f'{args.out}: must end in .svg, .png or .pdf')
    if args.out.exists() and not args.force:
        parser.error(f'{args.out} exists already; --force overwrites it')


def read_config(args: argparse.Namespace) -> Config:
    """Read the config file of the arguments and apply ``--cfg-options``.

    This also registers all classes of this project, and makes mmengine load checkpoints without running
    code from them (:func:`mmdla.io.checkpoint_files.load_for_mmengine`).

    Raises:
        ImportError: If the library of the config's ``default_scope`` is not installed.
    """
    register_all_modules()
    CheckpointLoader.register_scheme(['', 'http://', 'https://'], load_for_mmengine, force=True)
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if scope_of(cfg) != 'mmengine':
        check_library(scope_of(cfg), f'{args.config}')
    return cfg


def load_config(args: argparse.Namespace) -> Config:
    """Load the config to train or test, and apply the shared arguments.

    Raises:
        FileNotFoundError: If the checkpoint to test does not exist.
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


def scope_of(cfg: Config) -> str:
    """The registries' scope in which the names of a config are looked up, as mmengine's runner does."""
    return cfg.get('default_scope') or 'mmengine'


def type_name(cfg: Mapping | None) -> str:
    """Name of the class of a config, without scope or module; '' without a config or a type.

    ``type`` is a name in text configs and a class in pure Python configs.
    """
    kind = (cfg or {}).get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def build_model(cfg: Config, part: ConfigDict | None = None) -> nn.Module:
    """Build the model of a config without a runner. SyncBN, which needs a process group, becomes BN.

    Args:
        cfg (Config): The config.
        part (ConfigDict, optional): The part of the model to build. Default: None, ``cfg.model``.
    """
    init_default_scope(scope_of(cfg))
    return revert_sync_batchnorm(MODELS.build(part or cfg.model))


def dataset_meta(cfg: Config, meta: Mapping) -> dict:
    """Classes, palette and other metadata: those of a checkpoint, or else of the test data set's class.

    Args:
        cfg (Config): The config.
        meta (Mapping): The checkpoint's ``meta``.
    """
    if meta.get('dataset_meta'):
        # Older files write the names in capitals.
        return {name.lower(): value for name, value in meta['dataset_meta'].items()}
    if 'CLASSES' in meta:
        return dict(classes=meta['CLASSES'])
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    if dataset is None:
        return {}
    with DATASETS.switch_scope_and_registry(scope_of(cfg)) as registry:
        kind = dataset.type
        kind = registry.get(kind) if isinstance(kind, str) else kind
    return getattr(kind, 'METAINFO', {}) | (dataset.get('metainfo') or {})
