"""Boundaries: the losses as they are written down, the head, and augmentations undone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg')

from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmdla.models import (
    BalancedBoundaryLoss,
    BoundaryCrossEntropyLoss,
    BoundaryHead,
    BoundaryTTAModel,
)
from mmdla.utils.predictions import boundary_probability

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LOSSES = (BoundaryCrossEntropyLoss, BalancedBoundaryLoss)


def data(channels: int = 2, scale: int = 1, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels a fifth of which are boundary, with an ignored region."""
    logits = torch.randn(3, channels, 9, 7, dtype=dtype) * 3
    labels = (torch.rand(3, 9, 7) < 0.2).long()
    if scale > 1:
        labels *= torch.randint(20, scale + 1, labels.shape)
    labels[:, :2] = 255
    labels[0, 5, 3] = 255
    return logits, labels


def balanced(logits, labels, negative_weight=1.0) -> tuple[float, float]:
    """HED's sum and the sum of its weights, pixel after pixel."""
    total = weights = 0.0
    for z, y in zip(logits.double(), labels):
        known = y != 255
        share = (y[known] == 0).double().mean()
        p = z.softmax(0)[1] if len(z) == 2 else z[0].sigmoid()
        for p_i, y_i in zip(p[known], y[known]):
            weight = share if y_i == 1 else negative_weight * (1 - share)
            total -= weight * torch.log(p_i if y_i == 1 else 1 - p_i)
            weights += weight
    return total, weights


def close(found, wanted):
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
def test_weighted_cross_entropy_is_that_of_torch(reduction):
    logits, labels = data()
    weight = torch.tensor([1.0, 10.0])
    wanted = F.cross_entropy(logits, labels, weight, ignore_index=255, reduction=reduction)
    close(BoundaryCrossEntropyLoss(reduction=reduction)(logits, labels), wanted)
    close(BoundaryCrossEntropyLoss()(logits, labels, reduction_override=reduction), wanted)


def test_soft_cross_entropy():
    logits, labels = data(scale=100)
    known = labels != 255
    t = labels[known] / 100
    log_p = logits.log_softmax(1).permute(0, 2, 3, 1)[known]
    wanted = -(10 * t * log_p[:, 1] + (1 - t) * log_p[:, 0]).sum() / (10 * t + 1 - t).sum()
    close(BoundaryCrossEntropyLoss(label_scale=100)(logits, labels), wanted)


@pytest.mark.parametrize('negative_weight', [1.0, 1.1])
@pytest.mark.parametrize('channels', [1, 2])
def test_balanced_loss_is_that_of_hed(channels, negative_weight):
    logits, labels = data(channels)
    total, weights = balanced(logits, labels, negative_weight)
    close(BalancedBoundaryLoss(negative_weight, reduction='sum')(logits, labels), total)
    close(BalancedBoundaryLoss(negative_weight)(logits, labels), total / weights)
    each = BalancedBoundaryLoss(negative_weight)(logits, labels, reduction_override='none')
    assert each.shape == labels.shape
    close(each.sum(), total)


def test_balanced_mean_of_an_image_is_half_of_either():
    logits, labels = (x[:1] for x in data(1))
    each = F.binary_cross_entropy_with_logits(logits[:, 0], (labels == 1).float(), reduction='none')
    wanted = (each[labels == 1].mean() + each[labels == 0].mean()) / 2
    close(BalancedBoundaryLoss()(logits, labels), wanted)


@pytest.mark.parametrize('loss', LOSSES)
def test_hard_labels_are_certain_soft_ones(loss):
    logits, labels = data()
    soft = torch.where(labels == 1, 100, labels)
    close(loss(label_scale=100)(logits, soft), loss()(logits, labels))


@pytest.mark.parametrize('scale', [1, 100])
@pytest.mark.parametrize('loss', LOSSES)
def test_one_channel_is_the_difference_of_two(loss, scale):
    logits, labels = data(scale=scale)
    loss = loss(label_scale=scale, loss_weight=0.3)
    close(loss(logits, labels), loss(logits[:, 1:] - logits[:, :1], labels))


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('loss', LOSSES)
def test_gradients(loss, channels):
    logits, labels = data(channels, 100, torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(label_scale=100)(x, labels), logits)


