"""The configs of AFA-DLA: recipes, a training step, published files by name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

pytest.importorskip('mmseg')
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdla.checkpoints import AFA_FILES
from mmdla.engine.config import build_model
from mmdla.models import DLA

CONFIGS = sorted((ROOT / 'configs').rglob('afa-*_*.py'))
CONFIGS = [path for path in CONFIGS if '_base_' not in path.parts]
PUBLISHED = {
    model['Name']: model['Weights']
    for path in (ROOT / 'configs/afa').glob('metafile_*.yml')
    for model in yaml.safe_load(path.read_text())['Models']
    if model['Weights']
}


def load(name: str, arch: str | None = None) -> Config:
    """A config by name; with ``arch`` with that network's channels, in place of its own."""
    (path,) = (path for path in CONFIGS if path.stem == name)
    cfg = Config.fromfile(path)
    if arch is not None:
        channels = list(DLA(arch).channels[1:])
        cfg.model.backbone.arch = arch
        cfg.model.neck.in_channels = channels
        cfg.model.decode_head.in_channels = channels[0]
        for head, width in zip(cfg.model.get('auxiliary_head', ()), channels[-2::-1]):
            head.in_channels = width
    return cfg


@pytest.mark.parametrize('name', [path.stem for path in CONFIGS])
def test_every_parameter_is_trained(name):
    cfg = load(name, '46_c')
    model = build_model(cfg).train()
    classes = cfg.model.decode_head.num_classes
    labels = torch.randint(0, classes, (2, 64, 64))
    labels[:, :4] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=y[None])) for y in labels]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    if name in PUBLISHED:
        context, auxiliary = 'ocr' in name, [f'aux_{i}.loss_bce' for i in range(4)]
        others = [
            'decode.loss_rmi',
            'decode.regions.loss_bce',
            'scale_0.5.loss_bce',
            'scale_1.loss_bce',
        ]
        wanted = ['decode.loss_bce', *auxiliary, *(others if context else ())]
        assert {k for k in losses if 'loss' in k} == set(wanted)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize(
    ('name', 'lr', 'batch', 'epochs', 'crop', 'scales', 'milestones'),
    [
        ('102x-ocr-ssr_cityscapes', 0.01, 8, 375, (1024, 2048), (0.5, 1, 1.5, 1.75, 2), None),
        ('102x-ocr-ssr_cityscapes-trainval', 0.015, 16, 275, (1024,) * 2, (0.5, 1, 1.5, 1.75, 2), None),
        ('169-ocr-ssr_bdd100k', 0.015, 16, 200, (720, 1280), (0.5, 1, 1.5, 2), None),
        ('34_bsds500', 0.01, 16, 14, (416, 416), (1,), [8, 12]),
        ('34_bsds500-pascal', 0.01, 16, 20, (416, 416), (1,), [10, 16]),
        ('34_nyudv2', 0.01, 16, 54, (480, 480), (1,), [30, 46]),
        ('34_nyudv2-hha', 0.01, 16, 54, (480, 480), (1,), [30, 46]),
    ],
)
def test_recipes_are_the_published(name, lr, batch, epochs, crop, scales, milestones):
    cfg = load(f'afa-dla{name}')
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size * 8 == batch == cfg.auto_scale_lr.base_batch_size
    pipelines = []
    datasets = [cfg.train_dataloader.dataset]
    while datasets:
        one = datasets.pop()
        datasets += one.get('datasets', [one.dataset] if 'dataset' in one else [])
        pipelines += [one.pipeline] if 'pipeline' in one else []
    crops = {step.crop_size for steps in pipelines for step in steps if 'crop_size' in step}
    assert crops == {crop}
    assert cfg.model.test_cfg.get('scales', (1,)) == scales
    assert cfg.model.train_cfg.get('scales', (1,)) == (scales[:2] if milestones is None else (1,))
    assert (cfg.model.train_cfg.size_divisor, cfg.model.test_cfg.size_divisor) == (64, 128)
    last = cfg.param_scheduler[-1]
    if milestones is None:
        assert (last.type, last.end, last.power, last.eta_min) == ('PolyLR', epochs, 0.9, 1e-4)
        assert cfg.param_scheduler[0].end == 1000
    else:
        assert last.milestones == milestones
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    if 'bdd' in name:
        mean, std = (255 * np.array(v) for v in ((0.279, 0.293, 0.290), (0.247, 0.265, 0.276)))
    np.testing.assert_allclose(cfg.model.data_preprocessor.mean, mean)
    np.testing.assert_allclose(cfg.model.data_preprocessor.std, std)


def test_the_dialect_is_the_files():
    """The activation of a config is that of the file that is published for it."""
    assert len(PUBLISHED) == 7
    assert {url.rpartition('/')[2] for url in PUBLISHED.values()} == AFA_FILES.keys()
    for name, url in PUBLISHED.items():
        model = load(name).model
        leaky = (
            dict(type='LeakyReLU', negative_slope=0.01) if AFA_FILES[url.rpartition('/')[2]] else None
        )
        parts = [model.neck, *([model.decode_head, model.scale_attention] if 'ocr' in name else [])]
        assert [part.get('act_cfg') for part in parts] == [leaky] * len(parts)
