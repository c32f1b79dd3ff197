"""Detectors of mmdet on DLA: they build, train, infer, and take CenterNet's weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet', reason='detectors need mmdet')
pytest.importorskip('mmcv._ext', reason='detectors need mmcv with its compiled ops')
from literal_centernet import Network
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from PIL import Image

from mmdla.checkpoints import convert_released

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/detection').glob('*.py'))
CENTERNET = ROOT / 'configs/detection/dla34_centernet_coco.py'
DCN = ROOT / 'configs/detection/dla34-dcn_centernet_coco.py'


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def detector(path: Path) -> torch.nn.Module:
    return revert_sync_batchnorm(MODELS.build(Config.fromfile(path).model))


def sample(height: int, width: int, boxes: int = 3) -> dict:
    """An image of noise and boxes at random."""
    corner = torch.rand(boxes, 2) * torch.tensor([width - 60, height - 60])
    truth = InstanceData(
        bboxes=torch.cat([corner, corner + 20 + 40 * torch.rand(boxes, 2)], 1),
        labels=torch.randint(0, 80, (boxes,)),
    )
    known = dict(img_shape=(height, width), ori_shape=(height, width), border=np.zeros(4, np.float32))
    known['scale_factor'] = (1.0, 1.0)
    image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
    return dict(inputs=image, data_samples=DetDataSample(metainfo=known, gt_instances=truth))


def batch(*samples: dict) -> dict:
    return {key: [s[key] for s in samples] for key in samples[0]}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_configs_train_and_infer(path):
    assert path.read_text().startswith('# ')
    model = detector(path)
    model.init_weights()
    model.train()
    data = model.data_preprocessor(batch(sample(128, 160), sample(128, 160)), True)
    losses, values = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    assert len(values) > 2
    assert all(torch.isfinite(v).all() for v in values.values()), values
    assert not [n for n, p in model.named_parameters() if p.grad is None]

    before = [p.clone() for p in model.backbone.parameters()]
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    model.train_step(batch(sample(128, 160), sample(128, 160)), optim)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.backbone.parameters()))

    model.eval()
    with torch.no_grad():
        (found,) = model.test_step(batch(sample(97, 131)))
    found = found.pred_instances
    assert found.bboxes.shape == (len(found.scores), 4)
    assert torch.isfinite(found.bboxes).all()
    if 'centernet' in path.stem:
        assert len(found) == 100
        # The levels round sizes up: the heatmap has 25 x 33 places for 97 x 131 pixels.
        features = model.extract_feat(torch.zeros(1, 3, 97, 131))
        assert features[0].shape == (1, 64, 25, 33)


@pytest.mark.parametrize('deformable', [False, True])
def test_converted_centernet_loads_strictly_and_says_the_same(deformable):
    theirs = Network(deformable).double()
    model = detector(DCN if deformable else CENTERNET).double().eval()
    model.load_state_dict(convert_released(theirs.state_dict()).state_dict, strict=True)
    data = sample(64, 96)
    given = model.data_preprocessor(batch(data))
    # As in CenterNet: channels as OpenCV reads them, BGR, in 0-1.
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.408, 0.447, 0.470), (0.289, 0.274, 0.278)))
    torch.testing.assert_close(given['inputs'][0].float(), (data['inputs'] / 255 - mean) / std)

    given['inputs'] = given['inputs'].double()
    wanted = theirs(given['inputs'])
    with torch.no_grad():
        found = model(**given, mode='tensor')
        result = model(**given, mode='predict')[0].pred_instances
    for ours, released in zip(found, (wanted['hm'].sigmoid(), wanted['wh'], wanted['reg'])):
        torch.testing.assert_close(ours[0], released, atol=1e-5, rtol=0)

    # The best place: a maximum among its neighbours, its box in pixels at stride 4.
    heat = wanted['hm'].sigmoid()
    peaks = heat * (heat == torch.nn.functional.max_pool2d(heat, 3, 1, 1))
    best = int(peaks.argmax())
    label, y, x = best // (16 * 24), best // 24 % 16, best % 24
    centre = torch.tensor([x, y]) + wanted['reg'][0, :, y, x]
    half = wanted['wh'][0, :, y, x] / 2
    box = 4 * torch.cat([centre - half, centre + half])
    assert result.scores[0].item() == pytest.approx(peaks.max().item())
    assert result.labels[0] == label
    assert 0 < peaks.max() < 1
    torch.testing.assert_close(result.bboxes[0], box)


def test_recipe_is_centernets():
    cfg = Config.fromfile(CENTERNET)
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=5e-4)
    assert cfg.train_cfg.max_epochs == 140
    assert cfg.param_scheduler == [dict(type='MultiStepLR', milestones=[90, 120], gamma=0.1)]
    assert cfg.train_dataloader.batch_size * 8 == 128
    assert cfg.train_dataloader.dataset.ann_file.endswith('instances_train2017.json')
    deformable = Config.fromfile(DCN)
    assert deformable.model.neck.pop('conv_cfg') == dict(type='DCNv2', deform_groups=1)
    assert deformable.to_dict() == cfg.to_dict()


def test_weights_are_named_by_a_variable(monkeypatch):
    monkeypatch.setenv('DLA_WEIGHTS', 'timm')
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='timm')


@pytest.fixture
def coco(tmp_path) -> Path:
    """Four images of a rectangle each, in COCO's layout."""
    from mmdet.datasets import CocoDataset

    rng = np.random.default_rng(0)
    names = CocoDataset.METAINFO['classes']
    truth = dict(
        images=[], annotations=[], categories=[dict(id=i, name=n) for i, n in enumerate(names, 1)]
    )
    (tmp_path / 'annotations').mkdir()
    for folder in ('train2017', 'val2017'):
        (tmp_path / folder).mkdir()
    for i in range(4):
        pixels = rng.integers(0, 60, (96, 112, 3), dtype=np.uint8)
        x, y, w, h = (int(v) for v in rng.integers((10, 10, 34, 34), (30, 30, 60, 50)))
        pixels[y : y + h, x : x + w] = 200
        for folder in ('train2017', 'val2017'):
            Image.fromarray(pixels).save(tmp_path / folder / f'{i}.png')
        truth['images'].append(dict(id=i, file_name=f'{i}.png', width=112, height=96))
        box = dict(bbox=[x, y, w, h], area=w * h, iscrowd=0)
        truth['annotations'].append(dict(id=i + 1, image_id=i, category_id=1 + i % 2, **box))
    for split in ('train', 'val'):
        (tmp_path / f'annotations/instances_{split}2017.json').write_text(json.dumps(truth))
    return tmp_path


def tool(name: str, *args, root: Path) -> str:
    env = {**os.environ, 'COCO_ROOT': str(root), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'}
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / name, *args]
    done = subprocess.run(list(map(str, command)), env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_tools_train_and_test_a_detector(coco, tmp_path):
    small = [
        'train_dataloader.batch_size=2',
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.pipeline.3.crop_size=(96,96)',
        'train_dataloader.dataset.pipeline.4.scale=(96,96)',
        *(f'{split}_dataloader.{o}' for split in ('train', 'val', 'test')
          for o in ('num_workers=0', 'persistent_workers=False')),
        'default_hooks.logger.interval=1',
    ]  # fmt: skip
    work = tmp_path / 'work'
    text = tool('train.py', CENTERNET, '--work-dir', work, '--cfg-options', *small, root=coco)
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\]', text)
    losses = [float(x) for x in re.findall(r' loss: (\S+)', text)]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    checkpoint = work / 'epoch_1.pth'
    text = tool(
        'test.py', CENTERNET, checkpoint, '--work-dir', work, '--show-dir', tmp_path / 'show',
        '--cfg-options', *small, root=coco,
    )  # fmt: skip
    assert re.search(r'coco/bbox_mAP: \d\.\d+', text)
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 4
