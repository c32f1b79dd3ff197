"""The configs of AFA-DLA: recipes, a training step, published files by name."""

from __future__ import annotations

import argparse
import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, forget_runs, small_streets

pytest.importorskip('mmseg')
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdla.apis import BoundaryInferencer, SegInferencer
from mmdla.checkpoints import ABN_EPS, AFA_FILES, OCR_LAYERS, CheckpointError
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
        sides = 'sides' in name  # a head on every step, not on the fusion
        cfg.model.decode_head.in_channels = [*channels[-2::-1], channels[0]] if sides else channels[0]
        for head, width in zip(cfg.model.get('auxiliary_head', ()), channels[-2::-1]):
            head.in_channels = width
    return cfg


@pytest.mark.parametrize('name', [path.stem for path in CONFIGS])
def test_every_parameter_is_trained(name):
    cfg = load(name, '46_c')
    model = build_model(cfg).train()
    classes = model.decode_head.num_classes
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


# -- published files ------------------------------------------------------------------------------


def published_name(name: str) -> str:
    """What the released code calls an entry of a segmentor."""
    context = {f'decode_head.{ours}.': (theirs, i) for theirs, i, ours in OCR_LAYERS}
    for ours, (theirs, i) in context.items():
        name = re.sub(rf'^{re.escape(ours)}conv\.', f'ocr.{theirs}.{i}.', name)
        name = re.sub(rf'^{re.escape(ours)}bn\.', f'ocr.{theirs}.{i + 1}.0.', name)
    for ours, theirs in (
        (r'backbone\.', 'backbone.base.'),
        (r'neck\.(ida_\d)\.node_(\d)\.([sc]a)_1\.', r'backbone.afa_dla_up.afa_\1.\3_\2.'),
        (r'neck\.(ida_\d)\.', r'backbone.afa_dla_up.afa_\1.'),
        (r'neck\.fusion\.', 'backbone.'),
        (r'decode_head\.aux_head\.conv_seg\.', 'ocr.aux_head.2.'),
        (r'auxiliary_head\.(\d)\.conv_seg\.', lambda found: f'fc_{int(found[1]) + 1}.0.'),
    ):
        name, count = re.subn(f'^{ours}', theirs, name)
        if count:
            break
    return name


def lightning(model: torch.nn.Module, path: Path, abn: bool, foreign: bool = True) -> None:
    """Write a segmentor as the published files are: other objects beside it, InPlace-ABN's weights."""
    own = model.state_dict()
    state = {}
    for name, value in own.items():
        norm = name.endswith('.weight') and f'{name[:-6]}running_mean' in own
        if abn and norm and not name.startswith('backbone.'):
            value = (value - ABN_EPS) * (-1) ** torch.arange(len(value))
        name = published_name(name)
        if name.startswith('decode_head.conv_seg.'):
            name = name.replace('decode_head.conv_seg', 'ocr.cls_head' if is_context(own) else 'fc.0')
        state[f'net.{name}'] = value.clone()
    if is_context(own):  # these convolutions have biases there
        for conv in ('net.ocr.conv3x3_ocr', 'net.ocr.aux_head'):
            mean = state[f'{conv}.1.0.running_mean']
            state[f'{conv}.0.bias'] = torch.randn(len(mean))
            mean += state[f'{conv}.0.bias']
    for i in range(1, 5):
        state[f'net.up_{i}.weight'] = torch.ones(1, 1, 4, 4)
    module = types.ModuleType('afa_training')
    kinds = {k: type(k, (b,), dict(__module__='afa_training')) for k, b in (('A', dict), ('B', object))}
    module.__dict__.update(kinds)
    sys.modules['afa_training'] = module
    try:
        torch.save(
            dict(
                state_dict=state,
                epoch=13,
                global_step=25200,
                hyper_parameters=kinds['A'](args=argparse.Namespace(lr=0.01), net=kinds['B']()),
                callbacks={kinds['B']: dict(best_model_path='a.ckpt')},
                optimizer_states=[dict(state={0: dict(momentum_buffer=torch.ones(3))})],
                lr_schedulers=[dict(last_epoch=13)],
            ),
            path,
        )
    finally:
        del sys.modules['afa_training']
    with pytest.raises((pickle.UnpicklingError, ModuleNotFoundError)):
        torch.load(path, weights_only=False)


def is_context(state: dict) -> bool:
    return 'decode_head.bottleneck.conv.weight' in state


def trained(cfg: Config) -> torch.nn.Module:
    """The network of a config with norms that are not the identity."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias, std=0.1)
            torch.nn.init.normal_(m.running_mean, std=0.1)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)


def normalized(cfg: Config, image: np.ndarray) -> torch.Tensor:
    mean, std = cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std
    x = (image[..., ::-1].astype(np.float32) - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(x).permute(2, 0, 1)[None]


@pytest.mark.e2e
@pytest.mark.parametrize('name', ['afa-dla34_bsds500', 'afa-dla102x-ocr-ssr_cityscapes'])
def test_published_by_name(name, server, image):
    """Fetched once, of both dialects; the classes are the data set's."""
    cfg, file = load(name), PUBLISHED[name].rpartition('/')[2]
    model = trained(cfg)
    lightning(model, server.folder / file, AFA_FILES[file])
    kind = BoundaryInferencer if 'bsds' in name else SegInferencer
    kind(name, device='cpu')
    (server.folder / file).unlink()
    inferencer = kind(name, device='cpu')
    found = inferencer(image)['predictions']
    with torch.no_grad():
        logits = model(normalized(cfg, image))[0]
    if 'bsds' in name:
        np.testing.assert_allclose(found, logits.softmax(0)[1].numpy(), atol=1e-5)
    else:
        assert (found == logits.argmax(0).numpy()).mean() > 0.999
        assert inferencer.model.dataset_meta['classes'][18] == 'bicycle'


