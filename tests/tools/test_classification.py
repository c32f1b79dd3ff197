"""Training classifiers: one's own folder of images, the modern recipe, what is wrong with data."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip('mmpretrain')

from conftest import free_port, validate
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mmdla.datasets.validation import DatasetError, Outputs
from mmdla.engine.config import build_model
from mmdla.models import DLA

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs/dla34_folder.py'
CLASSES = ['blue', 'green', 'red']
SMALL = ['model.backbone.arch=46_c', 'model.head.in_channels=256']
FAST = [
    'train_dataloader.batch_size=4', 'train_dataloader.num_workers=1', 'val_dataloader.num_workers=1',
    'test_dataloader.num_workers=1', 'default_hooks.logger.interval=1',
]  # fmt: skip


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """Images of one colour each, in folders of this name."""
    for split, number in (('train', 3), ('val', 2)):
        for channel, name in enumerate(reversed(CLASSES)):
            folder = tmp_path / 'images' / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = np.full((40, 50, 3), 10 * i, np.uint8)
                pixels[..., channel] = 250
                Image.fromarray(pixels).save(folder / f'{name}{i}.png')
    monkeypatch.setenv('FOLDER_ROOT', str(tmp_path / 'images'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    return tmp_path / 'images'


@pytest.mark.e2e
def test_one_command_fine_tunes_on_a_folder(images, tmp_path, monkeypatch, run_tool):
    published = timm.create_model('dla46_c').state_dict()
    save_file(published, tmp_path / 'published.safetensors')
    monkeypatch.setenv('DLA_WEIGHTS', str(tmp_path / 'published.safetensors'))
    work = tmp_path / 'work'
    status, text = run_tool(
        'train.py', FOLDER, '--work-dir', work, '--cfg-options', *SMALL, *FAST, 'train_cfg.max_epochs=1'
    )
    assert status == 0, text
    state = torch.load(work / 'epoch_1.pth', weights_only=False)
    assert list(state['meta']['dataset_meta']['classes']) == CLASSES
    assert len(state['state_dict']['head.fc.bias']) == 3
    for key, value in published.items():
        if key.startswith(('base_layer', 'level0', 'level1')):
            assert torch.equal(state['state_dict'][f'backbone.{key}'], value), 'a frozen level changed'
    assert not torch.equal(
        state['state_dict']['backbone.level5.root.conv.weight'], published['level5.root.conv.weight']
    )

    # A fresh process uses what was trained, by its files.
    done = subprocess.run(
        [
            sys.executable, '-W', 'ignore', '-c',
            'import sys, mmdla; from mmpretrain import ImageClassificationInferencer as Inferencer; '
            'print(Inferencer(sys.argv[1], pretrained=sys.argv[2], device="cpu")(sys.argv[3])[0]["pred_class"])',
            work / 'dla34_folder.py', work / 'epoch_1.pth', images / 'val/red/red0.png',
        ],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken_for = re.search(rf'({"|".join(CLASSES)})$', done.stdout.strip())[1]
    status, text = run_tool(
        'analysis_tools/confusion_matrix.py', work / 'dla34_folder.py', work / 'epoch_1.pth',
        '--work-dir', tmp_path / 'test', '--out-dir', tmp_path / 'out',
    )  # fmt: skip
    assert status == 0, text
    with (tmp_path / 'out/confusion_matrix.csv').open() as file:
        header, *rows = csv.reader(file)
    assert header[1:] == [row[0] for row in rows] == CLASSES
    matrix = np.array([row[1:] for row in rows], int)
    assert matrix.sum(1).tolist() == [2, 2, 2]
    assert matrix[2, CLASSES.index(taken_for)] >= 1
    assert (tmp_path / 'out/confusion_matrix.png').stat().st_size > 1000
    assert 'Accuracy of each class' in text
    status, text = run_tool(
        'analysis_tools/confusion_matrix.py', work / 'dla34_folder.py', work / 'epoch_1.pth',
        '--work-dir', tmp_path / 'test', '--out-dir', tmp_path / 'out',
    )  # fmt: skip
    assert 'holds confusion_matrix.csv and confusion_matrix.png; choose another --out-dir' in text


def test_pictures_of_data(images, tmp_path, monkeypatch, run_tool):
    monkeypatch.setenv('DLA_WEIGHTS', 'none')
    status, text = run_tool(
        'analysis_tools/browse_dataset.py', FOLDER, '--out-dir', tmp_path / 'data', '--show-number', 2
    )
    assert status == 0, text
    names = sorted(path.name for path in (tmp_path / 'data').iterdir())
    assert names == ['0000_blue0.png', '0001_blue1.png']
    assert Image.open(tmp_path / 'data' / names[0]).size == (224, 224)
    picture = np.asarray(Image.open(tmp_path / 'data' / names[0]).convert('RGB'))
    assert picture[200, 200].argmax() == 2, 'blue is blue'


def test_published_weights_are_tested_by_address(images, tmp_path, run_tool, server):
    save_file(timm.create_model('dla46_c').state_dict(), server.folder / 'model.safetensors')
    status, text = run_tool(
        'test.py', FOLDER, 'https://huggingface.co/timm/dla46_c.in1k/resolve/main/model.safetensors',
        '--work-dir', tmp_path / 'work', '--cfg-options', *SMALL, *FAST, 'model.head.num_classes=1000',
    )  # fmt: skip
    assert status == 0, text
    assert 'accuracy/top1' in text
    assert 'do not match' not in text


@pytest.mark.ddp
def test_two_processes(images, tmp_path, monkeypatch):
    env = {
        **os.environ, 'DLA_WEIGHTS': 'none', 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': '-1',
        'PORT': free_port(),
    }  # fmt: skip
    command = [
        ROOT / 'tools/dist_train.sh', FOLDER, 2, '--work-dir', tmp_path / 'work',
        '--cfg-options', *SMALL, *FAST, 'train_cfg.max_epochs=1',
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert 'accuracy/top1' in done.stdout + done.stderr
    assert (tmp_path / 'work/epoch_1.pth').is_file()


def test_learning_rates_grow_from_level_to_level(images, monkeypatch):
    monkeypatch.setenv('DLA_WEIGHTS', 'none')
    cfg = Config.fromfile(FOLDER)
    model = build_model(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {g['param_name']: g['lr'] for g in wrapper.param_groups if 'param_name' in g}
    assert not [name for name in rates if name.startswith(('backbone.base', 'backbone.level0'))]
    assert rates['head.fc.weight'] == pytest.approx(0.02)
    for level in (2, 3, 4, 5):
        (rate,) = {r for name, r in rates.items() if name.startswith(f'backbone.level{level}.')}
        assert rate == pytest.approx(0.02 * 0.7 ** (6 - level))


def test_wrong_folders_are_named(images, monkeypatch):
    def error(*splits) -> str:
        with pytest.raises(DatasetError) as caught:
            validate(Config.fromfile(FOLDER), *(splits or ('train', 'val')), outputs=outputs)
        return str(caught.value)

    outputs = Outputs(2, 'model.head.num_classes')
    assert 'it has the labels 2; with model.head.num_classes=2' in error()
    outputs = None
    (images / 'train/.ipynb_checkpoints').mkdir()
    assert "'blue' is class 1 in train data and class 0 in val data" in error()
    told = validate(Config.fromfile(FOLDER), 'train')
    assert [line for line in told if "['.ipynb_checkpoints'] are taken for classes" in line]
    (images / 'train/.ipynb_checkpoints').rmdir()
    (images / 'val/red').rename(images / 'val/rot')
    told = validate(Config.fromfile(FOLDER), 'train', 'val')
    assert [line for line in told if "class 2 is 'red' in train data and 'rot' here" in line]
    (images / 'val').rename(images / 'test')
    assert f'{images}/val' in error('val')
    assert 'set FOLDER_ROOT (CIFAR10_FOLDER_ROOT for the CIFAR-10 configs) to the folder' in error(
        'val'
    )
    monkeypatch.setenv('FOLDER_ROOT', str(images / 'train'))
    assert f'{images}/train/train' in error('train')


@pytest.mark.e2e
def test_modern_recipe_runs_where_there_is_no_gpu(images, tmp_path, monkeypatch, run_tool):
    """Mixup, cutmix, label smoothing, averaged weights, and bfloat16 in float16's place."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    dataset = "dict(_delete_=True, type='CustomDataset', data_root={root!r}, data_prefix={prefix!r}, pipeline={{{{_base_.{pipeline}_pipeline}}}})"
    config = tmp_path / 'dla46_c-modern_folder.py'
    train, val = (
        dataset.format(root=str(images), prefix=prefix, pipeline=pipeline)
        for prefix, pipeline in (('train', 'train'), ('val', 'test'))
    )
    config.write_text(
        f"_base_ = '{ROOT}/configs/dla34_imagenet-modern.py'\n"
        "model = dict(backbone=dict(arch='46_c'), data_preprocessor=dict(num_classes=3),\n"
        '    head=dict(num_classes=3, in_channels=256))\n'
        f'train_dataloader = dict(batch_size=4, num_workers=1, dataset={train})\n'
        f'val_dataloader = dict(batch_size=2, num_workers=1, dataset={val})\n'
        'val_evaluator = dict(topk=(1,))\n'
    )
    work = tmp_path / 'work'
    status, text = run_tool(
        'train.py', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
    )  # fmt: skip
    assert status == 0, text
    assert 'There is no GPU: mixed precision is bfloat16.' in text
    state = torch.load(work / 'epoch_1.pth', weights_only=False)
    assert any(k.startswith('module.backbone') for k in state['ema_state_dict'])
    assert all(torch.isfinite(v).all() for v in state['state_dict'].values())
    assert (tmp_path / 'work/epoch_1.pth').is_file()


