"""The tools as a user calls them: train, resume, test, many processes, look, count."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmseg')
from conftest import forget_runs, free_port, run_ranks, small_run
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmdla.engine.config import build_model

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    p for p in (ROOT / 'configs').rglob('*.py') if not {'_base_', 'detection'} & set(p.parts)
)
DEMO = ROOT / 'configs/dla34_demo.py'
# A network and a data set small enough to train a few steps anywhere.
SMALL = small_run()


@pytest.fixture(scope='module')
def env(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    return {
        **os.environ,
        'DEMO_STREETS_ROOT': str(folder / 'streets'),
        'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'CUDA_VISIBLE_DEVICES': '-1',
    }


def run(*command, env, cwd=ROOT, ok=True) -> str:
    done = subprocess.run(list(map(str, command)), env=env, cwd=cwd, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert (done.returncode == 0) is ok, text
    return text


def tool(name, *args, env, ok=True) -> str:
    """Run a tool in this process, which has imported everything; what it wrote, or how it failed."""
    forget_runs()
    written = io.StringIO()
    with (
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.object(sys, 'argv', [name, *map(str, args)]),
        contextlib.redirect_stdout(written),
        contextlib.redirect_stderr(written),
        contextlib.chdir(ROOT) if sys.version_info >= (3, 11) else contextlib.nullcontext(),
    ):
        status = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as error:
            status = error.code
        except Exception:
            status = traceback.format_exc()
    text = written.getvalue() + (status if isinstance(status, str) else '')
    assert (not status) is ok, text
    return text


@pytest.fixture(scope='module')
def trained(env, tmp_path_factory):
    """Work folder and output of a short training run."""
    work = tmp_path_factory.mktemp('work')
    return work, tool('train.py', DEMO, '--work-dir', work, '--cfg-options', *SMALL, env=env)


def test_train_validates_and_leaves_pictures(trained):
    work, text = trained
    assert re.search(r'mIoU: \d+\.\d+', text)
    assert text.count('There is no GPU: SyncBN becomes BN.') == 1
    folder = re.search(r'Pictures \(.*\): (.*)', text)[1]
    pictures = sorted((ROOT / folder).glob('*.png'))
    assert len(pictures) == 2
    strip = np.asarray(Image.open(pictures[0]))
    assert strip.shape == (64, 3 * 96, 3), 'image, ground truth and prediction side by side'
    assert (strip[:, 96:192] == [70, 130, 180]).all(-1).any(), 'the sky of the ground truth'
    assert (work / 'iter_4.pth').is_file()


@pytest.mark.e2e
def test_resume_goes_on(trained, env):
    work, _ = trained
    text = tool(
        'train.py', DEMO, '--work-dir', work, '--resume', '--cfg-options', *SMALL,
        'train_cfg.max_iters=6', 'train_cfg.val_interval=6', env=env,
    )  # fmt: skip
    assert re.search(r'resumed .*iter: 4', text)
    assert 'Iter(train) [5/6]' in text
    assert 'Iter(train) [4/6]' not in text
    assert (work / 'iter_6.pth').is_file()


def test_a_training_checkpoint_starts_a_backbone(trained):
    from mmdla.models import DLA

    work, _ = trained
    checkpoint = str(work / 'iter_4.pth')
    model = DLA('46_c', init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
    model.init_weights()
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    own = model.state_dict()
    assert all(torch.equal(v, saved[f'backbone.{k}']) for k, v in own.items())


@pytest.mark.e2e
def test_test_with_tta_writes_label_maps_and_pictures(trained, env, tmp_path):
    work, _ = trained
    text = tool(
        'test.py', DEMO, work / 'iter_4.pth', '--work-dir', tmp_path, '--out', tmp_path / 'out',
        '--show-dir', tmp_path / 'show', '--tta', '--cfg-options', *SMALL,
        'default_hooks.visualization.interval=50', env=env,
    )  # fmt: skip
    assert re.search(r'mIoU: \d+\.\d+', text)
    maps = sorted((tmp_path / 'out').rglob('*.png'))
    assert [Image.open(m).size for m in maps] == [(96, 64), (96, 64)]
    assert np.asarray(Image.open(maps[0])).max() < 19
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 2


@pytest.mark.e2e
def test_amp_on_a_cpu_is_bfloat16(env, tmp_path):
    text = tool('train.py', DEMO, '--amp', '--work-dir', tmp_path, '--cfg-options', *SMALL, env=env)
    assert "type='CPUAmpOptimWrapper'" in text
    losses = [float(x) for x in re.findall(r' loss: (\S+)', text)]
    assert len(losses) == 4
    assert np.isfinite(losses).all()


@pytest.mark.compile
def test_compile(env, tmp_path):
    text = tool(
        'train.py', DEMO, '--compile', '--work-dir', tmp_path, '--cfg-options', *SMALL,
        'compile.backend=eager', env=env,
    )  # fmt: skip
    assert 'Model has been "compiled"' in text
    assert 'Iter(train) [4/4]' in text


def test_amp_takes_the_place_of_the_gpus_wrapper(monkeypatch):
    from mmdla.engine import platform

    monkeypatch.setattr(platform, 'on_cpu', lambda: True)
    wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16', optimizer={})
    platform.enable_amp(wrapper)
    assert wrapper == dict(type='CPUAmpOptimWrapper', optimizer={})
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        platform.enable_amp(dict(type='ApexOptimWrapper'))
    monkeypatch.setattr(platform, 'on_cpu', lambda: False)
    wrapper = dict(type='OptimWrapper')
    platform.enable_amp(wrapper)
    assert wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    with monkeypatch.context() as patch:
        patch.setattr(platform, 'on_cpu', lambda: True)
        with pytest.raises(RuntimeError, match=r'--launcher mpi.*tools/dist_train\.sh'):
            platform.adapt_to_platform(Config(dict(model={}, launcher='mpi')))


def test_sync_bn_is_replaced_wherever_it_stands(monkeypatch, capsys):
    from mmdla.engine import platform

    monkeypatch.setattr(platform, 'on_cpu', lambda: True)
    norm = dict(type='SyncBN', eps=1e-3)
    cfg = Config(
        dict(model=dict(backbone=dict(norm_cfg=norm), auxiliary_head=[dict(norm_cfg=norm)] * 2))
    )
    platform.adapt_to_platform(cfg)
    assert 'SyncBN' not in cfg.pretty_text
    assert cfg.model.auxiliary_head[1].norm_cfg == dict(type='BN', eps=1e-3)
    assert capsys.readouterr().out.count('SyncBN becomes BN') == 1


@pytest.mark.e2e
def test_an_existing_mmseg_config_runs_with_type_changed(env, tmp_path):
    """A config of mmseg's own, over its own bases; `type` is changed, channels are adjusted."""
    import mmseg

    base = f'{mmseg.__path__[0]}/.mim/configs/_base_'
    data = tmp_path / 'data'
    tool(
        'dataset_converters/make_demo_streets.py',
        data,
        '--train',
        4,
        '--val',
        2,
        '--size',
        64,
        96,
        env=env,
    )
    config = tmp_path / 'fpn_dla34.py'
    config.write_text(f"""
_base_ = ['{base}/models/fpn_r50.py', '{base}/datasets/cityscapes.py', '{base}/default_runtime.py',
          '{base}/schedules/schedule_20k.py']
crop_size = (64, 96)
data_root = r'{data}'
model = dict(
    data_preprocessor=dict(size=crop_size), pretrained=None,
    backbone=dict(_delete_=True, type='DLA', arch='34', norm_cfg=dict(type='SyncBN')),
    neck=dict(in_channels=[64, 128, 256, 512]))
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=[
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1, val_interval=10)
""")
    tool('train.py', config, '--work-dir', tmp_path / 'work', env=env)
    assert (tmp_path / 'work/iter_1.pth').is_file()


