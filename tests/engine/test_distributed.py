"""Several processes: equal to one of the same global batch; one that is killed; a Slurm job's tasks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from conftest import ROOT, free_port, small_run

DEMO = ROOT / 'configs/dla34_demo.py'

# Beside the config, imported by it: batch norms use the statistics they have, the mean of all processes'
# losses is written down, and a process is killed as often as a file says.
HOOKS = """
import json, os, signal
from pathlib import Path
import torch, torch.distributed as dist
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS

HERE = Path(__file__).parent

@MODELS.register_module()
class DoubleSegmentor(EncoderDecoder):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()

    def extract_feat(self, inputs):
        return super().extract_feat(inputs.double())

@HOOKS.register_module()
class StillNorms(Hook):
    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        torch.manual_seed(0)
        model.train()
        for m in model.modules():
            m.momentum = 1.0
        with torch.no_grad():
            model._forward(torch.randn(4, 3, 64, 96))

    def before_train_iter(self, runner, *args, **kwargs):
        for m in runner.model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.eval()

@HOOKS.register_module()
class WriteLosses(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs['loss'].detach().double()
        if dist.is_initialized():
            dist.all_reduce(loss)
            loss /= dist.get_world_size()
        if get_rank() == 0:
            with open(Path(runner.work_dir) / 'losses.txt', 'a') as file:
                file.write(f'{loss.item()!r}\\n')

@HOOKS.register_module()
class Killer(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        left = HERE / 'kills_left'
        if get_rank() == 1 and runner.iter == 5 and int(left.read_text()):
            left.write_text(str(int(left.read_text()) - 1))
            os.kill(os.getpid(), signal.SIGKILL)
"""
CONFIG = """
_base_ = ['{demo}']
custom_imports = dict(imports=['hooks_of_test_distributed'])
custom_hooks = [dict(type=t) for t in {hooks}]
# a mean over all pixels: over the labelled ones, processes would count differently
model = dict(type='{model}', decode_head=dict(dropout_ratio=0, loss_decode=dict(avg_non_ignore=False)))
# not Adam, which divides rounding errors by themselves
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=1e-4, momentum=0.9))
"""


@pytest.fixture
def job(tmp_path):
    """Writes a config with hooks beside it; the variables for a job that uses it."""
    (tmp_path / 'hooks_of_test_distributed.py').write_text(HOOKS)

    def prepare(*hooks: str, model: str = 'EncoderDecoder') -> tuple[Path, dict[str, str]]:
        config = tmp_path / 'config.py'
        config.write_text(CONFIG.format(demo=DEMO, hooks=list(hooks), model=model))
        return config, {
            **os.environ,
            'DEMO_STREETS_ROOT': str(tmp_path / 'streets'),
            'OMP_NUM_THREADS': '1',
            'PYTHON': sys.executable,
            'PYTHONPATH': f'{tmp_path}:{ROOT}',
            'PYTHONWARNINGS': 'ignore',
            'CUDA_VISIBLE_DEVICES': '-1',
            'PORT': free_port(),
        }

    return prepare


def ended(process: subprocess.Popen, ok: bool = True) -> str:
    text = process.communicate(timeout=300)[0]
    assert (process.returncode == 0) is ok, text
    return text


def start(*command, env) -> subprocess.Popen:
    return subprocess.Popen(
        list(map(str, command)), env=env, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def without_loaders(*options: str) -> list[str]:
    """Options of a job whose processes load their data themselves."""
    loading = [
        f'{s}_dataloader.{o}'
        for s in ('train', 'val')
        for o in ('num_workers=0', 'persistent_workers=False')
    ]
    return ['--cfg-options', *small_run(6), *loading, *options]


@pytest.mark.ddp
def test_two_nodes_equal_one_process(job, tmp_path):
    """Two nodes of two processes, a sample each, learn what one process learns from batches of four."""
    # In float32 the first losses differ by 1e-6, and a network that is random makes more of it.
    config, env = job('StillNorms', 'WriteLosses', model='DoubleSegmentor')
    one = start(
        sys.executable, 'tools/train.py', config, '--work-dir', tmp_path / 'one',
        *without_loaders('train_dataloader.batch_size=4'), env=env,
    )  # fmt: skip
    ended(one)
    nodes = [
        start(
            'bash', 'tools/dist_train.sh', config, 2, '--work-dir', tmp_path / 'four',
            *without_loaders('train_dataloader.batch_size=1'), env={**env, 'NNODES': '2', 'NODE_RANK': str(n)},
        )
        for n in range(2)
    ]  # fmt: skip
    texts = [ended(node) for node in nodes]
    assert 'Iter(train) [6/6]' in texts[0]
    assert texts[0].count('SyncBN becomes BN') == 1
    assert re.search(r'mIoU: \d+\.\d+', texts[0])
    losses = [np.loadtxt(tmp_path / work / 'losses.txt') for work in ('one', 'four')]
    weights = [
        torch.load(tmp_path / w / 'iter_6.pth', weights_only=False)['state_dict']
        for w in ('one', 'four')
    ]
    changed = max(
        (weights[0][k] - weights[1][k]).abs().max() / v.abs().max()
        for k, v in weights[0].items()
        if v.any()
    )
    print('losses', losses, 'largest difference of the weights', float(changed))
    assert len(losses[0]) == len(losses[1]) == 6
    assert losses[0][0] != losses[0][5]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    assert changed < 1e-8


@pytest.mark.ddp
def test_a_killed_process_ends_the_job_and_restarts_go_on(job, tmp_path):
    config, env = job('Killer')
    left = tmp_path / 'kills_left'
    left.write_text('2')
    call = ('bash', 'tools/dist_train.sh', config, 2, '--work-dir', tmp_path / 'work')
    text = ended(start(*call, *without_loaders(), env=env), ok=False)
    assert left.read_text() == '1'
    assert time.time() - left.stat().st_mtime < 60, 'since it was killed'
    assert re.search(r'rank +: 1 .*Signal 9 \(SIGKILL\) received by PID', text, re.DOTALL)
    resuming = start(
        *call, '--resume', *without_loaders(), env={**env, 'MAX_RESTARTS': '1', 'PORT': free_port()}
    )
    text = ended(resuming)
    assert left.read_text() == '0', 'killed once more'
    assert len(re.findall(r'resumed epoch: 0, iter: 4', text)) == 2
    assert 'Iter(train) [6/6]' in text
    left.unlink()
    config, env = job()
    ended(start(*call[:-1], tmp_path / 'whole', *without_loaders(), env=env))
    a, b = (torch.load(tmp_path / w / 'iter_6.pth', weights_only=False) for w in ('work', 'whole'))
    assert all(torch.equal(v, b['state_dict'][k]) for k, v in a['state_dict'].items())


LEAVING = """
import runpy, sys
from pathlib import Path
from mmdla.engine import platform
leave_process_group = platform.leave_process_group
def left():
    leave_process_group()
    print('threads', sorted(p.read_text().strip() for p in Path('/proc/self/task').glob('*/comm')), flush=True)
