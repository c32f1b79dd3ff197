"""browse_dataset.py on images of any number of channels and any depth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip('mmseg')

from mmdla.visualization.images import to_bgr8

CONFIG = """
default_scope = 'mmseg'
load = dict(type='LoadImageFromFile', imdecode_backend={backend!r}, color_type={color!r})
train_dataloader = dict(
    dataset=dict(
        type='BaseSegDataset',
        data_root={root!r},
        img_suffix={suffix!r},
        seg_map_suffix='.png',
        metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [0, 200, 0]]),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=[load, dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    )
)
visualizer = dict(type={visualizer!r}, vis_backends=[dict(type='LocalVisBackend')])
"""
RAMP = np.linspace(0, 1, 64)[None].repeat(48, 0)
IMAGES = {
    'colour': (np.dstack([RAMP * 255, RAMP * 0, RAMP * 0]).astype(np.uint8), '.png', 'color'),
    'grey': ((RAMP * 255).astype(np.uint8), '.png', 'grayscale'),
    '16 bit': ((RAMP * 60000).astype(np.uint16), '.png', 'unchanged'),
    '6 bands': (np.stack([RAMP * 255] * 6, 2).astype(np.uint8), '.tif', 'unchanged'),
    '13 bands of 16 bit': (np.stack([RAMP * 4000] * 13, 2).astype(np.uint16), '.tif', 'unchanged'),
    '3 bands of floats': (np.stack([RAMP * 900 - 5] * 3, 2).astype(np.float32), '.tif', 'unchanged'),
}


@pytest.mark.parametrize('kind', IMAGES)
@pytest.mark.parametrize('visualizer', ['mmdla.SegStripVisualizer', 'SegLocalVisualizer'])
def test_pictures_of_every_kind_of_image(kind, visualizer, tmp_path, run_tool):
    image, suffix, color = IMAGES[kind]
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'images').mkdir()
    for name in 'ab':
        if suffix == '.tif':
            tifffile = pytest.importorskip('tifffile')
            options = dict(photometric='minisblack', planarconfig='contig')
            tifffile.imwrite(tmp_path / f'images/{name}.tif', image, **options)
        else:
            cv2.imwrite(str(tmp_path / f'images/{name}.png'), image)
        cv2.imwrite(str(tmp_path / f'labels/{name}.png'), np.eye(48, 64, dtype=np.uint8))
    backend = 'tifffile' if suffix == '.tif' else 'cv2'
    settings = dict(backend=backend, color=color, root=str(tmp_path), suffix=suffix)
    (tmp_path / 'config.py').write_text(CONFIG.format(visualizer=visualizer, **settings))
    status, text = run_tool(
        'analysis_tools/browse_dataset.py', tmp_path / 'config.py', '--out-dir', tmp_path / 'seen'
    )
    assert status == 0, text
    assert sorted(p.name for p in (tmp_path / 'seen').iterdir()) == ['0000_a.png', '0001_b.png']
    seen = cv2.imread(str(tmp_path / 'seen/0000_a.png'))[:, :64]
    if visualizer == 'mmdla.SegStripVisualizer':
        wanted = RAMP[..., None] * 255 * ((1, 0, 0) if kind == 'colour' else (1, 1, 1))
        assert np.abs(seen - wanted).max() <= 2


def test_pictures_of_odd_values():
    grey = np.array([[0, 7], [255, 3]], np.uint8)
    assert np.array_equal(to_bgr8(grey), np.stack([grey] * 3, 2))
    assert np.array_equal(to_bgr8(np.stack([grey, grey * 0], 2)), np.stack([grey] * 3, 2))
    bands = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    shown = to_bgr8(bands)
    assert np.array_equal(shown, bands[..., :3])
    shown[:] = 0
    assert bands.any(), 'a copy'
    # On the scale of 0 to 255 already; else stretched; NaN is black.
    assert to_bgr8(np.array([[7.4, 200.6]])).tolist() == [[[7] * 3, [201] * 3]]
    assert to_bgr8(np.array([[-1.0, 0.0, 1.0]]))[0, :, 0].tolist() == [0, 128, 255]
    assert to_bgr8(np.array([[0.5, 1.0, np.nan]]))[0, :, 0].tolist() == [128, 255, 0]
    assert to_bgr8(np.full((1, 1), 0.5)).shape == (1, 1, 3)
    assert to_bgr8(np.array([[0, 1]], np.int64))[0, :, 0].tolist() == [0, 1]
