"""Localization: both rules for boxes, the metric by hand, and thresholds chosen on validation data."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
from mmengine.model import BaseModel
from mmengine.registry import LOOPS, METRICS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from mmdla.evaluation.localization import (
    LocalizationMetric,
    box_iou,
    contour_boxes,
    dominant_box,
)


def two_classes(p) -> torch.Tensor:
    """Logits whose softmax is p for class 0 and 1 - p for class 1."""
    p = torch.tensor(p, dtype=torch.float64)
    return torch.stack([p, 1 - p]).log().float()


def row(p, box=(0, 0, 20, 10), label=0, scores=(0.9, 0.1), **kwargs) -> dict:
    """Data sample of an image 100 wide and 10 high: ten cells of 10x10, p of class 0 in each."""
    return dict(
        class_maps=two_classes([list(p) + [0.1] * (10 - len(p))]),
        pred_score=torch.tensor(scores),
        gt_label=torch.tensor([label]),
        gt_bboxes=np.array(box, np.float32).reshape(-1, 4),
        img_shape=(10, 100),
        **kwargs,
    )


def evaluate(samples, **kwargs) -> dict:
    metric = LocalizationMetric(**{'topk': (1, 2), **kwargs})
    metric.process(None, samples)
    return {k.removeprefix('localization/'): v for k, v in metric.evaluate(len(samples)).items()}


# -- the overlap of boxes -------------------------------------------------------------------------


def test_iou_by_hand():
    boxes = [[0, 0, 2, 1], [0, 0, 0, 0], [5, 5, 6, 6]]
    others = [[0, 0, 1, 1], [1, 0, 3, 1], [7, 7, 8, 8], [0, 0, 0, 0]]
    expected = [[0.5, 1 / 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(box_iou(np.array(boxes), np.array(others)), expected)


# -- DRN's rule -----------------------------------------------------------------------------------


def test_dominant_box_by_hand():
    """Six cells of 20x20: class 0 wins four of them, one by its lower number."""
    maps = two_classes([[0.4, 0.9, 0.2], [0.3, 0.5, 0.8]])
    assert dominant_box(maps, 0, (0, 0.5, 0.7, 0.85, 0.95), (40, 60)).tolist() == [
        [20, 0, 60, 40],  # 0.9, 0.5 and 0.8
        [20, 0, 60, 40],
        [20, 0, 60, 40],
        [20, 0, 40, 20],  # 0.9
        [0, 0, 0, 0],
    ]
    assert dominant_box(maps, 1, (0, 0.65, 0.75), (40, 60)).tolist() == [
        [0, 0, 60, 40],  # 0.6, 0.7 and 0.8
        [0, 0, 60, 40],  # 0.7 and 0.8
        [40, 0, 60, 20],  # 0.8
    ]


def test_a_response_equal_to_the_threshold_does_not_exceed_it():
    for classes in (2, 5, 10):
        maps = torch.zeros(classes, 1, 1)
        below, at = dominant_box(maps, 0, (1 / classes - 0.01, 1 / classes), (4, 4))
        assert below.tolist() == [0, 0, 4, 4]
        assert not at.any()
        assert not dominant_box(maps, 1, (0,), (4, 4)).any(), 'the lower label wins'


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_dominant_box_is_the_paper_s_for_every_threshold(dtype):
    maps = torch.randn(4, 5, 7).to(dtype)
    maps[:, 2, 3] = 1.5  # a tie
    thresholds = [k / 50 for k in range(50)]
    response = maps.double().softmax(0)
    for label in range(4):
        found = dominant_box(maps, label, thresholds, (33, 50))
        for t, box in zip(thresholds, found, strict=True):
            cells = [
                (i, j)
                for i in range(5)
                for j in range(7)
                if int(response[:, i, j].argmax()) == label and response[label, i, j] > t
            ]
            expected = [0] * 4
            if cells:
                rows, columns = zip(*cells, strict=True)
                expected = [
                    min(columns) * 50 / 7,
                    min(rows) * 33 / 5,
                    (max(columns) + 1) * 50 / 7,
                    (max(rows) + 1) * 33 / 5,
                ]
            np.testing.assert_allclose(box, expected, rtol=1e-12)


# -- wsolevaluation's rule ------------------------------------------------------------------------


def inclusive_reference(class_map, thresholds, size):
    """The rule taken at its word: each threshold on its own, corners that count as pixels.

    Returns for each threshold all boxes and their contours' areas.
    """
    height, width = size
    heat = cv2.resize(class_map.astype(np.float64), (width, height), interpolation=cv2.INTER_CUBIC)
    heat = heat - heat.min()
    heat = heat / heat.max()
    grey = np.uint8(heat * 255)
    out = []
    for t in thresholds:
        _, binary = cv2.threshold(grey, int(t * grey.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        boxes = []
        for contour in contours:
            x, y, w, h = cv2.boundingRect(contour)
            boxes.append(
                ((x, y, min(x + w, width - 1), min(y + h, height - 1)), cv2.contourArea(contour))
            )
        out.append(boxes)
    return out


def inclusive_iou(a, b) -> float:
    """Overlap of two boxes whose last row and column belong to them, by counting pixels."""
    pixels = [
        {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)} for x0, y0, x1, y1 in (a, b)
    ]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


@pytest.mark.parametrize('size', [(24, 24), (31, 23)])
def test_contour_boxes_overlap_as_wsolevaluation_s_do(size):
    rng = np.random.default_rng(1)
    truth = (5, 3, 15, 20)
    several = 0
    for _ in range(4):
        class_map = rng.normal(size=(6, 5))
        thresholds = [k / 1000 for k in range(0, 1000, 7)]
        found = contour_boxes(torch.from_numpy(class_map), thresholds, size)
        for boxes, reference in zip(
            found, inclusive_reference(class_map, thresholds, size), strict=True
        ):
            assert len(boxes) == len(reference)
            several += len(boxes) > 1
            ious = box_iou(boxes, np.array([[5, 3, 16, 21]]))[:, 0]
            expected = [inclusive_iou(box, truth) for box, _ in reference]
            assert sorted(ious) == sorted(expected)
            largest = max(range(len(reference)), key=lambda i: reference[i][1])
            assert ious[0] == expected[largest]
    assert several > 50


def test_contour_boxes_by_hand():
    class_map = np.full((10, 12), -2.0)
    class_map[1:3, 1:3] = 6  # level 255
    class_map[5:9, 4:9] = 2  # level 127
    low, high, top = contour_boxes(class_map, (0.2, 0.5, 0.999), (10, 12))
    assert low.tolist() == [[4, 5, 10, 10], [1, 1, 4, 4]], 'a pixel past x + width and y + height'
    assert high.tolist() == top.tolist() == [[1, 1, 4, 4]], '127 is not above 127'
    class_map[:] = 0
    class_map[:, 10:] = 1
    assert contour_boxes(class_map, (0,), (10, 12))[0].tolist() == [[10, 0, 12, 10]], 'inside the image'


@pytest.mark.parametrize('value', [0.0, 0.1, -3e5])
def test_a_constant_map_has_no_box(value):
    for size in ((9, 14), (1, 1)):
        boxes = contour_boxes(np.full((3, 5), value), (0, 0.5), size)
        assert [b.shape for b in boxes] == [(0, 4)] * 2
    assert contour_boxes(np.eye(3), (0,), (1, 1))[0].shape == (0, 4), 'constant once resized'


def test_scale_offset_and_precision_of_a_map_do_not_matter():
    class_map = torch.randint(0, 8, (6, 6)).float()
    thresholds = [k / 20 for k in range(20)]
    expected = contour_boxes(class_map, thresholds, (24, 24))
    for other in (class_map.bfloat16(), class_map.half(), 4 * class_map - 64):
        for a, b in zip(expected, contour_boxes(other, thresholds, (24, 24)), strict=True):
            assert a.tolist() == b.tolist()


# -- the metric -----------------------------------------------------------------------------------

# Cells above 0.55: the first two; below it: the first six.
STEPS = (0.9, 0.9, 0.55, 0.55, 0.55, 0.55)


def test_metrics_by_hand():
    samples = [
        row(STEPS, (0, 0, 20, 10)),  # right above 0.55; IoU 1/3 below
        row(STEPS, (0, 0, 20, 10), scores=(0.1, 0.9)),  # the same, its class second
        row(STEPS, (0, 0, 60, 10)),  # right below 0.55; IoU 1/3 above
        row((0.1,), (0, 0, 60, 10)),  # class 0 wins nowhere
    ]
    results = evaluate(samples, thresholds=(0.3, 0.54, 0.56, 0.7, 0.95))
    assert results == pytest.approx(
        dict(
            threshold=0.56,
            gt_known=50,
            top1_error=75,
            top2_error=50,
            MaxBoxAcc=50,
            MaxBoxAccV2=(75 + 50 + 50) / 3,
            thresholdV2_30=0.3,
            thresholdV2_50=0.56,
            thresholdV2_70=0.56,
        )
    )


def test_the_best_threshold_is_the_data_set_s_and_no_image_s():
    """Each image is right at some threshold, never both at one; the lowest of equal ones is taken."""
    samples = [row(STEPS, (0, 0, 20, 10)), row(STEPS, (0, 0, 60, 10))]
    for sample in samples:
        assert evaluate([sample])['MaxBoxAcc'] == 100
    results = evaluate(samples)
    assert results['MaxBoxAcc'] == results['gt_known'] == 50
    assert results['top1_error'] == 50
    assert results['threshold'] == 0


def test_any_true_box_will_do_and_half_an_overlap_is_enough():
    several = ((50, 0, 100, 10), (0, 0, 30, 10))
    assert evaluate([row((0.9, 0.9), several)])['gt_known'] == 100
    assert evaluate([row((0.9, 0.9), several[:1])])['gt_known'] == 0
    assert evaluate([row((0.9, 0.9), (0, 0, 40, 10))])['gt_known'] == 100, 'exactly 0.5'
    assert evaluate([row((0.9, 0.9), (0, 0, 41, 10))])['gt_known'] == 0


def test_ranks_of_equal_scores_are_those_of_the_labels():
    errors = []
    for label in range(3):
        sample = row((0.1,), label=label, scores=(0.4, 0.4, 0.4))
        sample['class_maps'] = torch.eye(3)[label][:, None, None].expand(3, 1, 10) * 9
        sample['gt_bboxes'] = torch.tensor([[0, 0, 100, 10.0]])
        results = evaluate([sample], topk=(1, 2, 3))
        errors.append([results[f'top{k}_error'] for k in (1, 2, 3)])
    assert errors == [[0, 0, 0], [100, 0, 0], [100, 100, 0]]


def test_the_largest_contour_counts_and_for_v2_any():
    maps = torch.zeros(2, 20, 20)
    maps[0, 2:12, 2:12] = 1
    maps[0, 14:18, 14:18] = 1
    sample = dict(
        class_maps=maps,
        pred_score=torch.tensor([0.8, 0.2]),
        gt_label=torch.tensor([0]),
        gt_bboxes=torch.tensor([[14.0, 14, 18, 18]]),
        img_shape=(20, 20),
    )
    results = evaluate([sample], rule='contour', thresholds=4)
    assert results['MaxBoxAcc'] == results['gt_known'] == 0
    assert results['MaxBoxAccV2'] == pytest.approx(200 / 3), '16 of 25 pixels: right at 0.3 and 0.5'
    sample['gt_bboxes'] = torch.tensor([[2.0, 2, 12, 12]])
    assert evaluate([sample], rule='contour', thresholds=4)['gt_known'] == 100


def test_thresholds_from_other_data():
    samples = [row(STEPS, (0, 0, 20, 10)), row(STEPS, (0, 0, 20, 10)), row(STEPS, (0, 0, 60, 10))]
    results = evaluate(samples, threshold=0.123)
    assert results['threshold'] == 0.123
    assert results['gt_known'] == pytest.approx(100 / 3)
    assert results['top1_error'] == pytest.approx(200 / 3)
    assert results['MaxBoxAcc'] == pytest.approx(200 / 3), "still at these data's best"
    assert 'BoxAccV2' not in results
    given = dict(threshold=0.7, thresholdV2_30=0.99, thresholdV2_50=0.1, thresholdV2_70=0.7)
    results = evaluate(samples, threshold=given)
    assert {k: results[k] for k in given} == given
    assert results['gt_known'] == pytest.approx(200 / 3)
    assert results['BoxAccV2'] == pytest.approx((0 + 100 / 3 + 200 / 3) / 3)
    assert results['MaxBoxAccV2'] == pytest.approx((100 + 200 / 3 + 200 / 3) / 3)


def test_mixed_precision_and_arrays_are_taken():
    sample = row(STEPS, (0, 0, 20, 10))
    expected = evaluate([sample])
    other = {**sample, 'class_maps': sample['class_maps'].bfloat16()}
    other['pred_score'] = sample['pred_score'].bfloat16()
    assert evaluate([other])['gt_known'] == expected['gt_known']
    assert evaluate([{k: np.asarray(v) for k, v in sample.items()}]) == expected
    results = evaluate([DataSample(**sample).to_dict()])
    assert results == expected


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(gt_bboxes=None), r"lacks \['gt_bboxes'\].*algorithm_keys"),
        (dict(class_maps=None), r"lacks \['class_maps'\]"),
        (dict(gt_bboxes=torch.zeros(0, 4)), "gt_bboxes is empty.*no_boxes='miss'"),
        (dict(gt_bboxes=torch.tensor([[3.0, 0, 3, 5]])), 'x0 < x1'),
        (dict(gt_bboxes=torch.tensor([3.0, 0, 3, 5])), 'must be rows'),
        (dict(gt_label=torch.tensor([0, 1])), r'gt_label=\[0, 1\] must be one label'),
        (dict(gt_label=torch.tensor([2])), r'gt_label=\[2\] .* from 0 to 1'),
        (dict(class_maps=torch.zeros(3, 1, 10)), r'class_maps \(3, 1, 10\) and pred_score \(2,\)'),
        (dict(class_maps=torch.full((2, 1, 10), torch.nan)), 'class_maps must be finite'),
        (dict(pred_score=torch.tensor([torch.inf, 0])), 'pred_score must be finite'),
    ],
)
def test_bad_samples_are_named(change, message):
    metric = LocalizationMetric(topk=(1, 2))
    with pytest.raises(ValueError, match=rf'{message}.*\(img_path: cat.jpg\)'):
        metric.process(None, [{**row(STEPS), 'img_path': 'cat.jpg', **change}])


def test_images_without_a_box_may_count_as_wrong():
    samples = [row(STEPS), {**row(STEPS), 'gt_bboxes': np.zeros((0, 4))}]
    assert evaluate(samples, no_boxes='miss')['gt_known'] == 50


def test_padded_images_are_refused():
    metric = LocalizationMetric(topk=(1,))
    batch = dict(inputs=[torch.zeros(3, 10, 100), torch.zeros(3, 10, 90)])
    with pytest.raises(ValueError, match=r'sizes \[\(10, 90\), \(10, 100\)\].*batch_size=1'):
        metric.process(batch, [row(STEPS), row(STEPS)])
    with pytest.raises(
        ValueError, match=r'img_shape=\(10, 100\) must be the size of the input, \(10, 90\)'
    ):
        metric.process(dict(inputs=batch['inputs'][1:]), [row(STEPS)])
    metric.process(dict(inputs=batch['inputs'][:1]), [row(STEPS)])
    assert len(metric.results) == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(rule='cam'), "rule='cam' must be one of"),
        (dict(no_boxes='skip'), "no_boxes='skip' must be one of"),
        (dict(thresholds=0), 'thresholds=0 must be 1 or more'),
        (dict(thresholds=()), 'must not be empty'),
        (dict(thresholds=(0.5, 1)), 'thresholds: 1 must be a number with 0 <= x < 1'),
        (dict(iou_thrs=(50,)), 'iou_thrs: 50 must be a number with 0 < x <= 1'),
        (dict(topk=(0,)), r'topk=\(0,\) must be positive'),
        (dict(threshold=1.5), 'threshold: 1.5 must be'),
        (dict(threshold=dict(threshold=0.2, thresholdV2_30=0.1)), 'must be a number or have the keys'),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalizationMetric(**arguments)


def test_too_few_classes_and_no_images():
    with pytest.raises(ValueError, match=r'topk=\(1, 5\): must not exceed the 2 classes'):
        evaluate([row(STEPS)], topk=(1, 5))
    with pytest.raises(ValueError, match='no image'):
        LocalizationMetric().compute_metrics([])


def test_it_is_registered():
    init_default_scope('mmpretrain')
    for name in ('LocalizationMetric', 'mmdla.LocalizationMetric'):
        assert METRICS.build(dict(type=name, rule='contour')).prefix == 'localization'
    assert LOOPS.get('mmdla.ValThenTestLoop') is LOOPS.get('ValThenTestLoop')


# -- thresholds chosen on validation data, in the runner ------------------------------------------


class Echo(BaseModel):
    """Says what its input says: the input is an image, whose maps and scores come with the sample."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert mode == 'predict'
        assert not self.training
        assert not torch.is_grad_enabled()
        return data_samples


