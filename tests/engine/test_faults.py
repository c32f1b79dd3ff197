"""Faults on purpose: each ends in a sentence that names the file or setting, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from conftest import ROOT, small_run
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import DATASETS, HOOKS, MODELS, init_default_scope
from mmengine.structures import PixelData

import mmdla  # noqa: F401
from mmdla.datasets.validation import DatasetError
from mmdla.engine.hooks import AtomicFileBackend, DatasetValidationHook, FiniteLossHook
from mmdla.engine.runner import ReproducibleRunner

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


def test_data_are_validated_before_training(train, tmp_path):
    with pytest.raises(
        DatasetError, match=r'gtFine/train/.*has the labels .*num_classes=2 they must be 0 to 1'
    ):
        train(*small_run(4), 'model.decode_head.num_classes=2')
    assert saved(tmp_path) == []
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert "dict(type='mmdla.DatasetValidationHook')" in log, 'it stands in the config that is saved'


def test_validation_can_be_switched_off(train, tmp_path):
    """Then PyTorch tells of the label, in its own terms."""
    with pytest.raises(Exception, match='out of bounds'):
        train(*small_run(4), *ALONE, 'model.decode_head.num_classes=2', 'validate_data=False')


def test_a_file_that_is_damaged_meanwhile_is_named(train, streets, tmp_path, monkeypatch):
    """Met while training, in another process: the decoder's reason, and the files' names."""
    before: dict[Path, bytes] = {}

    def damage(
        *_,
    ):  # the data sets have been built, and drawn if this is the first test that needs them
        for path in (streets / 'leftImg8bit/train').rglob('*.png'):
            before[path] = path.read_bytes()
            path.write_bytes(b'GIF89a')

    monkeypatch.setattr(DatasetValidationHook, 'before_run', damage)
    try:
        with pytest.raises(
            DatasetError, match=r"sample \d+ \(img_path='.*leftImg8bit/train/.*\.png'.*failed to load"
        ):
            train(*small_run(4))
    finally:
        for path, content in before.items():
            path.write_bytes(content)
    assert saved(tmp_path) == []


def test_the_loss_is_looked_at_without_a_warning(recwarn):
    loss = (torch.ones(2, requires_grad=True) * 2).sum()
    FiniteLossHook().after_train_iter(None, 0, outputs=dict(loss=loss, other=1.0))
    assert not recwarn.list


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
    backend = AtomicFileBackend()
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
        hook = HOOKS.build(
            dict(type='mmdla.AtomicCheckpointHook', by_epoch=False, interval=1, **kwargs)
        )

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
    hook = HOOKS.build(dict(type='mmdla.AtomicCheckpointHook', backend_args=dict(backend='local')))
    assert isinstance(hook, CheckpointHook)
    assert hook.backend_args == dict(backend='local')


def test_tools_take_mmengines_hooks_place_and_no_others():
    """What a config says of its checkpoints stays; a hook of its own kind, or none, too."""
    from mmdla.engine.runner import add_hooks

    def changed(**settings) -> Config:
        cfg = Config(settings)
        add_hooks(cfg, train=True)
        add_hooks(cfg, train=True)
        return cfg

    for kind in ('CheckpointHook', CheckpointHook):
        cfg = changed(default_hooks=dict(checkpoint=dict(type=kind, interval=7)))
        assert cfg.default_hooks.checkpoint == dict(type='mmdla.AtomicCheckpointHook', interval=7)
    assert changed().default_hooks.checkpoint.type == 'mmdla.AtomicCheckpointHook'
    for own in (dict(type='Own'), None):
        assert changed(default_hooks=dict(checkpoint=own)).default_hooks.checkpoint == own
    hooks = ['SeedIterationsHook', 'FiniteLossHook', 'DatasetValidationHook', 'LoadWeightsHook']
    cfg = changed(custom_hooks=[dict(type='EMAHook'), dict(type='FiniteLossHook')])
    assert [h.type.rpartition('.')[2] for h in cfg.custom_hooks] == [
        'EMAHook',
        'FiniteLossHook',
        hooks[0],
        *hooks[2:],
    ]
    assert [h.type for h in changed(validate_data=False).custom_hooks] == [
        f'mmdla.{h}' for h in (*hooks[:2], hooks[3])
    ]
    test = Config(dict(custom_hooks=None, load_strict=False))
    add_hooks(test, train=False)
    assert test.custom_hooks == [
        dict(type='mmdla.DatasetValidationHook'),
        dict(type='mmdla.LoadWeightsHook', strict=False),
    ]
    assert 'default_hooks' not in test


def test_loops_that_would_never_train_are_refused(tmp_path):
    class Some(torch.utils.data.Dataset):
        metainfo = {}

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return dict(inputs=torch.zeros(3, 8, 8))

    DATASETS.register_module('Some', module=Some, force=True)

    class Stream(torch.utils.data.IterableDataset):
        """Without indices, and so without a sampler."""

        def __iter__(self):
            return iter([dict(inputs=torch.zeros(3, 8, 8))] * 4)

    DATASETS.register_module('Stream', module=Stream, force=True)

    def build(loop, sampler, kind='Some', **loader):
        cfg = dict(
            dataset=dict(type=kind), sampler=sampler and dict(type=sampler), num_workers=0, **loader
        )
        runner = ReproducibleRunner(
            torch.nn.Linear(1, 1), work_dir=str(tmp_path), train_dataloader=cfg, train_cfg=loop,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)), experiment_name='loops', log_level='ERROR',
        )  # fmt: skip
        return runner.build_train_loop(loop).dataloader

    epochs, iters = dict(by_epoch=True, max_epochs=1), dict(by_epoch=False, max_iters=4)
    with pytest.raises(ValueError, match=r'train_dataloader\.sampler is an InfiniteSampler.*never end'):
        build(epochs, 'InfiniteSampler', batch_size=2)
    for loop in (epochs, iters):
        with pytest.raises(
            ValueError, match=r'no batch: 3 samples are fewer than batch_size=4.*drop_last'
        ):
            build(loop, 'DefaultSampler', batch_size=4, drop_last=True)
    assert len(build(epochs, 'DefaultSampler', batch_size=4)) == 1
    assert (
        next(iter(build(iters, 'InfiniteSampler', batch_size=4, drop_last=True)))['inputs'].__len__()
        == 4
    )
    assert next(iter(build(iters, None, batch_size=2, kind='Stream')))['inputs'].__len__() == 2
    # Settings of loader processes are no fault where there are none.
    loader = build(epochs, 'DefaultSampler', batch_size=2, persistent_workers=True, prefetch_factor=2)
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