@pytest.mark.parametrize('network', ['small_compute/dla46x_c', 'comparators/resnet18'])
def test_cifar_networks_share_everything_but_the_network(network):
    cfg = Config.fromfile(ROOT / f'configs/{network}_cifar10-small.py')
    other = Config.fromfile(ROOT / 'configs/small_compute/dla34_cifar10-small.py')
    for key in set(cfg) - {'model'}:
        assert cfg[key] == other[key], key
    assert cfg.model.data_preprocessor == other.model.data_preprocessor
    model = build_model(cfg)
    with torch.no_grad():
        assert model.backbone(torch.rand(2, 3, 32, 32))[-1].shape[2] == (
            4 if network.endswith('resnet18') else 2
        )


def test_strides():
    model = DLA('46_c', strides=(1, 1, 1, 2, 2, 2))
    shapes = [x.shape[2:] for x in model(torch.rand(2, 3, 33, 32))]
    assert shapes == [(33, 32), (17, 16), (9, 8), (5, 4)]
    model = DLA('46_c', strides=(1, 1, 2, 2, 2, 2), output_stride=8)
    assert [x.shape[3] for x in model(torch.rand(2, 3, 32, 32))] == [16, 8, 4, 4]
    for wrong in ((1, 2), (1, 2, 2, 2, 2, 3)):
        with pytest.raises(ValueError, match=r'strides=\(1, 2.*: must be six'):
            DLA('46_c', strides=wrong)


def test_the_best_checkpoint_is_chosen_by_what_is_measured():
    """A metric that no evaluator gives ends a training at its first validation."""
    prefixes = dict(Accuracy='accuracy', LocalizationMetric='localization')
    checked = 0
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        if '_base_' in path.parts:
            continue
        cfg = Config.fromfile(str(path))
        best = cfg.get('default_hooks', {}).get('checkpoint', {}).get('save_best')
        if cfg.get('default_scope') != 'mmpretrain' or best is None:
            continue
        metrics = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
        given = {m.get('prefix') or prefixes[m.type.split('.')[-1]] for m in metrics}
        assert best.split('/')[0] in given, path.name
        checked += 1
    assert checked > 30
