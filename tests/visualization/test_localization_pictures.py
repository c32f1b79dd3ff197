"""Heat maps, boxes and grids, and the tool that makes them for any classifier."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, forget_runs

from mmdla.visualization.localization import FOUND, TRUE, grid, heat_map, localization_picture


def test_heat_is_where_the_map_is():
    image = np.full((40, 60, 3), 128, np.uint8)
    scores = np.zeros((4, 6))
    scores[1, 4] = 3
    picture = heat_map(image, scores)
    assert picture.shape == image.shape
    hot, cold = picture[15, 45].astype(int), picture[35, 5].astype(int)
    assert hot[2] > hot[0] + 50  # red
    assert cold[0] > cold[2] + 50  # blue
    assert (heat_map(image, np.ones((2, 2))) == heat_map(image, np.zeros((3, 3)))).all()


def test_boxes_and_caption():
    image = np.zeros((100, 120, 3), np.uint8)
    box, true = np.array([10, 20, 50, 60.0]), np.array([[70, 5, 110, 95.0]])
    picture = localization_picture(image, np.zeros((5, 5)), box, true, 'fish 1.00')
    assert picture.shape == (2 * 100 + 22, 2 * 2 * 120, 3)  # enlarged, beside its heat map, captioned
    assert tuple(picture[2 * 40, 2 * 10]) == FOUND
    assert tuple(picture[2 * 50, 2 * 70]) == TRUE
    nothing = localization_picture(image, np.zeros((5, 5)), np.zeros(4))
    assert not (nothing[:200, :240] == FOUND).all(-1).any()


def test_grid():
    pictures = [np.full((10, 20, 3), i, np.uint8) for i in range(5)]
    sheet = grid(pictures, columns=2, gap=4)
    assert sheet.shape == (3 * 14 - 4, 2 * 24 - 4, 3)
    assert (sheet[28:38, :20] == 4).all()
    assert (sheet[28:38, 24:] == 255).all()
    with pytest.raises(ValueError, match='0 pictures in columns=2'):
        grid([], 2)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A config, and a checkpoint of a small network whose maps are the brightness."""
    pytest.importorskip('mmpretrain')
    from mmdla.datasets.demo_objects import generate_demo_objects

    root = tmp_path / 'objects'
    generate_demo_objects(root, sizes=dict(train=8, val=8, test=8), image_size=64)
    monkeypatch.setenv('DEMO_OBJECTS_ROOT', str(root))
    config = tmp_path / 'small.py'
    config.write_text(
        f"""
_base_ = ['{ROOT}/configs/_base_/datasets/demo_objects.py',
    '{ROOT}/configs/_base_/schedules/small_10e.py', '{ROOT}/configs/_base_/classification_runtime.py']
sizes = dict(train=8, val=8, test=8)
train_dataloader = dict(dataset=dict(sizes=sizes, image_size=64))
val_dataloader = dict(dataset=dict(sizes=sizes, image_size=64))
test_dataloader = dict(dataset=dict(sizes=sizes, image_size=64))
model = dict(type='ImageClassifier',
    data_preprocessor=dict(mean=[118.0] * 3, std=[58.0] * 3, num_classes=8),
    backbone=dict(type='mmdla.DRN', arch=dict(block='basic', depths=(1,) * 8, channels=(4,) * 8)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=8, in_channels=4))
"""
    )
    from mmengine.config import Config

    from mmdla.engine.config import build_model

    torch.save(build_model(Config.fromfile(str(config))).state_dict(), tmp_path / 'small.pth')
    return config, tmp_path / 'small.pth', root


@pytest.mark.parametrize('rule', ['dominant', 'contour'])
def test_tool_on_the_test_data(trained, tmp_path, run_tool, rule):
    config, checkpoint, _ = trained
    out = tmp_path / 'out'
    status, text = run_tool(
        'visualization/localize.py', config, checkpoint, '--out-dir', out, '--num-images', 5, '--rule', rule,
    )  # fmt: skip
    assert status == 0, text
    assert 'of 8 are right there' in text
    assert len(list(out.glob('0*.png'))) == 5
    one = cv2.imread(str(next(out.glob('0000_*.png'))))
    assert one.shape == (3 * 64 + 22, 2 * 3 * 64, 3)
    assert cv2.imread(str(out / 'grid.png')).shape[1] > 3 * one.shape[1]
    status, text = run_tool('visualization/localize.py', config, checkpoint, '--out-dir', out)
    assert status != 0
    assert 'holds something already' in text


def test_tool_on_images(trained, tmp_path, run_tool):
    config, checkpoint, root = trained
    forget_runs()  # as in a fresh process
    images = sorted((root / 'test').rglob('*.png'))[:2]
    status, text = run_tool(
        'visualization/localize.py', config, checkpoint, *images, '--out-dir', tmp_path / 'out',
        '--threshold', 0.2,
    )  # fmt: skip
    assert status == 0, text
    assert len(list((tmp_path / 'out').glob('0*.png'))) == 2


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['absent.png'], 'there is no file absent.png'),
        (['--num-images', '0'], '--num-images 0 must be 1 or more'),
        (['--columns', '0'], '--columns 0 must be 1 or more'),
        (['--threshold', '1'], 'must be from 0 to below 1'),
    ],
)
def test_tool_refuses(trained, tmp_path, run_tool, more, message):
    config, checkpoint, _ = trained
    status, text = run_tool(
        'visualization/localize.py', config, checkpoint, '--out-dir', tmp_path / 'o', *more
    )
    assert status != 0
    assert message in text
    assert not (tmp_path / 'o').exists()


def test_tool_refuses_what_is_no_such_classifier(trained, tmp_path, run_tool):
    config, checkpoint, _ = trained
    absent = tmp_path / 'absent.pth'
    status, text = run_tool('visualization/localize.py', config, absent, '--out-dir', tmp_path / 'o')
    assert status != 0
    assert 'absent.pth' in str(text)
    head = ['--cfg-options', 'model.head.type=StackedLinearClsHead', 'model.head.mid_channels=[4]']
    status, text = run_tool(
        'visualization/localize.py', config, checkpoint, '--out-dir', tmp_path / 'o', *head
    )
    assert status != 0
    assert 'class maps need a classifier of GlobalAveragePooling and LinearClsHead' in text
    (tmp_path / 'file').write_text('')
    status, text = run_tool(
        'visualization/localize.py', config, checkpoint, '--out-dir', tmp_path / 'file'
    )
    assert 'holds something already' in text


def test_each_rule_has_its_own_thresholds(trained, tmp_path):
    import runpy

    from mmengine.config import Config

    tool = runpy.run_path(str(ROOT / 'tools/visualization/localize.py'))
    cfg = Config.fromfile(str(trained[0]))
    for rule in ('contour', 'dominant'):
        assert tool['localization_metric'](cfg, rule).rule == rule
    assert len(tool['localization_metric'](cfg, 'dominant').thresholds) == 100