@pytest.mark.e2e
def test_an_existing_mmpretrain_config_runs_with_type_changed(env, tmp_path):
    mmpretrain = pytest.importorskip('mmpretrain')
    base = f'{mmpretrain.__path__[0]}/.mim/configs/_base_'
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.full((40, 40, 3), 50 * i, np.uint8)).save(folder / f'{i}.png')
    config = tmp_path / 'dla46_c.py'
    config.write_text(f"""
_base_ = ['{base}/models/resnet18.py', '{base}/schedules/imagenet_bs256.py', '{base}/default_runtime.py']
model = dict(
    backbone=dict(_delete_=True, type='DLA', arch='46_c', out_indices=(5,)),
    head=dict(num_classes=2, in_channels=256, topk=(1,)))
data_preprocessor = dict(num_classes=2, mean=[127] * 3, std=[60] * 3, to_rgb=True)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root=r'{tmp_path}/data', data_prefix='train', pipeline=pipeline))
val_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root=r'{tmp_path}/data', data_prefix='val', pipeline=pipeline))
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader, test_evaluator = val_dataloader, val_evaluator
train_cfg = dict(max_epochs=1)
""")
    text = tool('train.py', config, '--work-dir', tmp_path / 'work', env=env)
    assert 'accuracy/top1' in text
    text = tool(
        'test.py', config, tmp_path / 'work/epoch_1.pth', '--work-dir', tmp_path / 'work', env=env
    )
    assert 'accuracy/top1' in text


