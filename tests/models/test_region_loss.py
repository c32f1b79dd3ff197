"""AFA's losses: as released, as written down, in half precision, and in mmseg's heads."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg')

from conftest import shared
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdla.models import OneHotBCELoss, RegionMutualInformationLoss

LOSSES = (OneHotBCELoss, RegionMutualInformationLoss)


def data(channels: int = 3, size: tuple[int, int] = (17, 22), dtype=torch.float32):
    """Logits, and labels with an ignored region and an ignored pixel."""
    logits = torch.randn(2, channels, *size, dtype=dtype) * 2
    labels = torch.randint(0, max(channels, 2), (2, *size))
    labels[:, :3] = 255
    labels[0, 9, 5] = 255
    return logits, labels


def close(found, wanted, **kwargs):
    kwargs = kwargs or dict(rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted).double(), **kwargs)


# -- the released code ------------------------------------------------------------------------------


def block_labels(shape: tuple[int, ...], classes: int, seed: int) -> torch.Tensor:
    """As the golden files have them: blocks of 8x8 pixels of one class, the first ignored."""
    n, height, width = shape
    classes = np.random.default_rng(seed).integers(0, classes, (n, height // 8, width // 8))
    labels = np.kron(classes, np.ones((8, 8), int))
    labels[:, :8, :8] = 255
    return torch.from_numpy(labels)


@pytest.mark.parametrize('task', ['segmentation', 'edges'])
def test_released_losses_and_gradients(task):
    golden = json.loads(shared('golden/rmi.json').read_text())[task]
    spec = importlib.util.spec_from_file_location('recipe', shared('golden/recipe.py'))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    shape, classes = golden['logits_shape'], golden['num_classes']
    logits = np.random.default_rng(golden['logits_seed']).standard_normal(shape).astype(np.float32)
    logits = torch.from_numpy(logits).requires_grad_()
    labels = block_labels((shape[0], *shape[2:]), classes, golden['label_seed'])
    if task == 'edges':
        loss = OneHotBCELoss(pos_weight=(1, golden['pos_weight']))(logits, labels)
    else:
        bce = OneHotBCELoss()(logits, labels)
        close(bce, golden['without_rmi'], rtol=1e-6, atol=0)
        loss = 0.5 * bce + RegionMutualInformationLoss(loss_weight=0.5)(logits, labels)
    close(loss, golden['loss'], rtol=1e-6, atol=0)
    loss.backward()
    found, wanted = recipe.summarize(logits.grad.numpy()), np.array(golden['gradient'])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * wanted[1])


# -- written down again -----------------------------------------------------------------------------


def mutual_information(logits, labels, radius=3, pool_size=4, alpha=5e-4) -> torch.Tensor:
    """Of each image, class after class and neighbourhood after neighbourhood, by inverse and det."""
    images = []
    for z, y in zip(logits.double(), labels):
        total = 0.0
        for c in range(len(z)):
            known = (y != 255).double()
            maps = [(y == c).double(), z[c].sigmoid() * known + 1e-6]
            if pool_size > 1:
                maps = [F.avg_pool2d(m[None], pool_size, pool_size, pool_size // 2)[0] for m in maps]
            rows, columns = (n - radius + 1 for n in maps[0].shape)
            t, p = (
                torch.stack([
                    m[i : i + radius, j : j + radius].flatten()
                    for i in range(rows)
                    for j in range(columns)
                ])
                for m in maps
            )  # fmt: skip
            t, p = t - t.mean(0), p - p.mean(0)
            ridge = alpha * torch.eye(radius**2, dtype=t.dtype)
            conditional = t.T @ t - t.T @ p @ torch.inverse(p.T @ p + ridge) @ p.T @ t
            total = total + torch.det(conditional + ridge).log() / (2 * radius**2)
        images.append(total)
    return torch.stack(images)


@pytest.mark.parametrize(
    'arguments', [{}, dict(radius=2), dict(pool_size=1), dict(pool_size=3, alpha=0.1), dict(radius=1)]
)
def test_mutual_information_is_as_written(arguments):
    logits, labels = data()
    wanted = mutual_information(logits, labels, **arguments)
    loss = RegionMutualInformationLoss(**arguments)
    close(loss(logits, labels), wanted.mean())
    close(loss(logits, labels, reduction_override='none'), wanted)
    close(loss(logits, labels, reduction_override='sum'), wanted.sum())
    close(loss(logits, labels, avg_factor=5), wanted.sum() / 5)


@pytest.mark.parametrize('pos_weight', [None, (1.0, 10.0, 0.5)])
def test_one_hot_bce_is_as_written(pos_weight):
    logits, labels = data()
    known = labels != 255
    p, y = logits.double().sigmoid().permute(0, 2, 3, 1)[known], F.one_hot(labels[known], 3)
    each = -(y * p.log() * torch.tensor(pos_weight or (1, 1, 1)) + (1 - y) * (1 - p).log()).sum(1)
    loss = OneHotBCELoss(pos_weight)
    close(loss(logits, labels), each.sum() / (known.sum() + 1))
    close(OneHotBCELoss(pos_weight, False)(logits, labels), each.sum() / labels.numel())
    close(loss(logits, labels, reduction_override='sum'), each.sum())
    close(loss(logits, labels, reduction_override='none')[known], each)
    weight = torch.rand(labels.shape)
    close(loss(logits, labels, weight), (each * weight[known]).sum() / (known.sum() + 1))
    close(loss(logits, labels, weight, avg_factor=3), (each * weight[known]).sum() / 3)


def test_weights_of_0_and_1_of_regions_are_ignored_pixels():
    logits, labels = data()
    weight = (torch.rand(labels.shape) > 0.2).float()
    loss = RegionMutualInformationLoss()
    close(loss(logits, labels, weight), loss(logits, labels.masked_fill(weight == 0, 255)))


def test_one_channel_is_that_of_class_1():
    logits, labels = data(1)
    known = labels != 255
    wanted = F.binary_cross_entropy_with_logits(
        logits[:, 0][known], labels[known].float(), reduction='sum'
    )
    close(OneHotBCELoss(reduction='sum')(logits, labels), wanted)
    first = torch.where(known, 1 - labels, labels)  # what is written down above counts from 0
    close(RegionMutualInformationLoss()(logits, labels), mutual_information(logits, first).mean())


@pytest.mark.parametrize('channels', [1, 2, 3])
@pytest.mark.parametrize('loss', LOSSES)
def test_gradients(loss, channels):
    logits, labels = data(channels, (13, 12), torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss()(x, labels), logits)


# -- what occurs in training ------------------------------------------------------------------------


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


@pytest.mark.parametrize('loss', LOSSES)
def test_nothing_labelled(loss):
    logits = torch.randn(2, 3, 16, 16, requires_grad=True)
    found = loss()(logits, torch.full((2, 16, 16), 255))
    found.backward()
    assert found.isfinite()
    assert not logits.grad.any()


@pytest.mark.parametrize('loss', LOSSES)
def test_half_precision_and_extreme_logits(loss):
    logits, labels = data()
    for dtype in (torch.float16, torch.bfloat16):
        half = logits.to(dtype)
        with torch.autocast('cpu', torch.bfloat16):
            found = loss()(half, labels)
        assert found.dtype == torch.float32
        assert torch.equal(found, loss()(half.float(), labels))
    logits = (1e4 * logits.sign()).requires_grad_()
    found = loss()(logits, labels)
    found.backward()
    assert found.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('loss', LOSSES)
def test_on_a_gpu(loss):
    logits, labels = data(size=(64, 96))
    wanted = loss()(logits.half(), labels)
    with torch.autocast('cuda', torch.float16):
        found = loss().cuda()(logits.half().cuda(), labels.cuda())
    assert found.dtype == torch.float32
    close(found.cpu(), wanted)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_overflow_is_nan_for_the_scaler_to_skip(value):
    logits, labels = data()
    logits[0, 0, 8, 8] = value
    logits.requires_grad_()
    found = RegionMutualInformationLoss()(logits.half(), labels)
    if value == float('inf'):  # its sigmoid is 1
        assert found.isfinite()
    else:
        found.backward()
        assert found.isnan()
        assert logits.grad.isnan().any()


def test_losses_compile():
    logits, labels = data()
    for loss in LOSSES:
        compiled = torch.compile(loss(), backend='eager')
        torch.testing.assert_close(compiled(logits, labels), loss()(logits, labels))


def test_it_is_less_where_regions_are_right():
    labels = torch.zeros(1, 64, 64).long()
    labels[:, 20:50, 10:40] = 1
    right = 8 * (F.one_hot(labels, 2).permute(0, 3, 1, 2).float() - 0.5)
    moved = right.roll(6, 3)
    loss = RegionMutualInformationLoss()
    assert loss(right, labels) < loss(moved, labels) < loss(torch.randn(1, 2, 64, 64), labels)


@pytest.mark.parametrize('channels', [1, 2, 4])
def test_a_step_of_mmseg_s_head(channels):
    """A list of losses with weights, hard pixels sampled, as any head of mmseg has them."""
    init_default_scope('mmseg')
    head = MODELS.build(
        ConfigDict(
            type='FCNHead',
            in_channels=8,
            channels=8,
            num_convs=1,
            num_classes=max(channels, 2),
            out_channels=channels,
            threshold=0.5 if channels == 1 else None,
            sampler=dict(type='OHEMPixelSampler', thresh=0.9, min_kept=900) if channels > 1 else None,
            loss_decode=[
                dict(type='OneHotBCELoss', loss_weight=0.5),
                dict(type='mmdla.RegionMutualInformationLoss', loss_weight=0.5),
            ],
        )
    )
    assert head.loss_decode[0].loss_weight == 0.5
    if channels > 1:
        # mmseg's sampler asks the losses for what is hard only without a threshold
        assert head.sampler.thresh == 0.9
    _, labels = data(channels, (40, 48))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in labels]
    optimizer = torch.optim.SGD(head.parameters(), 0.05)
    features = [torch.randn(2, 8, 20, 24)]
    values = []
    for _ in range(3):
        losses = head.loss(features, samples, None)
        assert {'loss_bce', 'loss_rmi'} <= losses.keys()
        total = losses['loss_bce'] + losses['loss_rmi']
        optimizer.zero_grad()
        total.backward()
        assert not [n for n, p in head.named_parameters() if p.grad is None]
        optimizer.step()
        values.append(total.item())
    assert values[2] < values[0]


# -- mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('loss', 'kwargs', 'message'),
    [
        (OneHotBCELoss, dict(pos_weight=(0, 1)), r'pos_weight=\(0, 1\): must be numbers above 0'),
        (OneHotBCELoss, dict(reduction='max'), "reduction='max': must be one of"),
        (RegionMutualInformationLoss, dict(radius=0), 'radius=0: must be a number of pixels'),
        (RegionMutualInformationLoss, dict(pool_size=2.5), 'pool_size=2.5: must be'),
        (RegionMutualInformationLoss, dict(alpha=0), 'alpha=0: must be above 0'),
    ],
)
def test_bad_arguments_are_named(loss, kwargs, message):
    with pytest.raises(ValueError, match=message):
        loss(**kwargs)


@pytest.mark.parametrize('loss', LOSSES)
def test_what_cannot_be_is_refused(loss):
    logits, labels = data()
    with pytest.raises(ValueError, match=r'from 0 to 3, but cls_score has 3 channels.* from 0 to 2'):
        loss()(logits, labels.masked_fill(labels == 2, 3))
    with pytest.raises(ValueError, match=r'from -1 to'):
        loss()(logits, labels - 1, ignore_index=254)
    with pytest.raises(ValueError, match=r'label of shape \(2, 16, 22\) for cls_score'):
        loss()(logits, labels[:, 1:])
    with pytest.raises(ValueError, match=r'cls_score of shape \(3, 17, 22\)'):
        loss()(logits[0], labels)
    with pytest.raises(ValueError, match="reduction_override='max'"):
        loss()(logits, labels, reduction_override='max')


def test_too_small_and_too_few():
    with pytest.raises(ValueError, match=r'pooled by 4 it is 2x3 pixels, but neighbourhoods have 3x3'):
        RegionMutualInformationLoss()(torch.zeros(1, 3, 7, 9), torch.zeros(1, 7, 9).long())
    with pytest.raises(ValueError, match=r'pos_weight=\(1\.0, 2\.0\): .* each of the 3 channels'):
        OneHotBCELoss((1, 2))(*data())