class Rows(torch.utils.data.Dataset):
    metainfo = dict(classes=('thing', 'rest'))

    def __init__(self, boxes):
        self.boxes = boxes

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, i):
        sample = DataSample(**row(STEPS, (0, 0, self.boxes[i], 10)))
        return dict(inputs=torch.zeros(3, 10, 100), data_samples=sample)


def runner(tmp_path, val=(20, 20, 60), test=(20, 60, 60, 60), **changes) -> Runner:
    def loader(boxes):
        return dict(
            dataset=Rows(boxes),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        )

    evaluators = [dict(type='LocalizationMetric', topk=(1,), thresholds=10)]
    settings = dict(
        val_dataloader=loader(val),
        val_cfg=dict(),
        val_evaluator=evaluators,
        test_dataloader=loader(test),
        test_cfg=dict(type='mmdla.ValThenTestLoop'),
        test_evaluator=evaluators,
    )
    settings.update(changes)
    return Runner(
        Echo(), str(tmp_path), default_scope='mmpretrain', experiment_name=tmp_path.name, **settings
    )


def test_thresholds_are_chosen_on_validation_data(tmp_path):
    """Two of three validation images are right from 0.6 on, three of four test images below."""
    results = runner(tmp_path).test()
    assert results['localization/threshold'] == 0.6
    assert results['localization/gt_known'] == results['localization/BoxAccV2'] - 25 == 25
    assert results['localization/top1_error'] == 75
    assert results['localization/MaxBoxAcc'] == 75
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'localization: chosen on 3 validation images: threshold 0.6, thresholdV2_30 0' in log
    plain = runner(tmp_path / 'plain', test_cfg=dict()).test()
    assert plain['localization/threshold'] == 0
    assert plain['localization/gt_known'] == 75


def test_several_metrics_are_told_apart_by_prefix(tmp_path):
    evaluators = [
        dict(type='LocalizationMetric', topk=(1,), rule=rule, prefix=rule)
        for rule in ('dominant', 'contour')
    ]
    evaluators.append(dict(type='Accuracy'))
    results = runner(tmp_path, val_evaluator=evaluators, test_evaluator=evaluators[::-1]).test()
    assert results['dominant/threshold'] == 0.56
    assert results['contour/threshold'] != results['dominant/threshold']
    assert results['accuracy/top1'] == 100


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(val_dataloader=None, val_cfg=None, val_evaluator=None), 'needs val_cfg, val_dataloader'),
        (dict(val_evaluator=dict(type='Accuracy')), 'val_evaluator needs a LocalizationMetric'),
        (dict(test_evaluator=dict(type='Accuracy')), 'test_evaluator needs a LocalizationMetric'),
        (dict(test_evaluator=dict(type='LocalizationMetric', threshold=0.2)), 'must be left out'),
        (dict(test_evaluator=dict(type='LocalizationMetric', rule='contour')), 'the same prefixes'),
    ],
)
def test_what_cannot_be_chosen_is_said(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runner(tmp_path, **changes).test()
