"""Boundary detection with side outputs: by hand, trained a step, predicted, augmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg')

from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdla.apis import BoundaryInferencer
from mmdla.engine.config import build_model
from mmdla.models import BalancedBoundaryLoss, IDAUp, SideOutputHead
from mmdla.utils.predictions import boundary_probability

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SETTINGS = [
    'boundaries/dla34-sides_bsds500',
    'small_compute/dla34-sides_bsds500-small',
    'small_compute/afa-dla34-sides_bsds500-small',
]


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    size = tuple(labels.shape[1:])
    metainfo = dict(img_shape=size, ori_shape=size, pad_shape=size)
    return [SegDataSample(gt_sem_seg=PixelData(data=x[None]), metainfo=metainfo) for x in labels]


def by_hand(**kwargs) -> tuple[SideOutputHead, list[torch.Tensor]]:
    """A head of known weights, and a row of the finest stride and one of twice that."""
    head = SideOutputHead([1, 2], [1, 2], **kwargs).eval()
    with torch.no_grad():
        head.sides[0].weight.fill_(2)
        head.sides[0].bias.fill_(1)
        head.sides[1].weight[:] = torch.tensor([1.0, -1.0])[None, :, None, None]
        head.sides[1].bias.fill_(0)
        head.conv_seg.weight[:] = torch.tensor([0.5, 0.25])[None, :, None, None]
        head.conv_seg.bias.fill_(-1)
    fine = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    coarse = torch.tensor([[[[5.0, 9.0]], [[1.0, 1.0]]]])
    return head, [fine, coarse]


# 2 x + 1; and 4, 8 interpolated to 4, 5, 7, 8, of which the last is cut off
SIDES = [[1.0, 3.0, 5.0], [4.0, 5.0, 7.0]]
FUSE = [0.5 + 1 - 1, 1.5 + 1.25 - 1, 2.5 + 1.75 - 1]


def test_worked_by_hand():
    head, maps = by_hand()
    torch.testing.assert_close(head.side_outputs(maps)[0, :, 0], torch.tensor([FUSE, *SIDES]))
    torch.testing.assert_close(head(maps)[0, 0, 0], torch.tensor(FUSE))
    average, _ = by_hand(prediction='average')
    wanted = torch.tensor([FUSE, *SIDES]).sigmoid().mean(0)
    torch.testing.assert_close(average(maps)[0, 0, 0].sigmoid(), wanted)
    # Logits far beyond where a sigmoid in float32 is 1 stay finite and in order.
    far = [100 * x for x in maps]
    assert average(far).isfinite().all()
    assert (average(far).diff() > 0).all()


@pytest.mark.parametrize('side_weight', [0.5, [0.25, 2.0]])
def test_losses_by_hand(side_weight):
    init_default_scope('mmseg')
    head, maps = by_hand(side_weight=side_weight, fuse_weight=3.0)
    labels = torch.tensor([[[1, 0, 255]]])
    losses = head.loss(maps, samples(labels))
    loss = BalancedBoundaryLoss()
    weights = [3.0] + ([0.5, 0.5] if side_weight == 0.5 else side_weight)
    names = ['fuse.loss_balanced', 'side_0.loss_balanced', 'side_1.loss_balanced']
    assert list(losses) == names
    for name, weight, row in zip(names, weights, [FUSE, *SIDES]):
        z = torch.tensor(row)
        # one boundary pixel and one other, each of half the weight
        wanted = weight * (F.softplus(-z[0]) + F.softplus(z[1])) / 2
        torch.testing.assert_close(losses[name], wanted)
        torch.testing.assert_close(losses[name], weight * loss(z[None, None, None], labels))


def test_initialization_is_that_of_rcf():
    torch.manual_seed(0)
    head = SideOutputHead([256, 128], [4, 2])
    head.init_weights()
    assert head.conv_seg.weight.flatten().tolist() == [0.5, 0.5]
    assert head.sides[0].weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not any(conv.bias.any() for conv in (*head.sides, head.conv_seg))


def test_maps_of_odd_sizes_do_not_move():
    """A pixel of the coarse map lies where it is in the image, whatever the image's size."""
    head = SideOutputHead([1, 1], [2, 16]).eval()
    with torch.no_grad():
        for conv in head.sides:
            conv.weight.fill_(1), conv.bias.fill_(0)
    for width in range(289, 322, 3):
        coarse = torch.zeros(1, 1, 2, -(-width // 16))
        coarse[..., 17] = 1
        found = head._forward_feature([torch.zeros(1, 1, 10, -(-width // 2)), coarse])[0, 1, 4]
        middle = (found * torch.arange(len(found))).sum() / found.sum()
        if width > 296:  # beyond which the whole of it is in the image
            assert abs(middle - (17 * 8 + 3.5)) < 2, width


@pytest.mark.parametrize('name', SETTINGS)
def test_configs_train_and_predict(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    x, labels = torch.randn(2, 3, 61, 83), (torch.rand(2, 61, 83) < 0.1).long()
    labels[:, :4] = 255
    optimizer = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='Adam')))
    totals = []
    for _ in range(3):
        total = sum(model.loss(x, samples(labels)).values())
        totals.append(float(total))
        optimizer.zero_grad()
        total.backward()
        missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # Before a norm, or of a depth that is not reached, none is exactly 0 in the first step.
        assert not missing, missing
        optimizer.step()
    number = 1 + len(model.decode_head.sides)
    assert len(model.loss(x, samples(labels))) == number
    assert totals[-1] < totals[0]
    model.eval()
    with torch.no_grad():
        (first, _) = model.predict(x, samples(labels))
        logits = F.interpolate(model(x, mode='tensor'), (61, 83), mode='bilinear')
    torch.testing.assert_close(boundary_probability(first), logits[0, 0].sigmoid())


@pytest.mark.parametrize('prediction', ['fuse', 'average'])
def test_windows_augmentations_and_inferencer(prediction, tmp_path):
    cfg = Config.fromfile(CONFIGS / 'boundaries/dla34-sides_bsds500.py')
    cfg.model.backbone.update(arch='46_c', out_indices=(2, 3, 4))
    cfg.model.neck.in_channels = [64, 64, 128]
    cfg.model.decode_head.update(in_channels=[64, 64], strides=[8, 4], prediction=prediction)
    model = build_model(cfg)
    model.init_weights()
    torch.nn.init.normal_(model.decode_head.sides[1].weight, std=0.2)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    image = np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)
    found = {}
    for tta in (False, True):
        inferencer = BoundaryInferencer(cfg, str(tmp_path / 'a.pth'), tta=tta, device='cpu')
        found[tta] = inferencer(image)['predictions']
        assert found[tta].shape == (61, 83)
        assert found[tta].std() > 0.01
    assert np.abs(found[True] - found[False]).max() > 0.01
    turned = inferencer(np.rot90(image).copy())['predictions']
    assert np.abs(np.rot90(found[True]) - turned).max() < 0.05
    cfg.model.test_cfg = dict(mode='slide', crop_size=(48, 48), stride=(32, 32))
    windows = BoundaryInferencer(cfg, str(tmp_path / 'a.pth'), device='cpu')(image)['predictions']
    assert windows.shape == (61, 83)
    assert 0.5 < np.corrcoef(windows.ravel(), found[False].ravel())[0, 1] < 0.9999


def test_neck_returns_every_step():
    maps = [torch.rand(1, c, *s) for c, s in zip((8, 16, 32), ((25, 31), (13, 16), (7, 8)))]
    torch.manual_seed(0)
    neck = IDAUp([8, 16, 32], all_steps=True).eval()
    last = IDAUp([8, 16, 32]).eval()
    last.load_state_dict(neck.state_dict())
    found = neck(maps)
    assert [tuple(x.shape) for x in found] == [(1, 16, 13, 16), (1, 8, 25, 31)]
    assert neck.out_channels == (16, 8)
    assert torch.equal(found[-1], last(maps)[0])
    with pytest.raises(ValueError, match="all_steps=True: variant='single' has no steps"):
        IDAUp([8, 16], variant='single', all_steps=True)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(strides=[2]), r'strides=\(2,\): must be 2, one for each of in_channels'),
        (dict(strides=[3, 2]), r'strides=\(3, 2\): .* multiples of the smallest'),
        (dict(prediction='mean'), "prediction='mean': must be 'fuse' or 'average'"),
        (dict(side_weight=[1.0]), r'side_weight=\[1.0\]: must be a number, 0 or more, or 2'),
        (dict(side_weight=-1), 'side_weight=-1: must be a number, 0 or more'),
        (dict(fuse_weight=-1), 'fuse_weight=-1: must be 0 or more'),
        (dict(num_classes=3), 'num_classes=3: must be 2'),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SideOutputHead(**dict(in_channels=[8, 16], strides=[2, 4]) | kwargs)


def test_a_segmentor_that_drops_side_outputs_is_refused():
    init_default_scope('mmseg')
    model = MODELS.build(
        ConfigDict(
            type='mmdla.MultiScaleSegmentor',
            backbone=dict(type='mmdla.DLA', arch='46_c', out_indices=(2, 3)),
            decode_head=dict(type='mmdla.SideOutputHead', in_channels=[64, 64], strides=[4, 8]),
            test_cfg=dict(mode='whole'),
        )
    )
    with pytest.raises(ValueError, match=r'must have 1 \+ 2 channels, .* train this head in an Enc'):
        model.loss(torch.randn(1, 3, 32, 32), samples(torch.zeros(1, 32, 32).long()))
