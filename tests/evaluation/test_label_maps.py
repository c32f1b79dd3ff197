"""Predicted label maps: one file for each image, whatever folders the images lie in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from mmseg.registry import METRICS
from PIL import Image

import mmdla  # noqa: F401


def write(folder, *images: str, root: str | None = None) -> list[str]:
    metric = METRICS.build(
        dict(type='mmdla.LabelMapIoUMetric', output_dir=str(folder), root=root, format_only=True)
    )
    metric.dataset_meta = dict(classes=('a', 'b'))
    samples = [
        dict(pred_sem_seg=dict(data=torch.full((1, 4, 6), k)), img_path=image, reduce_zero_label=False)
        for k, image in enumerate(images)
    ]
    metric.process({}, samples[:1])
    metric.process({}, samples[1:])
    for k, image in enumerate(images):  # each has its own
        (file,) = (p for p in folder.rglob('*.png') if (np.asarray(Image.open(p)) == k).all())
        assert file.stem == image.rpartition('/')[2].rpartition('.')[0]
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*.png'))


def test_maps_have_the_folders_of_their_images(tmp_path):
    images = ('data/north/1.jpg', 'data/south/1.jpg', 'data/2.jpg')
    assert write(tmp_path / 'a', *images, root='data') == ['2.png', 'north/1.png', 'south/1.png']
    assert write(tmp_path / 'b', *images) == ['data/2.png', 'data/north/1.png', 'data/south/1.png']
    where = [f'{tmp_path}/x/{image}' for image in images]
    assert write(tmp_path / 'c', *where, root=f'{tmp_path}/x/data') == [
        '2.png',
        'north/1.png',
        'south/1.png',
    ]
    outside = write(tmp_path / 'd', '../other/1.jpg', 'data/1.jpg', root='data')
    assert outside == ['1.png', 'other/1.png'], 'nothing is written above the folder'


def test_images_that_differ_by_their_suffix_are_named(tmp_path):
    with pytest.raises(ValueError, match=r'data/1\.jpg and data/1\.png: both label maps would be'):
        write(tmp_path, 'data/1.jpg', 'data/1.png', root='data')


def test_it_is_mmsegs_metric(tmp_path):
    """The same scores; an image that a distributed sampler repeats is no other one."""
    sample = dict(
        pred_sem_seg=dict(data=torch.eye(4, dtype=torch.long)[None]),
        gt_sem_seg=dict(data=torch.ones(1, 4, 4, dtype=torch.long)),
        img_path='data/1.jpg',
    )
    scores = []
    for kind in ('IoUMetric', 'mmdla.LabelMapIoUMetric'):
        metric = METRICS.build(dict(type=kind, output_dir=str(tmp_path / kind)))
        metric.dataset_meta = dict(classes=('a', 'b'))
        metric.process({}, [sample, sample])
        scores.append(metric.evaluate(2))
    assert scores[0] == scores[1]