@pytest.mark.parametrize('value', [1e4, float('nan'), float('inf')])
@pytest.mark.parametrize('loss', LOSSES)
def test_ignored_pixels_change_nothing(loss, value):
    logits, labels = data()
    logits.requires_grad_()
    wanted = loss()(logits, labels)
    ignored = (labels == 255).unsqueeze(1)
    changed = logits.detach().masked_fill(ignored, value).requires_grad_()
    found = loss()(changed, labels)
    assert torch.equal(found, wanted)
    (a,) = torch.autograd.grad(wanted, logits)
    (b,) = torch.autograd.grad(found, changed)
    assert torch.equal(a, b)
    assert not b.masked_select(ignored).any()
    other = labels.masked_fill(labels == 255, 254)
    assert torch.equal(loss()(logits, other, ignore_index=254), wanted)


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('loss', LOSSES)
def test_nothing_labelled(loss, reduction):
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    found = loss(reduction=reduction)(logits, torch.full((2, 4, 4), 255))
    found.backward()
    assert found == 0
    assert not logits.grad.any()


def test_images_without_boundaries():
    logits, labels = data()
    labels[labels == 1] = 0
    assert BalancedBoundaryLoss()(logits, labels) == 0, 'as published: no share, no weight'
    assert BalancedBoundaryLoss()(logits, labels.masked_fill(labels == 0, 1)) == 0
    close(
        BoundaryCrossEntropyLoss()(logits, labels),
        F.cross_entropy(logits, labels, ignore_index=255),
    )


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('loss', LOSSES)
def test_extreme_logits_and_half_precision(loss, channels):
    logits, labels = data(channels)
    logits = (1e4 * logits.sign()).requires_grad_()
    found = loss()(logits, labels)
    found.backward()
    assert found.isfinite()
    assert 1e3 < found < 3e4
    assert logits.grad.isfinite().all()
    for dtype in (torch.float16, torch.bfloat16):
        half = (logits.detach() / 1e3).to(dtype)
        with torch.autocast('cpu', torch.bfloat16):
            found = loss()(half, labels)
        assert found.dtype == torch.float32
        assert torch.equal(found, loss()(half.float(), labels))


def test_weights_and_factors_are_as_in_mmseg():
    from mmseg.models.losses import CrossEntropyLoss

    logits, labels = data()
    weight = torch.rand(labels.shape)
    labels[labels == 255] = 0  # with which mmseg's works
    theirs = CrossEntropyLoss(class_weight=[1.0, 10.0], loss_weight=0.5)
    ours = BoundaryCrossEntropyLoss(loss_weight=0.5)
    for kwargs in (dict(), dict(weight=weight), dict(weight=weight, avg_factor=7)):
        wanted = theirs(logits, labels, ignore_index=255, **kwargs)
        torch.testing.assert_close(ours(logits, labels, **kwargs), wanted)
    assert ours.loss_name == 'loss_ce'


