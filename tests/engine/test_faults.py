"""Faults on purpose: each ends in a sentence that names the file or setting, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from conftest import ROOT, small_run
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData

import mmdla  # noqa: F401
from mmdla.engine.faults import FaultError
from mmdla.engine.hooks import FiniteLossHook, WholeFilesBackend
from mmdla.engine.samples import SampleError

DEMO = ROOT / 'configs/dla34_demo.py'
ALONE = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    return tmp_path_factory.mktemp('data') / 'streets'


@pytest.fixture
def train(run_tool, monkeypatch, streets, tmp_path):
    """Trains in this process, in a folder for the test."""
    monkeypatch.setenv('DEMO_STREETS_ROOT', str(streets))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    return lambda *options: run_tool(
        'train.py', DEMO, '--work-dir', tmp_path, '--cfg-options', *options
    )


def saved(folder) -> list[str]:
    return sorted(p.name for p in folder.glob('*.pth*'))


def test_a_killed_loader_process(train, tmp_path, monkeypatch):
    look = FiniteLossHook.after_train_iter

    def look_and_kill(self, runner, *args, **kwargs):
        look(self, runner, *args, **kwargs)
        if runner.iter == 2:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(FiniteLossHook, 'after_train_iter', look_and_kill)
    with pytest.raises(
        FaultError, match=r'process that loads data.*num_workers \(now 1\).*iter_2\.pth is kept'
    ):
        train(*small_run(40))
    assert 'iter_2.pth' in saved(tmp_path)


def test_a_loss_that_is_no_number(train, tmp_path):
    """Of a learning rate that is too high; it ends the run before weights of it are saved."""
    with pytest.raises(
        FloatingPointError, match=r'iteration \d: the loss is (nan|inf) .*learning rate lr=.*warm-up'
    ):
        train(
            *small_run(8), *ALONE, 'optim_wrapper.optimizer.lr=1e30', 'param_scheduler.0.start_factor=1'
        )
    for name in saved(tmp_path):
        weights = torch.load(tmp_path / name, weights_only=False)['state_dict']
        assert all(torch.isfinite(v).all() for v in weights.values())


def test_one_value_a_channel(train, tmp_path):
    small = [f'{s}_dataloader.dataset.image_size=(32,32)' for s in ('train', 'val', 'test')]
    roots = [f'{s}_dataloader.dataset.data_root={tmp_path / "tiny"}' for s in ('train', 'val', 'test')]
    pattern = r'\[1, 256, 1, 1\], from train_dataloader\.batch_size=1.*model\.backbone\.norm_eval=True.*No checkpoint'
    with pytest.raises(FaultError, match=pattern):
        train(*small_run(4), *ALONE, *small, *roots, 'train_dataloader.batch_size=1')


def test_a_bad_label_of_a_loader_process_ends_training(train, streets, tmp_path):
    """The sentence of another process comes through."""
    with pytest.raises(
        SampleError, match=r'gtFine/train/.*has the labels .*num_classes=2 they must be 0 to 1'
    ):
        train(*small_run(4), 'model.decode_head.num_classes=2')
    assert saved(tmp_path) == []


LOSSES = [
    dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
    dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=False),
]


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: str(loss.get('avg_non_ignore')))
def test_an_image_without_labels_teaches_nothing(loss):
    """A batch where all is void has a loss of zero, and weights stay what they are."""
    from mmseg.structures import SegDataSample

    init_default_scope('mmseg')
    cfg = Config.fromfile(DEMO).model
    cfg.backbone.arch, cfg.decode_head.in_channels = '46_c', [32, 64, 64, 128, 256]
    cfg.backbone.norm_cfg = cfg.decode_head.norm_cfg = dict(type='BN')
    cfg.decode_head.loss_decode = loss
    model = MODELS.build(cfg)
    sample = SegDataSample(metainfo=dict(img_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.full((1, 64, 64), 255))
    losses = model.loss(torch.randn(1, 3, 64, 64), [sample])
    total = sum(v for k, v in losses.items() if 'loss' in k)
    total.backward()
    assert total.item() == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all((g == 0).all() for g in gradients)


BOUNDARY_LOSSES = ['mmdla.BoundaryCrossEntropyLoss', 'mmdla.BalancedBoundaryLoss']


@pytest.mark.parametrize('kind', BOUNDARY_LOSSES)
def test_boundary_losses_of_an_image_without_labels(kind):
    loss = MODELS.build(dict(type=kind))
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    value = loss(logits, torch.full((1, 8, 8), 255), ignore_index=255)
    value.sum().backward()
    assert value.sum().item() == 0
    assert (logits.grad == 0).all()


# -- checkpoints ----------------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / 'iter_2.pth'
    backend = WholeFilesBackend()
    backend.put(b'good', path)

    def full(fd):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(
        OSError, match=r'No space left on device: 6 bytes could not be written.*iter_2\.pth'
    ):
        backend.put(b'better', path)
    assert path.read_bytes() == b'good'
    assert saved(tmp_path) == ['iter_2.pth']


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))


@pytest.fixture
def hook(tmp_path):
    """A hook that saves, and a runner as far as it needs one."""
    from types import SimpleNamespace

    from mmengine.logging import MessageHub, MMLogger
    from mmengine.runner import save_checkpoint

    def make(**kwargs):
        hook = HOOKS.build(dict(type='mmdla.WholeCheckpointHook', by_epoch=False, interval=1, **kwargs))

        def save(out_dir, filename, *args, backend_args=None, **more):
            if runner.break_at == filename:
                raise KeyboardInterrupt
            save_checkpoint(dict(step=runner.iter), f'{out_dir}/{filename}', backend_args=backend_args)

        runner = SimpleNamespace(
            work_dir=str(tmp_path), model=Toy(), iter=0, epoch=0, save_checkpoint=save, break_at=None,
            message_hub=MessageHub('faults'), logger=MMLogger('faults'),
        )  # fmt: skip
        hook.before_train(runner)
        return hook, runner

    return make


def test_the_old_file_goes_after_the_new_one_is_whole(hook, tmp_path):
    saving, runner = hook(max_keep_ckpts=1)
    saving._save_checkpoint(runner)
    runner.iter, runner.break_at = 1, 'iter_2.pth'
    with pytest.raises(KeyboardInterrupt):
        saving._save_checkpoint(runner)
    assert saved(tmp_path) == ['iter_1.pth'], "mmengine's own would have removed it"
    saving, runner = hook(max_keep_ckpts=1)
    saving._save_checkpoint(runner)
    runner.iter = 1
    saving._save_checkpoint(runner)
    assert saved(tmp_path) == ['iter_2.pth']


def test_the_best_file_is_kept_until_a_better_one_is_whole(hook, tmp_path):
    saving, runner = hook(save_best='mIoU')
    runner.iter = 1
    saving._save_best_checkpoint(runner, dict(mIoU=1.0))
    runner.iter, runner.break_at = 2, 'best_mIoU_iter_2.pth'
    with pytest.raises(KeyboardInterrupt):
        saving._save_best_checkpoint(runner, dict(mIoU=2.0))
    assert saved(tmp_path) == ['best_mIoU_iter_1.pth']
    runner.break_at, runner.iter = None, 3
    saving._save_best_checkpoint(runner, dict(mIoU=3.0))
    assert saved(tmp_path)[-1:] == ['best_mIoU_iter_3.pth']
    # the same iteration again, of a run that was resumed there: the old name is the new one's
    saving._save_best_checkpoint(runner, dict(mIoU=4.0))
    assert 'best_mIoU_iter_3.pth' in saved(tmp_path)


def test_weights_that_are_no_numbers_are_not_saved(hook, tmp_path):
    saving, runner = hook(max_keep_ckpts=1)
    saving._save_checkpoint(runner)
    runner.iter = 1
    runner.model.weight.data[1] = np.nan
    with pytest.raises(
        FloatingPointError, match=r'iteration 2: 1 of the weights are not finite, as weight'
    ):
        saving._save_checkpoint(runner)
    assert saved(tmp_path) == ['iter_1.pth']


def test_other_storages_are_left_alone(tmp_path):
    hook = HOOKS.build(dict(type='mmdla.WholeCheckpointHook', backend_args=dict(backend='local')))
    assert isinstance(hook, CheckpointHook)
    assert hook.backend_args == dict(backend='local')


def test_tools_take_mmengines_hooks_place_and_no_others(tmp_path):
    """What a config says of its checkpoints stays; a hook of its own kind, or none, too."""
    from mmdla.engine.hooks import SeedIterationsHook, WholeCheckpointHook
    from mmdla.engine.runner import Steady

    class Own(CheckpointHook):
        pass

    class Registering(Steady, Runner):
        def __init__(self):
            self._hooks = []

    def kinds(checkpoint):
        runner = Registering()
        runner.register_hooks(dict(checkpoint=checkpoint))
        return {type(h): h for h in runner._hooks}

    found = kinds(dict(type='CheckpointHook', interval=7, by_epoch=False))
    assert found[WholeCheckpointHook].interval == 7
    assert {SeedIterationsHook, FiniteLossHook} <= found.keys()
    assert Own in kinds(Own())
    assert not any(issubclass(k, CheckpointHook) for k in kinds(None))