def test_what_is_no_published_file(server, image):
    name = 'afa-dla34_nyudv2'
    file = PUBLISHED[name].rpartition('/')[2]
    with pytest.raises(CheckpointError, match='could not be downloaded'):
        BoundaryInferencer(name, device='cpu')
    path = server.folder / file
    lightning(trained(load(name, '46_c')), path, True)
    server.hub.hashes[file] = 'a' * 64
    with pytest.raises(CheckpointError, match=r'its SHA-256 is .*, not a{64} as announced'):
        BoundaryInferencer(name, device='cpu')
    del server.hub.hashes[file]
    with pytest.raises(CheckpointError, match='of another network than the model'):
        BoundaryInferencer(name, device='cpu')
    server.close()


@pytest.mark.e2e
def test_the_tools_take_a_published_file(server, tmp_path, monkeypatch, run_tool):
    """By its address, which names its dialect: tested, and begun from."""
    monkeypatch.setenv('DEMO_STREETS_ROOT', str(tmp_path / 'streets'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.chdir(tmp_path)
    name = 'afa-dla169-ocr-ssr_bdd100k'
    cfg, demo = load(name, '46_c'), Config.fromfile(ROOT / 'configs/dla34_demo.py')
    for key in ('train', 'val', 'test'):
        cfg[f'{key}_dataloader'] = demo[f'{key}_dataloader']
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg, cfg.param_scheduler = demo.train_cfg, demo.param_scheduler
    cfg.model.train_cfg.scales = cfg.model.test_cfg.scales = (0.5, 1.0)
    model = trained(cfg)
    cfg.dump(tmp_path / 'small.py')
    url = PUBLISHED[name]
    file = url.rpartition('/')[2]
    lightning(model, server.folder / file, True)
    total = len(model.state_dict())

    options = ('--cfg-options', *small_streets(2), 'train_cfg.max_iters=1', 'train_cfg.val_interval=1')
    options += ('default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.by_epoch=False')
    status, text = run_tool('test.py', tmp_path / 'small.py', url, *options)
    assert status == 0, text
    counts = re.search(rf'{file}.*: (\d+) entries.*: (\d+) loaded, (\d+) converted', text)
    read, own, renamed = map(int, counts.groups())
    assert (own + renamed, read) == (total, total + 2 + 4 + 1)  # biases, upsampling, momentum
    assert 'missing, and' not in text
    assert 'mIoU' in text
    forget_runs()
    status, text = run_tool('train.py', tmp_path / 'small.py', *options, f'load_from={url}')
    assert status == 0, text
    assert counts[0] in text
    trained_on = torch.load(tmp_path / 'work_dirs/small/iter_1.pth', weights_only=False)['state_dict']
    key = 'backbone.level2.tree1.conv1.weight'
    assert 0 < (trained_on[key] - model.state_dict()[key]).abs().max() < 0.1


def test_a_file_is_converted(tmp_path, run_tool):
    """Of a trained network's file only the tensors are wanted; its name tells the dialect."""
    cfg = load('afa-dla34_nyudv2-hha')
    model = trained(cfg)
    path = tmp_path / 'afa_dla_up_dla34_hha.ckpt'
    lightning(model, path, True)
    status, text = run_tool('model_converters/convert_released.py', path, tmp_path / 'a.pth')
    assert status == 0, text
    assert "This was authors' AFA-DLA, DLA '34'" in text
    assert "act_cfg=dict(type='LeakyReLU', negative_slope=0.01)" in text
    converted = torch.load(tmp_path / 'a.pth')
    assert converted.keys() == {'state_dict', 'meta'}
    own = model.state_dict()
    assert converted['state_dict'].keys() == own.keys()
    for key, value in converted['state_dict'].items():
        torch.testing.assert_close(value, own[key])


def test_a_backbone_begins_with_a_published_file(server):
    """By its address, and with mmengine's own loader."""
    from mmengine.runner import CheckpointLoader

    model = trained(load('afa-dla34_bsds500', '46_c'))
    url = PUBLISHED['afa-dla34_bsds500']
    lightning(model, server.folder / url.rpartition('/')[2], True)
    backbone = DLA('46_c', init_cfg=dict(type='Pretrained', checkpoint=url))
    backbone.init_weights()
    own = model.backbone.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in backbone.state_dict().items())
    found = CheckpointLoader.load_checkpoint(url, 'cpu')
    assert found['state_dict'].keys() >= {'net.backbone.base.level2.tree1.conv1.weight'}
