"""What an AFA-DLA attends to, as maps and as a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

pytest.importorskip('mmseg')
from mmengine.config import Config

from mmdla.engine.config import build_model
from mmdla.models import DLA
from mmdla.visualization.attention import attention_maps

TOOL = 'visualization/draw_attention.py'


@pytest.fixture
def small() -> Config:
    """DLA-46-C in the published network with rendering over scales."""
    cfg = Config.fromfile(ROOT / 'configs/afa/afa-dla102x-ocr-ssr_cityscapes.py')
    channels = list(DLA('46_c').channels[1:])
    cfg.model.backbone.arch = '46_c'
    cfg.model.neck.in_channels = channels
    cfg.model.auxiliary_head = None
    cfg.model.test_cfg = dict(mode='whole', scales=(0.5, 1.0))
    return cfg


def test_maps_are_the_networks(small):
    model, x = build_model(small).eval(), torch.randn(1, 3, 64, 96)
    rows = attention_maps(model, x)
    with torch.no_grad():
        found = model.neck.attention(model.backbone(x))
        weights = model.scale_weights(x)
    assert [len(maps) for maps in rows.values()] == [3, 4, 2]
    assert [name.partition(';')[0] for name in rows['levels']] == [
        f'level of stride {s}' for s in (8, 4, 2)
    ]
    assert [name.partition(';')[0] for name in rows['nodes']] == [
        f'last node at stride {s}' for s in (16, 8, 4, 2)
    ]
    wanted = dict(
        levels=[found[f'fusion.{i}'][0] for i in range(3)],
        nodes=[found[f'ida_{i}.node_{i + 1}'][0] for i in range(4)],
        scales=[weights[0.5], weights[1.0]],
    )
    for row, maps in rows.items():
        for ours, theirs in zip(maps.values(), wanted[row]):
            assert torch.equal(ours, theirs[0, 0])
    del model.neck
    with pytest.raises(ValueError, match='must be an AFAUp, not NoneType'):
        attention_maps(model, x)


def test_tool(small, tmp_path, run_tool):
    small.dump(tmp_path / 'small.py')
    torch.save(build_model(small).state_dict(), tmp_path / 'a.pth')
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((33, 65, 3), 99, np.uint8))
    files = (tmp_path / 'small.py', tmp_path / 'a.pth', tmp_path / 'a.png')
    status, text = run_tool(TOOL, *files, '--out', tmp_path / 'b/c.png')
    assert status == 0, text
    assert 'scales: scale 0.5, mean ' in text
    assert cv2.imread(str(tmp_path / 'b/c.png')).size
    status, text = run_tool(TOOL, *files, '--out', tmp_path / 'b/c.png')
    assert status == 2
    assert 'exists already; --force overwrites it' in text
    status, text = run_tool(TOOL, *files[:2], tmp_path / 'no.png', '--out', tmp_path / 'd.png')
    assert 'no.png: no such image' in text
    demo = ROOT / 'configs/dla34_demo.py'
    status, text = run_tool(TOOL, demo, *files[1:], '--out', tmp_path / 'd.png')
    assert status != 0
    assert not (tmp_path / 'd.png').exists()