def test_losses_compile():
    logits, labels = data()
    for loss in LOSSES:
        compiled = torch.compile(loss(), backend='eager')
        torch.testing.assert_close(compiled(logits, labels), loss()(logits, labels))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(class_weight=[1, 2, 3]), r'class_weight=\[1, 2, 3\]: must be two numbers'),
        (dict(class_weight=[0, 1]), r'class_weight=\[0, 1\]: must be two numbers above 0'),
        (dict(class_weight='edges.npy'), "class_weight='edges.npy'"),
        (dict(label_scale=0), 'label_scale=0: must be'),
        (dict(reduction='max'), "reduction='max': must be one of"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BoundaryCrossEntropyLoss(**kwargs)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r'negative_weight=0: must be above 0'):
        BalancedBoundaryLoss(negative_weight=0)
    logits, labels = data()
    loss = BoundaryCrossEntropyLoss()
    with pytest.raises(ValueError, match=r'from 0 to 60, but label_scale=1: .*need label_scale=100'):
        loss(logits, 60 * (labels == 1))
    with pytest.raises(ValueError, match='from -1 to 0'):
        loss(logits, -(labels == 1).long())
    with pytest.raises(ValueError, match=r'none above 1, but label_scale=100: .*need label_scale=1'):
        BoundaryCrossEntropyLoss(label_scale=100)(logits, labels)
    with pytest.raises(ValueError, match=r'cls_score of shape \(3, 3, 9, 7\)'):
        loss(torch.zeros(3, 3, 9, 7), labels)
    with pytest.raises(ValueError, match=r'label of shape \(3, 8, 7\) for cls_score'):
        loss(logits, labels[:, 1:])
    with pytest.raises(ValueError, match="reduction_override='max'"):
        loss(logits, labels, reduction_override='max')


# The head


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    size = tuple(labels.shape[1:])
    metainfo = dict(img_shape=size, ori_shape=size, pad_shape=size)
    return [SegDataSample(gt_sem_seg=PixelData(data=x[None]), metainfo=metainfo) for x in labels]


@pytest.mark.parametrize('out_channels', [1, 2])
@pytest.mark.parametrize('scale', [1, 100])
def test_head_learns_and_predicts(out_channels, scale, recwarn):
    init_default_scope('mmseg')
    model = MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            backbone=dict(type='mmdla.DLA', arch='46_c', out_indices=(2, 3)),
            decode_head=dict(
                type='mmdla.BoundaryHead',
                in_channels=[64, 64],
                out_channels=out_channels,
                loss_decode=[
                    dict(type='BoundaryCrossEntropyLoss', label_scale=scale),
                    dict(type='mmdla.BalancedBoundaryLoss', label_scale=scale),
                ],
            ),
            test_cfg=dict(mode='whole'),
        )
    )
    assert not [w for w in recwarn if 'binary' in str(w.message)], "mmseg's advice is taken"
    labels = (torch.rand(2, 37, 50) < 0.1).long() * scale
    x = torch.randn(2, 3, 37, 50)
    losses = model.loss(x, samples(labels))
    assert set(losses) == {'decode.loss_ce', 'decode.loss_balanced'}
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    model.eval()
    with torch.no_grad():
        logits = model(x, mode='tensor')
        # half of the pixels on either side
        difference = logits[:, -1] - (logits[:, 0] if out_channels == 2 else 0)
        model.decode_head.conv_seg.bias[-1] -= difference.median()
        full = F.interpolate(model(x, mode='tensor'), (37, 50), mode='bilinear')
        found = model.predict(x, samples(labels))
    wanted = full.softmax(1)[:, 1] if out_channels == 2 else full[:, 0].sigmoid()
    for sample, p in zip(found, wanted):
        torch.testing.assert_close(boundary_probability(sample), p)
        assert torch.equal(sample.pred_sem_seg.data[0].bool(), p > 0.5)
        assert 0 < sample.pred_sem_seg.data.float().mean() < 1


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_classes=19), 'num_classes=19: must be 2'),
        (dict(out_channels=3), 'out_channels=3: must be 2, or 1'),
        (dict(threshold=0.3), 'threshold=0.3: must be 0.5 with out_channels=2'),
    ],
)
def test_head_names_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BoundaryHead([8, 16], **kwargs)


def test_default_is_the_released_loss():
    init_default_scope('mmseg')
    loss = BoundaryHead([8, 16]).loss_decode
    assert (loss.class_weight, loss.label_scale, loss.reduction) == ((1, 10), 1, 'mean')
    assert BoundaryHead([8, 16], out_channels=1, threshold=0.3).threshold == 0.3


# Augmentations


class Colours(BaseDecodeHead):
    """The image's colours are the logits."""

    def __init__(self, out_channels: int, threshold: float | None = None):
        super().__init__(3, 1, num_classes=2, out_channels=out_channels, threshold=threshold)

    def forward(self, inputs):
        return inputs[0][:, : self.out_channels]


