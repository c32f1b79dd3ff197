"""The DLA backbone: released numbers, timm's numbers, sizes, strides, freezing, memory."""

from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from torch import nn

from mmdla.models import DLA
from mmdla.models.layers import SplitBottleneck
from mmdla.utils.memory import saved_bytes

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


@pytest.mark.parametrize('arch', ARCHS)
def test_any_size_trains_and_every_parameter_gets_a_gradient(arch):
    model = DLA(arch, out_indices=(1, 2, 3, 4, 5))
    for size in [(33, 98), (66, 65), (97, 34)]:
        model.zero_grad(set_to_none=True)
        levels = model(torch.randn(2, 3, *size))
        for level, stride in zip(levels, (2, 4, 8, 16, 32)):
            assert level.shape[2:] == tuple(math.ceil(s / stride) for s in size)
        sum(level.mean() for level in levels).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize('size', [(321, 481), (360, 480), (225, 401)])
def test_sizes_of_real_data(size):
    levels = DLA('46_c').eval()(torch.randn(1, 3, *size))
    assert levels[-1].shape[2:] == tuple(math.ceil(s / 32) for s in size)


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


@pytest.mark.parametrize('arch', ['34', '60_res2net', '102'])
def test_recomputing_changes_nothing(arch):
    plain = DLA(arch)
    plain.init_weights()
    lean = DLA(arch, with_cp=True)
    lean.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 65, 64)
    for model in (plain, lean):
        sum(level.square().mean() for level in model(x)).backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), lean.named_parameters()):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), (_, b) in zip(plain.named_buffers(), lean.named_buffers()):
        assert torch.equal(a, b), name
    tracked = [b for n, b in lean.named_buffers() if n.endswith('num_batches_tracked')]
    assert all(t == 1 for t in tracked)
    assert all(m.track_running_stats for m in lean.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_compiling'), reason='compilers before PyTorch 2.3 fail at it'
)
def test_recomputing_under_the_compiler_changes_nothing():
    plain = DLA('46_c', out_indices=(3,))
    lean = DLA('46_c', out_indices=(3,), with_cp=True)
    lean.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (plain, torch.compile(lean, backend='aot_eager', fullgraph=True)):
        model(x)[0].square().mean().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), lean.named_parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), (_, b) in zip(plain.named_buffers(), lean.named_buffers()):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize('arch', ['34', '60', '102'])
def test_saves_no_more_for_backward_than_timm(arch):
    x = torch.randn(1, 3, 128, 128)
    theirs = timm.create_model(f'dla{arch}', num_classes=0, global_pool='')
    base = saved_bytes(theirs, x)
    assert saved_bytes(DLA(arch, out_indices=(5,)), x) <= base
    assert saved_bytes(DLA(arch, out_indices=(5,), with_cp=True), x) <= 0.35 * base


def test_freezing_holds_through_training():
    model = DLA('46_c', frozen_stages=2).train()
    frozen = [model.base_layer, model.level0, model.level1, model.level2]
    before = copy.deepcopy([m.state_dict() for m in frozen])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    optimizer.step()
    for module, state in zip(frozen, before):
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert model.level3.training
    assert next(model.level3.parameters()).grad is not None


def test_norm_eval_is_applied_by_train():
    model = DLA('46_c', norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert model.level3.training


def test_levels_past_the_last_wanted_are_not_built(golden):
    model = DLA('34', out_indices=(1, 3)).eval()
    assert not hasattr(model, 'level4')
    full = DLA('34')
    state = dict(full.state_dict(), **{'fc.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)})
    kept = dict(state)
    assert model.load_state_dict(state, strict=True)
    assert state.keys() == kept.keys(), "the caller's state dict lost entries"
    assert [tuple(x.shape) for x in model(torch.rand(1, 3, 40, 40))] == [
        (1, 32, 20, 20),
        (1, 128, 5, 5),
    ]


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
        depths=[1, 1, 1, 2, 3, 1],
        channels=[16, 32, 128, 256, 512, 1024],
    )
    given = copy.deepcopy(arch)
    assert parameters(DLA('60x')) == parameters(DLA(arch)) == 17_352_344 - 1024 * 1000 - 1000
    assert arch == given
    assert SplitBottleneck.groups == 1  # the class attribute of its base, not 64


def test_init_is_the_papers():
    model = DLA('60x')
    model.init_weights()
    for m in model.modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000:
            std = math.sqrt(2 / (m.kernel_size[0] ** 2 * m.out_channels))
            assert m.weight.std().item() == pytest.approx(std, rel=0.06)
        if isinstance(m, nn.BatchNorm2d):
            assert (m.weight == 1).all()
            assert (m.bias == 0).all()


def test_other_image_channels_and_layers():
    model = DLA(
        '34',
        in_channels=5,
        norm_cfg=dict(type='GN', num_groups=32),
        act_cfg=dict(type='GELU'),
    )
    assert model(torch.rand(1, 5, 33, 33))[-1].shape == (1, 512, 2, 2)
    assert not any(isinstance(m, nn.BatchNorm2d | nn.ReLU) for m in model.modules())


def test_layer_depths():
    model = DLA('34')
    depth = model.get_layer_depth
    assert depth('backbone.base_layer.0.weight', 'backbone.') == (0, 8)
    assert depth('backbone.level0.0.weight', 'backbone.') == (1, 8)
    assert depth('backbone.level5.root.bn.bias', 'backbone.') == (6, 8)
    assert depth('head.fc.weight', 'backbone.') == (7, 8)
    for name, _ in model.named_parameters():
        assert 0 <= depth(name)[0] <= 6


def test_compiles_without_graph_break():
    model = DLA('46_c').eval()
    x = torch.randn(1, 3, 65, 64)
    for a, b in zip(torch.compile(model, backend='eager', fullgraph=True)(x), model(x)):
        torch.testing.assert_close(a, b)


def test_exports():
    model = DLA('34').eval()
    x = torch.randn(1, 3, 65, 64)
    program = torch.export.export(model, (x,))
    for a, b in zip(program.module()(x), model(x)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='35'), r"arch='35': must be one of .*'34'"),
        (dict(arch=dict(block='basic')), r'missing: \[.channels., .depths.\]'),
        (dict(arch=dict(DLA.arch_settings['34'], depth=1)), r'unknown: \[.depth.\]'),
        (dict(arch=dict(DLA.arch_settings['34'], block='conv')), r"arch\['block'\]='conv'"),
        (dict(arch=dict(DLA.arch_settings['34'], depths=(1, 1, 0, 2, 2, 1))), r"arch\['depths'\]"),
        (dict(arch=dict(DLA.arch_settings['34'], channels=(16, 32))), r"arch\['channels'\]=\(16, 32\)"),
        (dict(out_indices=(2, 6)), r'out_indices=\(2, 6\): must be levels from 0 to 5'),
        (dict(out_indices=(3, 2)), 'ascending'),
        (dict(out_indices=()), r'out_indices=\(\)'),
        (dict(output_stride=4), 'output_stride=4: must be 8, 16 or 32'),
        (dict(frozen_stages=6), 'frozen_stages=6'),
        (dict(out_indices=(1,), frozen_stages=2), 'frozen_stages=2: must be from -1 .* to 1'),
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