@pytest.mark.ddp
def test_two_processes(env, tmp_path):
    text = run(
        'bash', ROOT / 'tools/dist_train.sh', DEMO, 2, '--work-dir', tmp_path, '--cfg-options', *SMALL,
        env={**env, 'PORT': free_port()},
    )  # fmt: skip
    assert 'Iter(train) [4/4]' in text
    assert re.search(r'mIoU: \d+\.\d+', text)
    assert text.count('SyncBN becomes BN') == 1
    text = run(
        'bash', ROOT / 'tools/dist_test.sh', DEMO, tmp_path / 'iter_4.pth', 2, '--work-dir', tmp_path,
        '--cfg-options', *SMALL, env={**env, 'PORT': free_port()},
    )  # fmt: skip
    assert re.search(r'mIoU: \d+\.\d+', text)


DDP_STEP = """
from mmdla.models import DLA
for arch in sys.argv[1:]:
    torch.manual_seed(0)
    model = DistributedDataParallel(DLA(arch))
    for _ in range(2):  # the second step fails if a parameter of the first got no gradient
        sum(x.mean() for x in model(torch.randn(1, 3, 65, 64))).backward()
    print('rank', dist.get_rank(), arch, 'done')
"""


@pytest.mark.ddp
def test_every_architecture_under_ddp(tmp_path):
    from mmdla.models import DLA

    text = run_ranks(tmp_path, DDP_STEP, *DLA.arch_settings)
    assert text.count('done') == 2 * 12


def test_slurm_scripts_call_srun(env, tmp_path):
    stub = tmp_path / 'srun'
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    path = {**env, 'PATH': f'{tmp_path}:{env["PATH"]}', 'GPUS': '16', 'SRUN_ARGS': '--qos=low -t 60'}
    said = run('bash', ROOT / 'tools/slurm_train.sh', 'gpu', 'job', 'a config.py', '--amp', env=path)
    said = said.splitlines()
    assert {'--partition=gpu', '--job-name=job', '--ntasks=16', '--gres=gpu:8', '--qos=low'} <= set(
        said
    )
    assert said[-4:] == ['a config.py', '--launcher', 'slurm', '--amp']
    said = run('bash', ROOT / 'tools/slurm_test.sh', 'gpu', 'job', 'c.py', 'w.pth', env=path)
    assert said.splitlines()[-4:] == ['c.py', 'w.pth', '--launcher', 'slurm']


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_scripts_without_arguments_say_how(script, env):
    assert f'tools/{script}.sh ' in run('bash', ROOT / f'tools/{script}.sh', env=env, ok=False)


def test_tools_name_what_is_wrong(env, tmp_path):
    missing = {**env, 'CAMVID_ROOT': str(tmp_path / 'nowhere')}
    text = tool(
        'train.py', ROOT / 'configs/dla34_camvid.py', '--work-dir', tmp_path, env=missing, ok=False
    )
    assert 'set CAMVID_ROOT to the folder that does' in text
    text = tool('test.py', DEMO, tmp_path / 'no.pth', env=env, ok=False)
    assert 'there is no such file' in text


@pytest.mark.e2e
def test_get_flops(env):
    """In a process of its own, as from the command line."""
    script = ROOT / 'tools/analysis_tools/get_flops.py'
    text = run(sys.executable, '-W', 'ignore', script, DEMO, '--shape', '128', '256', env=env)
    assert 'Input: 3 x 128 x 256' in text
    # Released 18,095,163 less classifier, dead projections and frozen upsampling.
    assert f'Parameters: {18_095_163 - 513_000 - 41_728 - 304:,}' in text


