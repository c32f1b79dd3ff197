"""Watching a long run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmseg')
from conftest import ROOT, small_run

pytestmark = pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='needs /proc')
DEMO = ROOT / 'configs/dla34_demo.py'


@pytest.fixture(scope='module')
def soak():
    path = ROOT / 'tools/benchmarks/soak.py'
    spec = importlib.util.spec_from_file_location('soak', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts_are_of_all_processes_of_a_session(soak):
    """A process with 64 MiB of its own, and one that it has started."""
    code = (
        'import subprocess, sys; held = bytearray(64 << 20); files = [open(sys.executable) for _ in range(9)]; '
        'child = subprocess.Popen(["sleep", "60"]); print("ready", flush=True); child.wait()'
    )
    run = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert run.stdout.readline() == 'ready\n'
        found = soak.counts(run.pid)
        assert len(soak.left_over(run.pid, 0.3)) == 2
    finally:
        os.killpg(run.pid, 9)
        run.wait()
    assert found['processes'] == 2
    assert 64 < found['memory'] < 128
    assert found['files'] >= 3 + 9 + 3
    assert soak.left_over(run.pid) == []


def test_tenths(soak):
    seen = [dict(memory=n) for n in range(100)]
    assert soak.tenths(seen, 'memory') == (4.5, 94.5)


@pytest.mark.e2e
def test_a_training_that_fails_says_why(run_tool, tmp_path):
    status, text = run_tool(
        'benchmarks/soak.py',
        DEMO,
        '--iters',
        20,
        '--interval',
        10,
        '--cfg-options',
        'model.type=Nothing',
    )
    assert 'Nothing is not in the' in text
    assert 'The training ended with 1, after 0 lines.' in str(status)
    assert run_tool('benchmarks/soak.py', DEMO, '--iters', 10)[0] == 2


@pytest.mark.slow
def test_soak(run_tool, tmp_path, monkeypatch):
    monkeypatch.setenv('DEMO_STREETS_ROOT', str(tmp_path / 'streets'))
    options = [o for o in small_run() if not re.match(r'train_cfg|default_hooks', o)]
    status, text = run_tool(
        'benchmarks/soak.py', DEMO, '--iters', 60, '--interval', 20, '--tolerance', 0.5,
        '--plot', tmp_path / 'soak.png', '--cfg-options', *options,
    )  # fmt: skip
    assert status == 0, text
    assert 'checkpoints kept: iter_40.pth, iter_60.pth' in text
    assert 'left when it had ended: 0 processes, 0 pieces of shared memory' in text
    assert (tmp_path / 'soak.png').stat().st_size > 5000
