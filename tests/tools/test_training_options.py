"""What tools/train.py can do to a recipe: memory format, precision, compiler, and all together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')
from conftest import free_port, small_streets
from mmengine.config import Config
from mmengine.runner import Runner

from mmdla.engine.runner import build_runner

DEMO = Path(__file__).resolve().parents[2] / 'configs/dla34_demo.py'
SMALL = [
    'model.backbone.arch=46_c',
    'model.backbone.out_indices=(1,2,3)',
    'model.decode_head.in_channels=[32,64,64]',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'train_cfg.max_iters=3',
    'train_cfg.val_interval=3',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
    'default_hooks.visualization.draw=False',
    'param_scheduler.1.end=40',
    'randomness.seed=0',
    *small_streets(train=6),
]


@pytest.fixture(scope='module')
def streets(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('data') / 'streets'


@pytest.fixture
def train(run_tool, monkeypatch, streets, tmp_path):
    """Trains a few steps; the runner, which has trained, the losses, and what was printed."""
    monkeypatch.setenv('DEMO_STREETS_ROOT', str(streets))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    runners = []
    trained = Runner.train

    def keep(self):
        runners.append(self)
        return trained(self)

    monkeypatch.setattr(Runner, 'train', keep)

    def run(*options, cfg=(), work=tmp_path):
        args = (DEMO, '--work-dir', work, *options, '--cfg-options', *SMALL, *cfg)
        status, text = run_tool('train.py', *args)
        assert status == 0, text
        return runners[-1], [float(loss) for loss in re.findall(r' loss: (\S+)', text)], text

    return run


def weights_are_channels_last(model: torch.nn.Module) -> bool:
    convs = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    return all(w.is_contiguous(memory_format=torch.channels_last) for w in convs)


PLAIN: list[float] = []


@pytest.fixture
def plain(train) -> list[float]:
    """Losses without any option."""
    if not PLAIN:
        runner, losses, _ = train()
        assert not weights_are_channels_last(runner.model)
        PLAIN.extend(losses)
    return PLAIN


EAGER = 'compile.backend=eager'


@pytest.mark.e2e
@pytest.mark.parametrize(
    ('options', 'tolerance'),
    [
        (['--channels-last'], 1e-4),
        (['--amp'], 0.05),
        (['--channels-last', '--amp'], 0.05),
        pytest.param(['--compile'], 1e-4, marks=pytest.mark.slow),
        pytest.param(['--compile', '--channels-last', '--amp'], 0.05, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_options_train_as_without(options, tolerance, plain, train, tmp_path):
    cfg = [EAGER] if '--compile' in options else []
    runner, losses, text = train(*options, cfg=cfg, work=tmp_path / 'options')
    assert len(losses) == 3
    # The same to the rounding of sums, which the processor decides, and which each step makes more of.
    assert losses[0] == pytest.approx(plain[0], rel=tolerance)
    assert losses == pytest.approx(plain, rel=max(tolerance, 1e-3))
    assert weights_are_channels_last(runner.model) is ('--channels-last' in options)
    assert ('Model has been "compiled"' in text) is ('--compile' in options)
    assert re.search(r'mIoU: \d+\.\d+', text)


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], ['--channels-last'], ['--amp', '--channels-last']], ids=str)
def test_compiled_by_inductor(options, plain, train, tmp_path):
    _, losses, _ = train('--compile', *options, work=tmp_path / 'options')
    assert losses == pytest.approx(plain, rel=0.05 if '--amp' in options else 1e-3)


def test_maps_are_channels_last(train, monkeypatch):
    found = []
    build = Runner.build_model

    def watched(self, model):
        model = build(self, model)
        for name, module in model.named_modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.ReLU)):
                module.register_forward_hook(
                    lambda m, x, y, name=name: found.append((name, y.detach()))
                )
        return model

    monkeypatch.setattr(Runner, 'build_model', watched)
    train('--channels-last', cfg=['train_cfg.max_iters=1', 'train_cfg.val_interval=2'])
    assert len(found) > 60
    for name, y in found:
        assert y.is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.e2e
@pytest.mark.parametrize('again', [['--resume'], []])
def test_checkpoints_keep_the_format(again, train, tmp_path):
    """A checkpoint without is gone on from with, by --resume or load_from."""
    train(cfg=['train_cfg.max_iters=2', 'train_cfg.val_interval=2'])
    load = [] if again else [f'load_from={(tmp_path / "iter_2.pth").rename(tmp_path / "start.pth")}']
    runner, losses, text = train('--channels-last', *again, cfg=load)
    assert len(losses) == (1 if again else 3), text
    assert weights_are_channels_last(runner.model)
    state = torch.load(tmp_path / 'iter_3.pth', weights_only=False)['state_dict']
    assert state['backbone.level2.tree1.conv2.weight'].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.e2e
def test_distributed_buckets_have_the_format(train, monkeypatch, recwarn):
    """DDP, of one process, wraps the converted model: its buckets have the gradients' strides."""
    ddp = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
    for name, value in ddp.items():
        monkeypatch.setenv(name, str(value))
    runner, losses, text = train('--channels-last', '--launcher', 'pytorch')
    assert type(runner.model).__name__ == 'MMDistributedDataParallel'
    assert weights_are_channels_last(runner.model)
    assert len(losses) == 3
    said = [str(w.message) for w in recwarn] + [text]
    assert not [line for line in said if 'strides do not match' in line]


def test_impossible_formats_are_named(tmp_path, monkeypatch):
    cfg = Config.fromfile(DEMO)
    cfg.channels_last = 'yes'
    with pytest.raises(ValueError, match="channels_last='yes': must be True or False"):
        build_runner(cfg, train=True)
    cfg.channels_last, cfg.runner_type = True, 'FlexibleRunner'
    with pytest.raises(ValueError, match="needs runner_type='Runner', the config has 'FlexibleRunner'"):
        build_runner(cfg, train=True)
