"""Boundaries of segmentations: their width by hand, as labels to train on, scored by class."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from mmcv.transforms import Compose
from mmengine.registry import METRICS, init_default_scope
from mmseg.registry import TRANSFORMS

from mmdla.datasets.transforms import SegMapToBoundaries
from mmdla.evaluation.boundary.semantic import SemanticBoundaryMetric, count_classes
from mmdla.utils.mask_boundaries import mask_boundaries

SIZE = (40, 60)


def halves(at: int = 30) -> np.ndarray:
    """Class 0 on the left of a column, 1 on its right."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:, at:] = 1
    return labels


# -- boundaries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('width', 'first', 'last'), [(1, 29, 29), (2, 29, 30), (3, 28, 30), (4, 28, 31), (7, 26, 32)]
)
def test_width_of_a_straight_boundary(width, first, last):
    columns = np.flatnonzero(mask_boundaries(halves(), width).all(0))
    assert columns.tolist() == list(range(first, last + 1))
    rows = np.flatnonzero(mask_boundaries(halves().T, width).all(1))
    assert rows.tolist() == columns.tolist()
    assert mask_boundaries(halves(), width).sum() == SIZE[0] * width


def test_boundaries_of_a_square_by_hand():
    labels = np.zeros((5, 5), int)
    labels[1:4, 1:4] = 3
    thin = np.array([
        [0, 1, 1, 1, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 0],
        [1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ])  # fmt: skip
    assert np.array_equal(mask_boundaries(labels, 1), thin)
    both = mask_boundaries(labels, 2)
    assert both.sum() == 8 + 12  # inside, all but the middle; outside, all but the corners
    assert not both[2, 2]
    assert not both[0, 0]


def test_there_is_no_boundary_with_what_is_ignored():
    labels = halves()
    labels[:, 28:33] = 255
    assert mask_boundaries(labels).any()
    assert not mask_boundaries(labels, 5, labels == 255).any()
    assert not mask_boundaries(np.zeros(SIZE), 4).any()
    for width in (0, 1.5, True):
        with pytest.raises(ValueError, match='must be a number of pixels'):
            mask_boundaries(labels, width)


def sample(tmp_path, labels, instances=None) -> dict:
    path = tmp_path / 'a_labelTrainIds.png'
    cv2.imwrite(str(path), labels)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*labels.shape, 3), np.uint8))
    if instances is not None:
        cv2.imwrite(str(tmp_path / 'a_instanceIds.png'), instances.astype(np.uint16))
    common = dict(seg_fields=[], reduce_zero_label=False, label_map=None)
    return dict(img_path=str(tmp_path / 'a.png'), seg_map_path=str(path), **common)


def run(steps, results: dict) -> dict:
    init_default_scope('mmseg')
    return Compose([TRANSFORMS.build(step) for step in steps])(results)


def test_boundaries_of_classes_and_instances_as_labels(tmp_path):
    labels = halves()
    labels[:5] = 255
    instances = labels.astype(int) * 1000
    instances[:, 45:] += 1  # two cars that touch
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    suffix = ('_labelTrainIds.png', '_instanceIds.png')
    for arguments, columns in (
        (dict(width=2), [29, 30]),
        (dict(width=2, instance_suffix=suffix), [29, 30, 44, 45]),
    ):
        made = run([*load, dict(type='mmdla.SegMapToBoundaries', **arguments)], sample(tmp_path, labels, instances))  # fmt: skip
        label = made['gt_seg_map']
        assert label.dtype == np.uint8
        assert (label[:5] == 255).all()
        assert np.flatnonzero((label[5:] == 1).all(0)).tolist() == columns
        assert set(np.unique(label[5:])) == {0, 1}
    packed = run(
        [
            *load,
            dict(type='mmdla.SegMapToBoundaries'),
            dict(type='mmdla.ThinReflectRotate', degree=20),
            dict(type='RandomCrop', crop_size=(32, 32)),
            dict(type='PackSegInputs'),
        ],
        sample(tmp_path, labels),
    )
    assert packed['data_samples'].gt_sem_seg.data.unique().tolist() in ([0, 1, 255], [0, 1])


def test_masks_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match='has no label map yet'):
        SegMapToBoundaries()(dict(img_path='a'))
    with pytest.raises(ValueError, match='width=0 must be'):
        SegMapToBoundaries(width=0)
    results = dict(sample(tmp_path, halves(), halves()[:9]), gt_seg_map=halves())
    with pytest.raises(ValueError, match=r'a_instanceIds\.png is of shape \(9, 60\)'):
        SegMapToBoundaries(instance_suffix=('_labelTrainIds.png', '_instanceIds.png'))(results)
    with pytest.raises(ValueError, match=r"does not end in '\.bmp'"):
        SegMapToBoundaries(instance_suffix=('.bmp', '.png'))(results)


