"""Where the oracles are, and what every test shares."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

# Each process of pytest-xdist gets one thread.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get('MMDLA_SHARED', ROOT.parent / 'shared'))


def shared(path: str) -> Path:
    """A file or folder of the shared material; the test is skipped where it is absent."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f'needs {path} of the shared material (MMDLA_SHARED={SHARED})')
    return found


def free_port() -> str:
    """A port of this machine that nobody listens on."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return str(s.getsockname()[1])


RANKS = """
import os, sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
dist.init_process_group('gloo')
{steps}
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # gloo's threads may abort an interpreter that finalizes (PyTorch pull request 179291)
"""


def run_ranks(folder: Path, steps: str, *args: str, ranks: int = 2) -> str:
    """Run Python statements in processes of one gloo group on the CPU; what they printed."""
    script = folder / 'steps.py'
    script.write_text(RANKS.format(steps=steps))
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', f'--nproc_per_node={ranks}',
         f'--master_port={free_port()}', script, *args],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1',
             'CUDA_VISIBLE_DEVICES': '-1'},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def small_streets(train: int) -> list[str]:
    """Options that have the demo's data sets be small; ``train`` is the number of images to train on."""
    options = (f'sizes.train={train}', 'sizes.val=2', 'image_size=(64,96)')
    return [f'{split}_dataloader.dataset.{o}' for split in ('train', 'val', 'test') for o in options]


def small_run(iters: int = 4, val: int | None = None, train: int = 8) -> list[str]:
    """Options that have the demo be a run of a few iterations, a checkpoint after every second.

    Args:
        iters: Number of iterations.
        val: After how many of them the model is evaluated; all if none is given.
        train: Number of images to train on.
    """
    return [
        'model.backbone.arch=46_c',
        'model.decode_head.in_channels=[32,64,64,128,256]',
        'train_dataloader.batch_size=2',
        f'train_cfg.max_iters={iters}',
        f'train_cfg.val_interval={val or iters}',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
        'param_scheduler.1.end=40',
        *small_streets(train),
    ]


def validate(cfg, *splits: str, outputs=None) -> list[str]:
    """Validate the data sets of a config, as a run of these splits would; the warnings."""
    from mmengine.registry import init_default_scope

    from mmdla.datasets.validation import (
        DatasetValidator,
        build_dataset,
        check_class_folders,
        unwrap,
    )

    init_default_scope(cfg.default_scope)
    told: list[str] = []
    validator = DatasetValidator(outputs, told.append)
    built = {split: build_dataset(cfg[f'{split}_dataloader'].dataset) for split in splits}
    for split, dataset in built.items():
        validator(split, dataset)
    check_class_folders({split: list(unwrap(d)) for split, d in built.items()}, told.append)
    return told


def random_norms(module: torch.nn.Module) -> torch.nn.Module:
    """Put into evaluation mode, with batch norms that are not the identity."""
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias)
            torch.nn.init.normal_(m.running_mean)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    module.eval()  # mmpretrain's networks return nothing from it
    return module


class Golden:
    """Outputs of the released code on weights that follow from names."""

    def __init__(self, name: str):
        folder = shared('golden')
        spec = importlib.util.spec_from_file_location('recipe', folder / 'recipe.py')
        self.recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)
        self.meta = json.loads((folder / f'{name}.json').read_text())
        self.outputs = np.load(folder / f'{name}.npz')

    def state_dict(self) -> dict[str, torch.Tensor]:
        fixed = self.meta.get('fixed', [])
        make = self.recipe.make_tensor
        return {
            key: torch.from_numpy(
                self.recipe.make_bilinear(shape).copy() if key in fixed else make(key, shape)
            )
            for key, shape in self.meta['state_dict'].items()
        }

    def input(self) -> torch.Tensor:
        meta = self.meta
        return torch.from_numpy(self.recipe.make_input(meta['input_shape'], meta['input_seed']))

    def check(self, name: str, value: torch.Tensor) -> None:
        """Equal to the released output, to 1e-4 of its standard deviation."""
        assert list(value.shape) == self.meta['outputs'][name]
        wanted = self.outputs[name]
        found = self.recipe.summarize(value.detach().numpy())
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * wanted[1])


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Runs a script of tools/ in this process; its exit status (0 if none) and what it wrote."""

    def run(name: str, *args) -> tuple[int | str, str]:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as error:
            status = error.code or 0
        written = capsys.readouterr()
        return status, f'{written.out}{written.err}{status if isinstance(status, str) else ""}'

    return run


def load_tool(name: str) -> SimpleNamespace:
    """The functions of a script of tools/."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / 'tools' / name), run_name='tool'))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server over a folder, its address, and an empty cache for what is fetched.

    Below ``/timm/`` and ``/RoyYang0714/`` it redirects as the Hugging Face hub does, telling the SHA-256
    in ``hub.hashes``, by name, or else the file's own; the mirror of the hub that the environment names
    is this server. Of the files in ``hub.cut`` it sends a part.
    """
    folder = tmp_path / 'www'
    folder.mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))

    class Hub(http.server.SimpleHTTPRequestHandler):
        hashes: ClassVar[dict[str, str]] = {}
        cut: ClassVar[set[str]] = set()

        def log_message(self, *args):
            pass

        def send_head(self):
            name = self.path.rpartition('/')[2]
            if self.path.startswith(('/timm/', '/RoyYang0714/')):
                self.send_response(302)
                self.send_header('Location', f'/{name}')
                tag = self.hashes.get(name) or sha256(folder / name)
                self.send_header('X-Linked-Etag', f'"{tag}"')
                self.end_headers()
                return None
            return super().send_head()

        def copyfile(self, source, outputfile):
            if self.path.lstrip('/') in self.cut:
                outputfile.write(source.read(50_000))
                self.close_connection = True
            else:
                super().copyfile(source, outputfile)

    httpd = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(Hub, directory=str(folder))
    )
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{httpd.server_port}'
    monkeypatch.setenv('HF_ENDPOINT', address)
    yield SimpleNamespace(folder=folder, address=address, hub=Hub, close=httpd.server_close)
    httpd.shutdown()


@pytest.fixture
def golden():
    return Golden


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  mmseg's transforms draw from it


def forget_runs() -> None:
    """Have mmengine forget the loggers, scopes and visualizers of runs in this process."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    kinds = [DefaultScope, MMLogger, MessageHub, Visualizer]
    for kind in kinds:
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def _nothing_left():
    """A test finds no default scope that one before it left, and no logger that writes to its output.

    Nor does mmengine load checkpoints as the tools have it do.
    """
    from mmengine.runner import CheckpointLoader

    loaders = dict(CheckpointLoader._schemes)
    yield
    # Those of a library that the test was the first to import stay.
    CheckpointLoader._schemes = {**CheckpointLoader._schemes, **loaders}
    forget_runs()
