"""The DLA backbone: released numbers, timm's numbers, sizes, strides, freezing, memory."""

from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from torch import nn

from mmdla.analysis.memory import saved_bytes
from mmdla.models import DLA
from mmdla.models.layers import SplitBottleneck

ARCHS = list(DLA.arch_settings)
USED_PARAMS = {
    '34': 15_742_104,
    '46_c': 1_301_400,
    '60': 22_036_632,
    '102': 33_268_888,
    '169': 53_389_720,
    '46x_c': 1_068_440,
    '60x_c': 1_319_832,
    '60x': 17_352_344,
    '102x': 26_309_272,
    '102x2': 41_282_200,
}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('arch', ['34', '46x_c', '60', '60x_c', '102'])
def test_golden(arch, golden):
    gold = golden(f'dla{arch}')
    state = gold.state_dict()
    model = DLA(arch, out_indices=range(6)).eval()
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        levels = model(gold.input())
        logits = nn.functional.conv2d(
            levels[-1].mean((2, 3), keepdim=True), state['fc.weight'], state['fc.bias']
        )
    for i, level in enumerate(levels):
        gold.check(f'level{i}', level)
    gold.check('logits', logits.view(gold.meta['outputs']['logits']))


@pytest.mark.parametrize('arch', ARCHS)
def test_equals_timm(arch):
    theirs = timm.create_model(f'dla{arch}').eval()
    for m in theirs.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    ours = DLA(arch, out_indices=range(6)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = ours(x)
        wanted, y = [], theirs.base_layer(x)
        for i in range(6):
            y = getattr(theirs, f'level{i}')(y)
            wanted.append(y)
    for a, b in zip(found, wanted):
        assert (a - b).abs().max() <= 1e-4 * b.std()
    if arch in USED_PARAMS:
        assert parameters(ours) + 1000 * ours.channels[-1] + 1000 == USED_PARAMS[arch]
    assert parameters(ours) == parameters(theirs) - parameters(theirs.fc)


@pytest.mark.parametrize('arch', ['34', '60x', '102', '60_res2net'])
@pytest.mark.parametrize('output_stride', [16, 8])
@pytest.mark.parametrize('size', [(64, 96), (97, 65)])
def test_dilated_network_is_the_strided_one_at_every_position(arch, output_stride, size):
    strided = DLA(arch).eval()
    strided.init_weights()
    dense = DLA(arch, output_stride=output_stride).eval()
    dense.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        for a, b, stride in zip(dense(x), strided(x), (4, 8, 16, 32)):
            step = max(1, stride // output_stride)
            assert a.shape[2:] == tuple(math.ceil(s / min(stride, output_stride)) for s in size)
            assert (a[..., ::step, ::step] - b).abs().max() <= 1e-4 * b.std()


@pytest.mark.parametrize('arch', ['34', '60', '102'])
def test_saves_no_more_for_backward_than_timm(arch):
    x = torch.randn(1, 3, 128, 128)
    theirs = timm.create_model(f'dla{arch}', num_classes=0, global_pool='')
    base = saved_bytes(theirs, x)
    assert saved_bytes(DLA(arch, out_indices=(5,)), x) <= base
    assert saved_bytes(DLA(arch, out_indices=(5,), with_cp=True), x) <= 0.35 * base


def test_what_else_is_missing_or_unexpected_is_reported():
    model = DLA('34')
    state = model.state_dict()
    state['level3.tree1.project.2.weight'] = torch.zeros(1)  # of a leaf: not dead
    state['head.weight'] = torch.zeros(1)
    del state['level4.tree1.tree1.conv1.weight']
    result = model.load_state_dict(state, strict=False)
    assert set(result.unexpected_keys) == {'head.weight', 'level3.tree1.project.2.weight'}
    assert result.missing_keys == ['level4.tree1.tree1.conv1.weight']


def test_no_global_state():
    DLA('102x2')
    arch = dict(
        block=dict(type='split', groups=32),
        tree_depths=[1, 2, 3, 1],
        channels=[16, 32, 128, 256, 512, 1024],
    )
    given = copy.deepcopy(arch)
    assert parameters(DLA('60x')) == parameters(DLA(arch)) == 17_352_344 - 1024 * 1000 - 1000
    assert arch == given
    assert SplitBottleneck.groups == 1  # the class attribute of its base, not 64


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='35'), r"arch='35': must be one of .*'34'"),
        (
            dict(arch=dict(DLA.arch_settings['34'], tree_depths=(1, 0, 2, 1))),
            r"arch\['tree_depths'\].* 4 positive integers, one for each of levels 2 to 5",
        ),
        (dict(arch=dict(DLA.arch_settings['34'], num_convs=(1,))), r"arch\['num_convs'\].* 2 positive"),
        (dict(strides=(1, 2, 2)), r'strides=\(1, 2, 2\): must be six'),
        (
            dict(arch=DLA.arch_settings['34'], init_cfg=dict(type='Pretrained', checkpoint='timm')),
            "checkpoint='timm' needs an arch with a name",
        ),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DLA(**kwargs)


@pytest.mark.slow
@pytest.mark.parametrize('output_stride', [32, 16, 8])
@pytest.mark.parametrize('arch', ARCHS)
def test_every_size_through_backbone_and_head(arch, output_stride):
    """Forward and backward, every size from 33 to 97, and those of BSDS, CamVid and PASCAL."""
    pytest.importorskip('mmseg')
    from mmseg.models.utils import resize

    from mmdla.models import IDAUpHead

    backbone = DLA(arch, out_indices=(1, 2, 3, 4, 5), output_stride=output_stride)
    strides = [min(s, output_stride) for s in (2, 4, 8, 16, 32)]
    head = IDAUpHead(backbone.channels[1:], num_classes=5, strides=strides)
    parts = nn.ModuleList([backbone, head])
    sizes = [(n, n) for n in range(33, 98)] + [(321, 481), (360, 480), (225, 401)]
    for size in sizes:
        parts.zero_grad(set_to_none=True)
        logits = head(backbone(torch.randn(1, 3, *size)))
        assert logits.shape[2:] == tuple(math.ceil(s / 2) for s in size)
        out = resize(logits, size=size, mode='bilinear', align_corners=False)
        assert out.shape == (1, 5, *size)
        out.square().mean().backward()
        lacking = [n for n, p in parts.named_parameters() if p.grad is None]
        assert not lacking, (size, lacking)