class Same(nn.Module):
    def forward(self, x):
        return (x,)


MODELS.register_module(module=Colours, name='BoundaryTestColours')
MODELS.register_module(module=Same, name='BoundaryTestSame')


def colours(out_channels: int, threshold: float | None = None) -> BoundaryTTAModel:
    """A segmentor that only looks at a pixel's colour, with what averages its augmentations."""
    init_default_scope('mmseg')
    tta = Config.fromfile(CONFIGS / '_base_/boundary_runtime.py').tta_model
    return MODELS.build(
        ConfigDict(
            **tta,
            module=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor', mean=[128] * 3, std=[40] * 3, bgr_to_rgb=False
                ),
                backbone=dict(type='BoundaryTestSame'),
                decode_head=dict(
                    type='BoundaryTestColours', out_channels=out_channels, threshold=threshold
                ),
                test_cfg=dict(mode='whole'),
            ),
        )
    ).eval()


def views(image: np.ndarray, scales, turns=(0, 1, 2, 3), flips=(0.0, 1.0), path=None) -> dict:
    """A batch of the views of an image that the runtime's pipeline makes."""
    pipeline = Config.fromfile(CONFIGS / '_base_/boundary_runtime.py').tta_pipeline
    steps = pipeline[1].transforms
    assert [s.scale_factor for s in steps[0]] == [0.5, 1.0, 1.5]
    assert [s.turns for s in steps[1]] == [0, 1, 2, 3]
    assert [s.prob for s in steps[2]] == [0.0, 1.0]
    steps[0] = [dict(steps[0][0], scale_factor=scale) for scale in scales]
    steps[1] = [step for step in steps[1] if step.turns in turns]
    steps[2] = [step for step in steps[2] if step.prob in flips]
    first = dict(pipeline[0], type='InferencerLoader')
    return pseudo_collate([Compose([first, pipeline[1]])(dict(img=image, seg_map_path=path))])


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def plain(image: np.ndarray, out_channels: int) -> torch.Tensor:
    logits = (torch.from_numpy(image).float().permute(2, 0, 1) - 128) / 40
    return logits[:2].softmax(0)[1] if out_channels == 2 else logits[0].sigmoid()


@pytest.mark.parametrize('out_channels', [1, 2])
@pytest.mark.parametrize('size', [(21, 34), (30, 17), (24, 24)])
def test_turns_and_flips_return_to_their_place(size, out_channels):
    image = picture(*size)
    model = colours(out_channels, threshold=0.4 if out_channels == 1 else None)
    with torch.no_grad():
        (merged,) = model.test_step(views(image, [1.0], path='a.mat'))
    wanted = plain(image, out_channels)
    assert merged.seg_logits.data.shape == (1, *size)
    torch.testing.assert_close(boundary_probability(merged), wanted)
    threshold = 0.4 if out_channels == 1 else 0.5
    assert torch.equal(merged.pred_sem_seg.data[0].bool(), boundary_probability(merged) > threshold)
    assert (merged.ori_shape, merged.quarter_turns, merged.seg_map_path) == (size, 0, 'a.mat')
    for turns in range(4):
        # alone they are what they are together, and not the image as it lies
        with torch.no_grad():
            (one,) = model.test_step(views(image, [1.0], turns={0, turns}, flips=[1.0]))
        torch.testing.assert_close(boundary_probability(one), wanted)


def test_mean_over_scales():
    image = picture(22, 34)
    with torch.no_grad():
        (merged,) = colours(2).test_step(views(image, [0.5, 1.0, 1.5], turns=[0], flips=[0.0]))
    total = torch.zeros(22, 34)
    for scale in (0.5, 1.0, 1.5):
        scaled = cv2.resize(image, (int(34 * scale), int(22 * scale)))
        logits = (torch.from_numpy(scaled).float().permute(2, 0, 1)[None] - 128) / 40
        total += F.interpolate(logits[:, :2], (22, 34), mode='bilinear')[0].softmax(0)[1]
    torch.testing.assert_close(boundary_probability(merged), total / 3)