@pytest.mark.e2e
def test_ablation(env, run_tool, monkeypatch, tmp_path):
    """Two variants, trained once, compared; what is there is used, what is another's is not."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def ablation(*options, vary=('model.backbone.aggregation', 'none', 'hda', 'none')):
        return run_tool(
            'analysis_tools/ablation.py', DEMO, '--vary', *vary,
            '--work-dir', tmp_path, '--shape', 64, 64, '--cfg-options', *SMALL,
            'train_cfg.max_iters=2', 'train_cfg.val_interval=2', *options,
        )  # fmt: skip

    status, text = ablation()
    assert status == 0, text
    pattern = r'^\| (none|hda) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| '
    rows = re.findall(pattern, text, re.MULTILINE)
    assert [row[0] for row in rows] == ['none', 'hda']
    none, hda = ([float(v) for v in row[1:]] for row in rows)
    assert all(a < b for a, b in zip(none[:3], hda[:3])), 'nodes cost something'
    for row in rows:
        logged = (tmp_path / f'{row[0]}_seed0/output.log').read_text()
        assert float(row[4]) == float(re.search(r'mIoU: (\d+\.\d+)', logged)[1])
    assert (tmp_path / 'plot.png').is_file()
    logs = sorted(tmp_path.rglob('scalars.json'))
    assert ablation()[1].rpartition('| aggregation')[2] == text.rpartition('| aggregation')[2]
    assert sorted(tmp_path.rglob('scalars.json')) == logs, 'trained again'
    assert 'holds a run of another config' in ablation('optim_wrapper.optimizer.lr=1')[1]
    status, text = ablation(vary=('model.backbone.aggregation', 'hdaa'))
    assert status
    assert "aggregation='hdaa': must be one of" in text


def test_ablation_names_what_is_wrong(run_tool, tmp_path):
    def wrong(*args):
        status, text = run_tool('analysis_tools/ablation.py', *args)
        assert status
        return text

    assert 'there is no such config' in wrong(tmp_path / 'no.py')
    assert 'two positive numbers' in wrong(DEMO, '--shape', 0, 5)
    assert 'give at least one value' in wrong(DEMO, '--vary', 'model.backbone.arch')


def test_browse_dataset(env, tmp_path):
    tool(
        'analysis_tools/browse_dataset.py',
        DEMO,
        '--out-dir',
        tmp_path / 'out',
        '--show-number',
        2,
        '--cfg-options',
        *SMALL,
        env=env,
    )
    pictures = sorted((tmp_path / 'out').glob('*.png'))
    assert [Image.open(p).size for p in pictures] == [(2 * 96, 64)] * 2


def test_make_demo_streets(env, tmp_path):
    args = ('--train', 1, '--val', 1, '--size', 32, 64)
    text = tool('dataset_converters/make_demo_streets.py', tmp_path / 'a', *args, env=env)
    assert 'Ready:' in text
    assert json.loads((tmp_path / 'a/demo_streets.json').read_text())['sizes'] == dict(train=1, val=1)
    text = tool('dataset_converters/make_demo_streets.py', tmp_path / 'a', env=env, ok=False)
    assert 'Traceback' not in text


# -- configs --------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_configs_build(path):
    assert path.read_text().startswith('# ')
    cfg = Config.fromfile(path)
    model = build_model(cfg)
    model.eval()
    with torch.no_grad():
        out = model(torch.rand(1, 3, 64, 96), mode='tensor')
    if cfg.default_scope == 'mmpretrain':
        assert out.shape == (1, cfg.model.head.get('num_classes', 1000))
        return
    assert out.shape[:2] == (1, model.decode_head.out_channels)
    if path.stem.startswith('dla') and 'sides' not in path.stem:  # which upsample in the head
        stride = next((s for s in (8, 4) if f'{s}s' in path.stem), 2)
        assert out.shape[2:] == (64 // stride, 96 // stride)


def test_recipes_are_the_papers():
    init_default_scope('mmseg')
    loss = MODELS.build(Config.fromfile(ROOT / 'configs/dla34_camvid.py').model.decode_head.loss_decode)
    logits, labels = torch.randn(1, 11, 4, 4), torch.randint(0, 11, (1, 4, 4))
    labels[:, 1:] = 255
    wanted = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(loss(logits, labels, ignore_index=255), wanted)
    cfg = Config.fromfile(ROOT / 'configs/dla102_cityscapes.py')
    assert cfg.train_cfg.max_epochs == 500
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    assert cfg.crop_size == (832, 832)
    assert cfg.model.backbone.arch == '102'
    scales = [t['scale_factor'] for t in cfg.tta_pipeline[1].transforms[0]]
    assert scales == [0.5, 0.75, 1.0, 1.25, 1.5]
    cfg = Config.fromfile(ROOT / 'configs/dla34-8s_camvid.py')
    assert cfg.train_cfg.max_epochs == 1200
    assert cfg.param_scheduler == [dict(type='MultiStepLR', milestones=[800], gamma=0.1, by_epoch=True)]
    assert cfg.crop_size == (448, 448)
    assert cfg.model.backbone.out_indices == (3, 4, 5)


def test_weights_are_named_by_a_variable(monkeypatch):
    path = ROOT / 'configs/dla102_cityscapes.py'
    assert Config.fromfile(path).model.backbone.init_cfg is None
    monkeypatch.setenv('DLA_WEIGHTS', 'timm')
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='timm')


BASES = {
    'upernet_r50': dict(
        decode_head=dict(in_channels=[64, 128, 256, 512]), auxiliary_head=dict(in_channels=256)
    ),
    'fpn_r50': dict(neck=dict(in_channels=[64, 128, 256, 512])),
    'pspnet_r50-d8': dict(
        backbone=dict(output_stride=8),
        decode_head=dict(in_channels=512),
        auxiliary_head=dict(in_channels=256),
    ),
    'deeplabv3plus_r50-d8': dict(
        backbone=dict(output_stride=8),
        decode_head=dict(in_channels=512, c1_in_channels=64),
        auxiliary_head=dict(in_channels=256),
    ),
}


def train_step(cfg, data):
    from mmengine.optim import OptimWrapper

    model = MODELS.build(cfg)
    model.train()
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    before = [p.clone() for p in model.backbone.parameters()]
    losses = model.train_step(data, optim)
    assert all(torch.isfinite(v).all() for v in losses.values())
    assert all(not torch.equal(a, b) for a, b in zip(before, model.backbone.parameters()))


@pytest.mark.parametrize('base', BASES)
def test_swapped_into_mmsegs_own_configs(base):
    import mmseg
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    cfg = Config.fromfile(f'{mmseg.__path__[0]}/.mim/configs/_base_/models/{base}.py')
    change = dict(BASES[base])
    backbone = change.pop('backbone', {})
    cfg.merge_from_dict(dict(model=change))
    cfg.model.pretrained = None
    cfg.model.backbone = dict(type='mmdla.DLA', arch='34', norm_cfg=dict(type='BN'), **backbone)
    cfg = Config.fromstring(cfg.pretty_text.replace("'SyncBN'", "'BN'"), '.py')
    cfg.model.data_preprocessor.size = (64, 97)
    init_default_scope('mmseg')
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, 19, (1, 64, 97))),
            metainfo=dict(img_shape=(64, 97)),
        )
        for _ in range(2)
    ]
    images = [torch.randint(0, 255, (3, 64, 97), dtype=torch.uint8) for _ in range(2)]
    train_step(cfg.model, dict(inputs=images, data_samples=samples))


def test_swapped_into_mmpretrains_own_config():
    mmpretrain = pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    cfg = Config.fromfile(f'{mmpretrain.__path__[0]}/.mim/configs/_base_/models/resnet18.py')
    cfg.model.backbone = dict(type='mmdla.DLA', arch='34')
    init_default_scope('mmpretrain')
    data = dict(
        inputs=torch.rand(2, 3, 65, 64),
        data_samples=[DataSample().set_gt_label(i) for i in range(2)],
    )
    train_step(cfg.model, data)


def test_configs_without_the_parts_that_an_option_changes():
    """Each says so in a sentence, and takes `data_prefix` as text."""
    from mmdla.engine import platform

    tool = runpy.run_path(str(ROOT / 'tools/test.py'))
    with pytest.raises(ValueError, match='--amp: the config has no optim_wrapper'):
        platform.enable_amp(None)
    hooks = dict(visualization=dict(type='SegVisualizationHook'))
    with pytest.raises(ValueError, match='--show-dir: the config has no visualizer'):
        tool['draw_pictures'](Config(dict(default_hooks=hooks, visualizer=None)), 'out')
    for nothing in ({}, dict(test_evaluator=None)):
        with pytest.raises(ValueError, match='--out: test_evaluator needs an IoUMetric'):
            tool['write_label_maps'](Config(nothing), 'out')
    cfg = Config(
        dict(
            test_evaluator=dict(type='IoUMetric'),
            test_dataloader=dict(dataset=dict(data_root='a', data_prefix='b')),
        )
    )
    tool['write_label_maps'](cfg, 'out')
    assert cfg.test_evaluator.root == 'a/b'
