"""Interrupted runs resume to the same numbers, from the checkpoint that mmengine wrote, and run nothing in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')
from conftest import ROOT, forget_runs, small_run
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmdla.engine.resume import WorkDirError, prepare_work_dir, saved_checkpoints
from mmdla.io.checkpoint_files import read_checkpoint

DEMO = ROOT / 'configs/dla34_demo.py'
DROPOUT = 'model.decode_head.dropout_ratio=0.5'


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    return tmp_path_factory.mktemp('data') / 'streets'


@pytest.fixture
def train(run_tool, monkeypatch, streets):
    """Trains in this process; what was written, and that it went well."""
    monkeypatch.setenv('DEMO_STREETS_ROOT', str(streets))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')

    def run(config, work, *options, resume=False) -> str:
        forget_runs()
        resuming = ['--resume'] if resume else []
        status, text = run_tool(
            'train.py', config, '--work-dir', work, *resuming, '--cfg-options', *options
        )
        assert status == 0, text
        return text

    return run


def content(path: Path) -> dict:
    return read_checkpoint(path)


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, the optimizer's state and the learning rates' are the same, to the last bit."""
    a, b = content(one), content(other)
    assert a['state_dict'].keys() == b['state_dict'].keys()
    for name, value in a['state_dict'].items():
        assert torch.equal(value, b['state_dict'][name]), name
    for number, state in a['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(
                torch.as_tensor(value), torch.as_tensor(b['optimizer']['state'][number][name])
            )
    assert a['optimizer']['param_groups'] == b['optimizer']['param_groups']
    assert a['param_schedulers'] == b['param_schedulers']
    assert a['meta']['iter'] == b['meta']['iter']


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory):
    """Where the uninterrupted run is kept, for whoever trains it first."""
    return tmp_path_factory.mktemp('whole')


def uninterrupted(train, folder: Path, streets: Path) -> Path:
    path = folder / 'iter_6.pth'
    if not path.exists():
        train(DEMO, folder, *small_run(6), DROPOUT)
    return path


@pytest.mark.e2e
def test_a_resumed_run_is_the_uninterrupted_one(train, whole_run, streets, tmp_path):
    """However many processes load the data, then and now."""

    def loading(workers: int) -> list[str]:
        return [
            f'train_dataloader.num_workers={workers}',
            f'train_dataloader.persistent_workers={workers > 0}',
        ]

    train(DEMO, tmp_path, *small_run(4), DROPOUT, *loading(2))
    text = train(DEMO, tmp_path, *small_run(6), DROPOUT, *loading(0), resume=True)
    assert re.search(r'resumed .*iter: 4', text)
    assert_same_run(tmp_path / 'iter_6.pth', uninterrupted(train, whole_run, streets))


EPOCHS = """
_base_ = ['{demo}']
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', by_epoch=True, T_max=4, end=3)
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs={epochs}, val_interval=1)
train_dataloader = dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True), num_workers=2)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best='mIoU'))
log_processor = dict(by_epoch=True)
"""


@pytest.mark.e2e
def test_a_run_by_epochs_without_a_seed(train, tmp_path):
    """The seed that mmengine drew is the resumed run's too."""
    config = tmp_path / 'epochs.py'
    options = [o for o in small_run() if not re.match(r'train_cfg|param_|default_hooks\.ch', o)]
    config.write_text(EPOCHS.format(demo=DEMO, epochs=2))
    train(config, tmp_path / 'a', *options, DROPOUT)
    assert not (tmp_path / 'a/epoch_1.pth').exists(), 'one is kept'
    drawn = content(tmp_path / 'a/epoch_2.pth')['meta']['seed']
    config.write_text(EPOCHS.format(demo=DEMO, epochs=3))
    train(config, tmp_path / 'a', *options, DROPOUT, resume=True)
    train(config, tmp_path / 'b', *options, DROPOUT, f'randomness.seed={drawn}')
    assert_same_run(tmp_path / 'a/epoch_3.pth', tmp_path / 'b/epoch_3.pth')
    assert len(list((tmp_path / 'a').glob('best_*.pth'))) == 1
    assert not list((tmp_path / 'a').glob('*.part'))