# -- scores -----------------------------------------------------------------------------------------


def data_sample(labels, name='a', logits=None, predicted=None) -> dict:
    """What mmseg's loops hand to a metric."""
    made = dict(img_path=name, gt_sem_seg=dict(data=torch.from_numpy(labels)[None].long()))
    if logits is not None:
        made['seg_logits'] = dict(data=torch.as_tensor(logits))
    if predicted is not None:
        made['pred_sem_seg'] = dict(data=torch.from_numpy(predicted)[None].long())
    return made


def scored(samples, **kwargs) -> dict[str, float]:
    metric = SemanticBoundaryMetric(**kwargs)
    metric.dataset_meta = dict(classes=('road', 'car', 'sky'))
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


def test_masks_by_hand():
    labels = halves()
    exact = scored([data_sample(labels, predicted=labels)])
    assert exact['boundary/mODS'] == exact['boundary/mOIS'] == 1
    # the diagonal is 72.1 pixels, 0.02 of it 1.44, 0.05 of it 3.6
    moved = [data_sample(labels, predicted=halves(33))]
    assert scored(moved)['boundary/mODS'] == 0
    assert scored(moved, max_dist=0.05)['boundary/mODS'] == 1
    # a third class, half of whose boundary with class 1 is missed
    labels[:, 50:] = 2
    predicted = labels.copy()
    predicted[:20, 50:] = 1
    counts = count_classes(predicted, labels, 255, 'a', dict(thresholds=1, max_dist=0.02))
    assert counts[0].tolist() == [[40, 40, 40, 40]]
    assert counts[2][0, 1] == 40
    assert counts[2][0, 3] == 20 + 10  # to its left, and above it
    assert 20 <= counts[2][0, 0] <= 22  # about the corner one or two more are near enough


def test_ignored_pixels_do_not_count():
    labels = halves()
    labels[:, 40:] = 255
    predicted = halves()
    predicted[:, 50:] = 2
    assert scored([data_sample(labels, predicted=predicted)])['boundary/mODS'] == 1
    maps = np.full((3, *SIZE), -9.0, np.float32)
    maps[:2, :, 29] = 9
    maps[:, :, 45] = 9
    assert scored([data_sample(labels, logits=maps)], source='maps', thresholds=9)['boundary/mODS'] == 1


@pytest.mark.parametrize('num_workers', [0, 2])
def test_maps_and_detectors(num_workers):
    labels = halves()
    kwargs = dict(thresholds=9, num_workers=num_workers)
    maps = np.full((3, *SIZE), -9.0, np.float32)
    maps[0, :, 29] = maps[1, :, 29] = 9
    maps[1, :, 9] = 2.0  # a wrong one of class 1, of less probability
    samples = [data_sample(labels, name, logits=maps) for name in 'abc']
    found = scored(samples, source='maps', **kwargs)
    assert found['boundary/mODS'] == 1
    # the benchmark's area is that of recalls that are reached, here of 1 alone: precisions 1 and 1/2
    assert found['boundary/mAP'] == pytest.approx((0.01 + 0.005) / 2)
    # at the threshold of 0.1 all of it counts: recall 1 and precision 1/2
    counts = count_classes(1 / (1 + np.exp(-maps)), labels, 255, 'a', dict(thresholds=9, max_dist=0.02))
    assert counts[1][0].tolist() == [40, 40, 40, 80]
    assert counts[1][8].tolist() == [40, 40, 40, 40]  # sigmoid(2) is 0.88
    assert 2 not in counts
    detector = np.stack([-maps[0], maps[0]])
    found = scored([data_sample(labels, logits=detector)], source='detector', **kwargs)
    assert found['boundary/ODS'] == 1


def test_what_is_wrong_is_named():
    init_default_scope('mmseg')
    metric = METRICS.build(dict(type='mmdla.SemanticBoundaryMetric', source='maps'))
    with pytest.raises(ValueError, match='a: the data sample lacks gt_sem_seg'):
        metric.process({}, [dict(img_path='a')])
    wrong = data_sample(halves(), logits=np.zeros((3, 20, 30), np.float32))
    with pytest.raises(ValueError, match=r'a: predicted in size \(20, 30\), but gt_sem_seg'):
        metric.process({}, [wrong])
    with pytest.raises(ValueError, match='no label map has a boundary'):
        scored([data_sample(np.zeros(SIZE, np.uint8), predicted=halves())])
    for kwargs, message in (
        (dict(source='edges'), "source='edges' must be one of"),
        (dict(max_dist=2), 'max_dist=2 must be'),
        (dict(num_workers=-1), 'num_workers=-1 must be'),
    ):
        with pytest.raises(ValueError, match=message):
            SemanticBoundaryMetric(**kwargs)
