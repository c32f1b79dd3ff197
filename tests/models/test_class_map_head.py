"""Class maps: the released ones, of any classifier of average pooling and a linear layer, trainable."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('mmpretrain')

from conftest import ROOT, random_norms
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from mmdla.engine.config import build_model
from mmdla.models.heads import ClassMapHead, with_class_maps


def classifier(
    backbone: dict, channels: int, head: str = 'LinearClsHead', neck=True, classes: int = 10
):
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling') if neck else None,
            head=dict(type=head, num_classes=classes, in_channels=channels, topk=(1,)),
        )
    )


BACKBONES = [
    (dict(type='mmdla.DRN', arch='c_26', out_indices=(8,)), 512),
    (dict(type='mmdla.DLA', arch='46_c'), 256),
    (dict(type='mmdla.DLA', arch='46_c', output_stride=8), 256),
    (dict(type='ResNet', depth=18), 512),
]


@pytest.mark.parametrize('arch', ['c_26', 'd_22', 'd_54'])
def test_golden(arch, golden):
    gold = golden(f'drn_{arch}')
    model = build_model(Config.fromfile(ROOT / f'configs/drn/drn_{arch}_imagenet.py'))
    model.load_state_dict(gold.state_dict(), strict=True)
    with torch.no_grad():
        (sample,) = with_class_maps(model.eval()).predict(gold.input())
    gold.check('class_map', sample.class_maps[None])


@pytest.mark.parametrize(('backbone', 'channels'), BACKBONES)
def test_the_mean_of_a_map_is_the_score(backbone, channels):
    model = random_norms(classifier(backbone, channels))
    x = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        wanted = model.predict(x)
        found = with_class_maps(model).predict(x)
        level = model.backbone(x)[-1]
    for before, after in zip(wanted, found):
        assert 'class_maps' not in before
        torch.testing.assert_close(after.pred_score, before.pred_score)
        assert torch.equal(after.pred_label, before.pred_label)
        assert after.class_maps.shape == (10, *level.shape[2:])
        torch.testing.assert_close(after.class_maps.mean((1, 2)).softmax(0), before.pred_score)


def test_a_map_is_the_classifier_at_each_place():
    model = classifier(*BACKBONES[0]).eval()
    head = with_class_maps(model).head
    feature = torch.randn(2, 512, 3, 4)
    maps = head.class_maps((feature,))
    torch.testing.assert_close(maps[1, :, 2, 1], model.head.fc(feature[1, :, 2, 1]))


def test_no_gradient_is_needed():
    model = with_class_maps(classifier(*BACKBONES[1])).eval()
    with torch.inference_mode():
        assert model.predict(torch.randn(1, 3, 64, 64))[0].class_maps.shape == (10, 2, 2)


def test_the_old_classifier_stays_and_weights_are_shared():
    old = classifier(*BACKBONES[1]).eval()
    new = with_class_maps(old)
    assert type(old.head).__name__ == 'LinearClsHead'
    assert old.with_neck
    assert new.head.fc is old.head.fc
    assert new.backbone is old.backbone
    assert not new.head.training
    assert new.state_dict().keys() == old.state_dict().keys()
    assert with_class_maps(new) is new


def test_a_trained_classifier_loads_into_the_head_of_a_config():
    old = random_norms(classifier(*BACKBONES[0]))
    new = classifier(*BACKBONES[0], head='mmdla.ClassMapHead', neck=False).eval()
    new.load_state_dict(old.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(new.predict(x)[0].pred_score, old.predict(x)[0].pred_score)


def test_trains_as_the_linear_head_does():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    head = ClassMapHead(num_classes=3, in_channels=4)
    feature = torch.randn(5, 4, 3, 3, requires_grad=True)
    samples = [DataSample().set_gt_label(i % 3) for i in range(5)]
    loss = head.loss((feature,), samples)['loss']
    logits = F.linear(feature.mean((2, 3)), head.fc.weight, head.fc.bias)
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(5) % 3))
    loss.backward()
    assert head.fc.weight.grad is not None


def test_others_are_refused():
    vit = classifier(*BACKBONES[0])
    vit.head = nn.Linear(512, 10)
    with pytest.raises(ValueError, match='this one has GlobalAveragePooling and Linear'):
        with_class_maps(vit)
    no_neck = classifier(*BACKBONES[0], neck=False)
    with pytest.raises(ValueError, match='has NoneType and LinearClsHead'):
        with_class_maps(no_neck)
    pooled = classifier(*BACKBONES[0], head='mmdla.ClassMapHead')
    with pytest.raises(ValueError, match='have been pooled'):
        pooled.predict(torch.randn(1, 3, 64, 64))