# Training by the tool in a process whose files may become no larger than 100 kB after the second
# iteration: a disk that is full, or, where the signal is not ignored, a process killed by the kernel in the
# middle of a write.
LIMITED = """
import resource, runpy, signal, sys
from mmdla.engine.hooks import FiniteLossHook
look = FiniteLossHook.after_train_iter
def after_train_iter(self, runner, *args, **kwargs):
    if runner.iter == 2:
        if {killed}:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    look(self, runner, *args, **kwargs)
FiniteLossHook.after_train_iter = after_train_iter
sys.argv = ['train.py', *sys.argv[1:]]
runpy.run_path({tool!r}, run_name='__main__')
"""


def limited_run(folder: Path, work: Path, streets: Path, killed: bool) -> subprocess.CompletedProcess:
    script = folder / 'limited.py'
    script.write_text(LIMITED.format(killed=killed, tool=str(ROOT / 'tools/train.py')))
    env = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'DEMO_STREETS_ROOT': str(streets),
        'CUDA_VISIBLE_DEVICES': '-1',
    }
    return subprocess.run(
        [sys.executable, '-W', 'ignore', script, DEMO, '--work-dir', work, '--cfg-options', *small_run(6),
         DROPOUT, 'default_hooks.checkpoint.max_keep_ckpts=1'],
        env=env, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize('killed', [True, False], ids=['killed', 'disk full'])
def test_what_interrupts_the_writing_of_a_checkpoint(train, whole_run, streets, tmp_path, killed):
    whole = uninterrupted(train, whole_run, streets)
    work = tmp_path / 'work'
    done = limited_run(tmp_path, work, streets, killed)
    text = done.stdout + done.stderr
    if killed:
        assert done.returncode == -signal.SIGXFSZ, text
        assert 0 < (work / 'iter_4.pth.part').stat().st_size <= 100_000, 'in the middle of it'
    else:
        assert done.returncode == 1
        last = text.strip().splitlines()[-1]
        assert re.search(
            r'OSError: .*could not be written; an existing file is kept.*iter_4\.pth', last
        )
        assert not list(work.glob('*.part'))
    assert [p.name for p in sorted(work.glob('iter_*.pth'))] == ['iter_2.pth']
    train(DEMO, work, *small_run(6), DROPOUT, 'default_hooks.checkpoint.max_keep_ckpts=1', resume=True)
    assert_same_run(work / 'iter_6.pth', whole)
    assert not list(work.glob('*.part'))


def run_of(work_dir, resume=False, load_from=None, **checkpoint) -> Config:
    return Config(
        dict(
            work_dir=str(work_dir),
            resume=resume,
            load_from=load_from,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', **checkpoint)),
        )
    )


def save(path: Path, step=0, record: Path | None = None, **more) -> Path:
    """A training checkpoint as mmengine writes it; the record of the last one is in the work folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dict(state_dict=dict(w=torch.arange(999.0) + step), optimizer={}, meta=dict(seed=step))
    torch.save(content | more, path)
    if record is not None:
        record.mkdir(parents=True, exist_ok=True)
        (record / 'last_checkpoint').write_text(str(path))
    return path


@pytest.mark.parametrize(
    ('folder', 'name', 'settings'),
    [
        ('work', 'iter_4.pth', dict(by_epoch=False)),
        ('work', 'epoch_4.pth', {}),
        ('disk/work', 'iter_4.pth', dict(out_dir='{tmp}/disk')),
        ('work', 'net_00004.pth', dict(filename_tmpl='net_{:05d}.pth')),
        ('disk/work', 'net-4.pth', dict(out_dir='{tmp}/disk', filename_tmpl='net-{}.pth')),
    ],
)
@pytest.mark.parametrize('recorded', [True, False])
def test_what_mmengine_wrote_is_found(tmp_path, folder, name, settings, recorded):
    settings = {k: v.format('{}', tmp=tmp_path) if k == 'out_dir' else v for k, v in settings.items()}
    work = tmp_path / 'work'
    path = save(tmp_path / folder / name, 4, work if recorded else None)
    cfg = run_of(work, resume=True, **settings)
    prepare_work_dir(cfg)
    assert (cfg.resume, cfg.load_from, cfg.randomness.seed) == (True, str(path), 4)
    with pytest.raises(WorkDirError, match=f'holds {name} of an earlier run.*--resume continues'):
        prepare_work_dir(run_of(work, **settings))


def test_the_record_goes_before_later_files(tmp_path):
    save(tmp_path / 'iter_9.pth', 9)
    save(tmp_path / 'best_mIoU_iter_99.pth')
    path = save(tmp_path / 'iter_4.pth', 4, tmp_path)
    os.utime(path, (1, 1))
    assert saved_checkpoints(run_of(tmp_path)) == [str(path), str(tmp_path / 'iter_9.pth')]


def test_a_work_folder_that_was_moved(tmp_path, capsys):
    """The record has the old path."""
    path = save(tmp_path / 'new/iter_4.pth', 4)
    (tmp_path / 'new/last_checkpoint').write_text('old/place/iter_4.pth')
    assert saved_checkpoints(run_of(tmp_path / 'new')) == [str(path)]
    (tmp_path / 'new/last_checkpoint').write_text('old/place/iter_6.pth')
    cfg = run_of(tmp_path / 'new', resume=True)
    prepare_work_dir(cfg)
    assert cfg.load_from == str(path)
    assert 'names old/place/iter_6.pth, which does not exist' in capsys.readouterr().out
    path.unlink()
    with pytest.raises(
        WorkDirError, match=r'whose checkpoints are gone.*--resume CHECKPOINT names one'
    ):
        prepare_work_dir(run_of(tmp_path / 'new', resume=True))
    assert prepare_work_dir(run_of(tmp_path / 'new')) is None, 'there is nothing to overwrite'


def test_another_storage_is_mmengines_matter(tmp_path):
    tmp_path.joinpath('last_checkpoint').write_text('s3://bucket/iter_4.pth')
    cfg = run_of(tmp_path, resume=True, out_dir='s3://bucket')
    assert prepare_work_dir(cfg) is None
    assert (cfg.resume, cfg.load_from) == (True, 's3://bucket/iter_4.pth')


def test_files_that_cannot_be_read_are_passed_over_and_named(tmp_path, capsys):
    for number, step in enumerate((2, 4, 10, 12)):
        os.utime(save(tmp_path / f'iter_{step}.pth', step, tmp_path), (number, number))
    cut = (tmp_path / 'iter_12.pth').read_bytes()
    (tmp_path / 'iter_12.pth').write_bytes(cut[:-100])
    bent = bytearray((tmp_path / 'iter_10.pth').read_bytes())
    bent[bent.index(torch.tensor(500.0 + 10).numpy().tobytes())] ^= 1
    (tmp_path / 'iter_10.pth').write_bytes(bent)
    os.utime(tmp_path / 'iter_10.pth', (2, 2))
    cfg = run_of(tmp_path, resume=True)
    assert 'optimizer' in prepare_work_dir(cfg)
    assert cfg.load_from == str(tmp_path / 'iter_4.pth')
    said = capsys.readouterr().out
    assert re.search(r'Cannot resume from .*iter_12\.pth: ', said)
    assert re.search(r'Cannot resume from .*iter_10\.pth: ', said)
    for step in (2, 4):
        (tmp_path / f'iter_{step}.pth').write_bytes(b'nothing')
    with pytest.raises(WorkDirError, match=r'no checkpoint in .* can be read'):
        prepare_work_dir(run_of(tmp_path, resume=True))


def test_what_a_run_begins_from(tmp_path, monkeypatch, capsys):
    """`load_from`, for fine-tuning, stays one where there is nothing to resume from."""
    weights, other = tmp_path / 'weights.pth', save(tmp_path / 'other/iter_8.pth', 8)
    torch.save(dict(state_dict=dict(w=torch.ones(1))), weights)
    cfg = run_of(tmp_path / 'work', resume=True, load_from=str(weights))
    assert prepare_work_dir(cfg) is None
    assert (cfg.resume, cfg.load_from) == (False, str(weights))
    assert 'the run begins' in capsys.readouterr().out
    cfg = run_of(tmp_path / 'work', resume=True, load_from=str(other))
    prepare_work_dir(cfg)
    assert (cfg.resume, cfg.load_from) == (True, str(other)), "mmengine's way to name a checkpoint"
    address = other.as_uri()
    cfg = run_of(tmp_path / 'work', resume=True, load_from=address)
    prepare_work_dir(cfg)
    assert (cfg.resume, cfg.load_from) == (True, address)
    monkeypatch.setattr(
        CheckpointLoader, 'load_checkpoint', lambda source, where: read_checkpoint(other)
    )
    for settings in (dict(resume=True, load_from='s3://b/a.pth'), dict(resume='s3://b/a.pth')):
        cfg = run_of(tmp_path / 'work', **settings)
        prepare_work_dir(cfg)
        assert (cfg.resume, cfg.load_from) == (True, 's3://b/a.pth')
    with monkeypatch.context() as restarted:  # before anything was saved
        restarted.setenv('TORCHELASTIC_RESTART_COUNT', '1')
        cfg = run_of(tmp_path / 'work', load_from=str(other))
        assert prepare_work_dir(cfg) is None
        assert (cfg.resume, cfg.load_from) == (False, str(other)), 'its weights were to be tuned'
        cfg = run_of(tmp_path / 'work', resume=str(other))
        prepare_work_dir(cfg)
        assert (cfg.resume, cfg.load_from) == (True, str(other))
    early, late = (save(tmp_path / f'work/iter_{k}.pth', k, tmp_path / 'work') for k in (2, 4))
    for named, wanted in ((weights, late), (other, late), (early, early)):
        cfg = run_of(tmp_path / 'work', resume=True, load_from=str(named))
        prepare_work_dir(cfg)
        assert cfg.load_from == str(wanted), 'what the run has learned is not begun anew'
    cfg = run_of(tmp_path / 'work', resume=str(other))
    prepare_work_dir(cfg)
    assert (cfg.resume, cfg.load_from) == (True, str(other)), '--resume CHECKPOINT'
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    for resume in (False, str(early)):
        cfg = run_of(tmp_path / 'work', resume=resume, load_from=str(weights))
        prepare_work_dir(cfg)
        assert (cfg.resume, cfg.load_from) == (True, str(late)), 'restarted processes'


@pytest.mark.e2e
def test_a_work_folder_is_one_runs(train, run_tool, whole_run, streets):
    """Neither another run, nor another network, takes the place of what it holds."""
    path = uninterrupted(train, whole_run, streets)
    before = {p: p.read_bytes() for p in whole_run.glob('*.pth')}
    with pytest.raises(Exception, match=r'holds iter_6\.pth of an earlier run.*--resume continues'):
        run_tool('train.py', DEMO, '--work-dir', whole_run, '--cfg-options', *small_run(8))
    other = ['model.backbone.arch=34', 'model.decode_head.in_channels=[32,64,128,256,512]']
    with pytest.raises(
        Exception, match=r'iter_6\.pth is of another network.*backbone\.\S+ \(.*\) -> \(.*\)'
    ):
        run_tool(
            'train.py',
            DEMO,
            '--work-dir',
            whole_run,
            '--resume',
            '--cfg-options',
            *small_run(8),
            *other,
        )
    assert before == {p: p.read_bytes() for p in whole_run.glob('*.pth')}
    assert path in before
    # settings of the model that leave the network what it is
    same = ['model.backbone.with_cp=True', 'model.decode_head.loss_decode.loss_weight=2.0']
    train(DEMO, whole_run, *small_run(6), *same, resume=True)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, 'w'))


@pytest.mark.e2e
@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
@pytest.mark.parametrize('where', ['foreign class', 'config text'])
def test_checkpoints_run_nothing(train, run_tool, whole_run, streets, tmp_path, tool, where):
    """Of the files that --resume finds, and of those that test.py is given."""
    held = content(uninterrupted(train, whole_run, streets))
    target = tmp_path / 'written by the checkpoint'
    if where == 'foreign class':
        held['meta']['extra'] = Payload(target)
    else:  # mmengine runs this as a config, of old checkpoints
        held['meta']['config'] = f'open({str(target)!r}, "w")'
        held['meta']['cfg'] += f'\nopen({str(target)!r}, "w")'
    work = tmp_path / 'work'
    work.mkdir()
    torch.save(held, work / 'iter_6.pth')
    forget_runs()
    given = ['--resume'] if tool == 'train.py' else [work / 'iter_6.pth']
    call = (tool, DEMO, *given, '--work-dir', work, '--cfg-options', *small_run(6), DROPOUT)
    if where == 'config text' or tool == 'test.py':  # which reads the weights alone
        assert run_tool(*call)[0] == 0
    else:
        with pytest.raises(Exception, match=r'iter_6\.pth.*open.*could run code'):
            run_tool(*call)
    assert not target.exists()


@pytest.mark.e2e
def test_importing_leaves_mmengines_loaders():
    code = (
        'from mmengine.runner import CheckpointLoader as L; own = dict(L._schemes); import mmdla, os; '
        'assert all(L._schemes[k] is v for k, v in own.items()); '
        "assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ"
    )
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, check=True)