platform.leave_process_group = left
sys.argv = [sys.argv[1], *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.ddp
@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='needs /proc')
def test_the_groups_threads_end_before_the_process(job, tmp_path):
    """One that is still there when the interpreter ends may abort it."""
    config, env = job()
    script = tmp_path / 'leaving.py'
    script.write_text(LEAVING)

    def ranks(tool, *args):
        text = ended(
            start(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
                  f'--master_port={free_port()}', script, ROOT / 'tools' / tool, config, *args,
                  '--launcher', 'pytorch', '--work-dir', tmp_path / 'work', *without_loaders(), env=env)
        )  # fmt: skip
        threads = re.findall(r'threads (\[.*?\])', text)
        assert len(threads) == 2, text
        assert 'gloo' not in ''.join(threads)

    ranks('train.py')
    ranks('test.py', tmp_path / 'work/iter_6.pth')


SRUN = """#!/usr/bin/env python3
import json, os, subprocess, sys
options = [a for a in sys.argv[1:] if a.startswith('--') and '=' in a]
tasks = int(next(o for o in options if o.startswith('--ntasks=')).partition('=')[2])
command = sys.argv[1 + len(options):]
print(json.dumps(options), flush=True)
jobs = []
for task in range(tasks):
    place = dict(SLURM_PROCID=task, SLURM_LOCALID=task, SLURM_NTASKS=tasks, SLURM_STEP_NODELIST='127.0.0.1')
    jobs.append(subprocess.Popen(command, env={**os.environ, **{k: str(v) for k, v in place.items()}}))
sys.exit(max(job.wait() for job in jobs))
"""


@pytest.mark.ddp
def test_slurm_tasks_train_together(job, tmp_path):
    """With an srun that starts the tasks on this machine, as Slurm does on others."""
    config, env = job()
    (tmp_path / 'bin').mkdir()
    stub = tmp_path / 'bin/srun'
    stub.write_text(SRUN)
    stub.chmod(0o755)
    env |= {
        'PATH': f'{stub.parent}:{env["PATH"]}',
        'GPUS': '2',
        'GPUS_PER_NODE': '2',
        'MASTER_PORT': free_port(),
    }
    text = ended(
        start('bash', 'tools/slurm_train.sh', 'cpus', 'job', config, '--work-dir', tmp_path / 'work',
              *without_loaders(), env=env)
    )  # fmt: skip
    options = json.loads(next(line for line in text.splitlines() if line.startswith('["--')))
    assert {
        '--partition=cpus',
        '--job-name=job',
        '--ntasks=2',
        '--ntasks-per-node=2',
        '--gres=gpu:2',
    } <= set(options)
    assert 'Iter(train) [6/6]' in text
    assert 'Distributed training: True' in text
    assert 'GPU number: 2' in text
    assert (tmp_path / 'work/iter_6.pth').is_file()


def test_slurm_without_a_job_says_so(run_tool, tmp_path, monkeypatch):
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.setenv('DEMO_STREETS_ROOT', str(tmp_path / 'streets'))
    with pytest.raises(
        RuntimeError, match=r'SLURM_PROCID is not set.*tools/slurm_train\.sh starts one'
    ):
        run_tool('train.py', DEMO, '--launcher', 'slurm', '--work-dir', tmp_path, *without_loaders())


@pytest.mark.parametrize(
    ('hosts', 'first'), [('node7', 'node7'), ('node[03-05,9],gpu1', 'node03'), ('', '127.0.0.1')]
)
def test_tasks_meet_at_the_first_host(hosts, first, tmp_path, monkeypatch):
    from mmdla.engine.platform import read_slurm_variables

    spell = tmp_path / 'scontrol'
    spell.write_text('#!/bin/sh\necho node03; echo node04\n')
    spell.chmod(0o755)
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '')  # put back after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    for name, value in dict(PROCID='3', NTASKS='4', LOCALID='1', STEP_NODELIST=hosts).items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    monkeypatch.delenv('SLURM_NODELIST', raising=False)
    read_slurm_variables()
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    assert [os.environ[n] for n in names] == ['3', '4', '1', first, '29500']