@pytest.mark.parametrize('turn', [1, 2, 3])
def test_equivariance(turn):
    """What is found in the turned image is what is found, turned: all turns see the same views."""
    image = picture(21, 34)
    model = colours(2)
    with torch.no_grad():
        (found,) = model.test_step(views(image, [0.5, 1.0, 1.5]))
        (turned,) = model.test_step(views(np.rot90(image, turn).copy(), [0.5, 1.0, 1.5]))
    assert turned.seg_logits.data.shape[1:] == np.rot90(image, turn).shape[:2]
    difference = torch.rot90(boundary_probability(found), turn) - boundary_probability(turned)
    # images are resized in 8 bit, which rounds
    assert difference.abs().max() < 0.02


def test_wrong_views_are_named():
    model = colours(2)
    with torch.no_grad():
        with pytest.raises(ValueError, match=r'quarter_turns=\[1, 2\]: one augmentation must be of'):
            model.test_step(views(picture(9, 9), [1.0], turns=[1, 2]))
        batch = views(picture(9, 12), [1.0], turns=[0, 1])
        for samples in batch['data_samples']:
            samples[0].set_field(0, 'quarter_turns', field_type='metainfo')
        with pytest.raises(ValueError, match=r"of sizes \[\(9, 12\), \(12, 9\)\].*'quarter_turns' in"):
            model.test_step(batch)


# Training


@pytest.mark.e2e
def test_training_learns_boundaries(tmp_path):
    """Squares on a ground, in bfloat16: after few iterations their outlines are found."""
    from mmseg.registry import DATASETS

    from mmdla.engine.platform import adapt_to_platform, enable_amp

    init_default_scope('mmseg')
    rng = np.random.default_rng(0)
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    for i in range(8):
        image = np.full((48, 64, 3), rng.integers(0, 90), np.uint8)
        y, x = rng.integers(6, 20, 2)
        image[y : y + 20, x : x + 24] = rng.integers(160, 250, 3)
        label = np.zeros((48, 64), np.uint8)
        cv2.rectangle(label, (int(x), int(y)), (int(x) + 23, int(y) + 19), 1, 1)
        label[:2] = 255
        noise = rng.integers(-9, 9, image.shape)
        cv2.imwrite(str(tmp_path / f'images/{i}.png'), np.clip(image + noise, 0, 255).astype(np.uint8))
        cv2.imwrite(str(tmp_path / f'labels/{i}.png'), label)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        metainfo=dict(classes=('background', 'boundary'), palette=[[0] * 3, [255] * 3]),
        pipeline=pipeline,
    )
    cfg = Config.fromfile(CONFIGS / '_base_/models/dla34_boundary.py')
    cfg.merge_from_dict(
        dict(
            default_scope='mmseg',
            work_dir=str(tmp_path / 'work'),
            launcher='none',
            log_level='ERROR',
            model=dict(
                backbone=dict(arch='46_c', out_indices=(1, 2, 3)),
                decode_head=dict(in_channels=[32, 64, 64]),
            ),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dataset,
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=30),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3)),
            default_hooks=dict(checkpoint=None),
            randomness=dict(seed=0),
        )
    )
    enable_amp(cfg.optim_wrapper)
    adapt_to_platform(cfg)
    runner = Runner.from_cfg(cfg)
    model = runner.train()
    data_set = DATASETS.build(dataset)
    model.eval()
    on, off = [], []
    for i in range(len(data_set)):
        with torch.no_grad():
            (sample,) = model.test_step(pseudo_collate([data_set[i]]))
        p, y = boundary_probability(sample), sample.gt_sem_seg.data[0].to('cpu')
        p = p.cpu()
        on.append(p[y == 1].mean())
        off.append(p[y == 0].mean())
    assert torch.stack(on).mean() > torch.stack(off).mean() + 0.3
