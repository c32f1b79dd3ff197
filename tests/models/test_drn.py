"""The DRN backbone: released numbers, ResNet's numbers, the paper's steps, sizes, DDP, freezing."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import random_norms
from torch import nn

from mmdla.models import DLA, DRN
from mmdla.models.layers import BasicBlock, Bottleneck, ResidualBasicBlock, ResidualBottleneck

ARCHS = list(DRN.arch_settings)
# With the 1000-class layer. Released counting has 1,049,600 more in C-58, whose level 7 computes a
# shortcut and does not add it.
PARAMS = {
    'a_18': 11_689_512,
    'a_34': 21_797_672,
    'a_50': 25_557_032,
    'a_101': 44_549_160,
    'b_26': 21_126_584,
    'c_26': 21_126_584,
    'c_42': 31_234_744,
    'c_58': 41_591_608 - 1_049_600,
    'd_22': 16_393_752,
    'd_38': 26_501_912,
    'd_54': 35_809_176,
    'd_105': 54_801_304,
}
# Small networks of each family, and of the steps between them.
SMALL = dict(block='basic', depths=(1, 1, 2, 1, 2, 2, 1, 1), channels=(4, 4, 8, 8, 16, 16, 8, 8))
STEPS = {
    'A': dict(block='basic', depths=(2, 1, 2, 2), channels=(8, 8, 16, 16), stem=8, max_pooling=True),
    'A without pooling': dict(SMALL, depths=SMALL['depths'][:6], channels=SMALL['channels'][:6]),
    'B': SMALL,
    'C': dict(SMALL, degridding_residual=False),
    'D': dict(SMALL, degridding_residual=False, plain=True),
}
STEPS['A of bottlenecks'] = dict(STEPS['A'], block='bottleneck')
STEPS['C of bottlenecks'] = dict(STEPS['C'], block='bottleneck')


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('arch', ['a_50', 'c_26', 'd_22', 'd_54'])
def test_golden(arch, golden):
    gold = golden(f'drn_{arch}')
    state = gold.state_dict()
    count = 4 if arch == 'a_50' else 8
    model = DRN(arch, out_indices=range(1, count + 1)).eval()
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        levels = model(gold.input())
    weight = state['fc.weight'].flatten(1)
    found = {f'stage{i}': level for i, level in enumerate(levels, 1)}
    found['logits'] = F.linear(levels[-1].mean((2, 3)), weight, state['fc.bias'])
    found['class_map'] = F.conv2d(levels[-1], weight[..., None, None], state['fc.bias'])
    assert set(gold.meta['outputs']) <= set(found)
    for name in gold.meta['outputs']:
        gold.check(name, found[name])


@pytest.mark.parametrize('arch', PARAMS)
def test_parameters(arch):
    model = DRN(arch)
    assert parameters(model) + 1000 * (model.channels[-1] + 1) == PARAMS[arch]


def equations(model: DRN, x: torch.Tensor) -> list[torch.Tensor]:
    """The released network written out: what is read of the modules is their parameters only."""
    arch, p = model.arch, dict(model.named_parameters()) | dict(model.named_buffers())

    def cbn(x, conv, bn, stride=1, dilation=1):
        w = p[f'{conv}.weight']
        y = F.conv2d(x, w, None, stride, dilation * (w.shape[-1] // 2), dilation)
        keys = ('running_mean', 'running_var', 'weight', 'bias')
        return F.batch_norm(y, *(p[f'{bn}.{k}'] for k in keys))

    def block(x, name, stride, d1, d2, residual, bottleneck):
        s = x
        if f'{name}.downsample.0.weight' in p:
            s = cbn(x, f'{name}.downsample.0', f'{name}.downsample.1', stride)
        if bottleneck:
            y = cbn(x, f'{name}.conv1', f'{name}.bn1').relu()
            y = cbn(y, f'{name}.conv2', f'{name}.bn2', stride, d2).relu()
            y = cbn(y, f'{name}.conv3', f'{name}.bn3')
        else:
            y = cbn(x, f'{name}.conv1', f'{name}.bn1', stride, d1).relu()
            y = cbn(y, f'{name}.conv2', f'{name}.bn2', 1, d2)
        return (y + s if residual else y).relu()

    bottleneck = arch['block'] == 'bottleneck'
    outs = []
    if arch['max_pooling']:
        x = F.max_pool2d(cbn(x, 'conv1', 'bn1', 2).relu(), 3, 2, 1)
        for i, (stride, d) in enumerate([(1, 1), (2, 1), (1, 2), (1, 4)], 1):
            for j in range(arch['depths'][i - 1]):
                first = j == 0  # undilated in the released DRN-A
                e = 1 if first else d
                x = block(x, f'layer{i}.{j}', stride if first else 1, e, e, True, bottleneck)
            outs.append(x)
        return outs
    x = cbn(x, *(('layer0.0', 'layer0.1') if arch['plain'] else ('conv1', 'bn1'))).relu()
    plan = [(1, 1), (2, 1), (2, 1), (2, 1), (1, 2), (1, 4), (1, 2), (1, 1)]
    for i, (stride, d) in enumerate(plan[: len(arch['depths'])], 1):
        group = i in (3, 4, 5, 6)
        for j in range(arch['depths'][i - 1]):
            s = stride if j == 0 else 1
            if group or not arch['plain']:
                residual = i < 7 or arch['degridding_residual']
                x = block(x, f'layer{i}.{j}', s, d, d, residual, bottleneck and group)
            else:
                x = cbn(x, f'layer{i}.{3 * j}', f'layer{i}.{3 * j + 1}', s, d).relu()
        outs.append(x)
    return outs


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('size', [(64, 64), (41, 73)])
def test_each_step_equals_the_network_written_out(step, size):
    arch = STEPS[step]
    model = DRN(arch, out_indices=range(1, len(arch['depths']) + 1))
    random_norms(model)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        found, wanted = model(x), equations(model, x)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        assert (a - b).abs().max() <= 1e-5 * b.std()


def test_families_differ_by_their_step():
    modules = {name: DRN(STEPS[name]) for name in ('A', 'A without pooling', 'B', 'C', 'D')}
    count = {n: sum(isinstance(m, nn.MaxPool2d) for m in v.modules()) for n, v in modules.items()}
    assert count == {'A': 1, 'A without pooling': 0, 'B': 0, 'C': 0, 'D': 0}
    assert [hasattr(v, 'layer7') for v in modules.values()] == [False, False, True, True, True]
    assert modules['B'].layer7[0].residual
    assert not modules['C'].layer7[0].residual
    assert modules['C'].layer1[0].residual
    for i in (1, 2, 7, 8):
        layers = [type(m) for m in getattr(modules['D'], f'layer{i}')]
        assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize('arch', ['a_18', 'a_50'])
@pytest.mark.parametrize('size', [(64, 96), (97, 65)])
def test_a_is_resnet_more_densely(arch, size):
    from torchvision.models import resnet18, resnet50

    resnet = random_norms(resnet18() if arch == 'a_18' else resnet50())
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        y, wanted = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(x)))), []
        for i in range(1, 5):
            y = getattr(resnet, f'layer{i}')(y)
            wanted.append(y)
        for stride in (32, 16, 8):
            model = DRN(arch, output_stride=stride, dilation_scheme='paper').eval()
            model.load_state_dict(resnet.state_dict(), strict=True)
            for i, (a, b) in enumerate(zip(model(x), wanted), 2):
                step = max(2**i // stride, 1)
                assert a.shape[2:] == tuple(math.ceil(s / min(2**i, stride)) for s in size)
                assert (a[..., ::step, ::step] - b).abs().max() <= 1e-4 * b.std()
        released = DRN(arch).eval()
        released.load_state_dict(resnet.state_dict(), strict=True)
        last = released(x)[-1]
    assert (last - model(x)[-1]).abs().max() > 0.1 * last.std()


def first_convolutions(model: DRN, level: str) -> list[int]:
    convs = [m for m in getattr(model, level)[0].children() if isinstance(m, nn.Conv2d)]
    return [m.dilation[0] for m in convs if m.kernel_size == (3, 3)]


def test_first_dilations():
    assert first_convolutions(DRN('a_18'), 'layer4') == [1, 1]
    assert first_convolutions(DRN('a_18', dilation_scheme='paper'), 'layer4') == [2, 4]
    assert first_convolutions(DRN('a_50'), 'layer4') == [1]
    assert first_convolutions(DRN('a_50', dilation_scheme='paper'), 'layer4') == [2]
    assert first_convolutions(DRN('c_26'), 'layer6') == [4, 4]
    assert first_convolutions(DRN('c_26', dilation_scheme='paper'), 'layer6') == [2, 4]


@pytest.mark.parametrize('arch', ['b_26', 'c_42', 'd_54'])
@pytest.mark.parametrize('output_stride', [16, 32])
def test_coarser_network_is_every_second_value_up_to_level_6(arch, output_stride):
    dense = DRN(arch, out_indices=range(1, 9)).eval()
    dense.init_weights()
    coarse = DRN(arch, out_indices=range(1, 9), output_stride=output_stride).eval()
    coarse.load_state_dict(dense.state_dict())
    x = torch.randn(1, 3, 97, 66)
    with torch.no_grad():
        pairs = list(zip(dense(x), coarse(x)))
    for a, b in pairs[:6]:
        step = math.ceil(a.shape[2] / b.shape[2])
        assert (a[..., ::step, ::step] - b).abs().max() <= 1e-4 * a.std()
    assert [b.shape[2] for _, b in pairs[4:]] == [
        math.ceil(97 / min(s, output_stride)) for s in (16, 32, 32, 32)
    ]


def train_once(model: nn.Module, size: tuple[int, int], batch: int = 2) -> list[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    levels = model(torch.randn(batch, 3, *size))
    sum(level.mean() for level in levels).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    return levels


def test_dead_shortcut_is_dropped_and_nothing_else():
    model = DRN('c_58')
    state = dict(model.state_dict())
    dead = {'layer7.0.downsample.0.weight': torch.zeros(512, 2048, 1, 1)}
    dead['layer7.0.downsample.1.weight'] = torch.zeros(512)
    classifier = {'fc.weight': torch.zeros(1000, 512, 1, 1), 'fc.bias': torch.zeros(1000)}
    model.load_state_dict(state | dead | classifier, strict=True)
    odd = {'layer5.1.downsample.0.weight': torch.zeros(1)}
    assert model.load_state_dict(state | dead | odd, strict=False).unexpected_keys == list(odd)
    # B adds its shortcut, so that one belongs to it
    b = DRN(dict(SMALL, block='bottleneck'))
    assert 'layer7.0.downsample.0.weight' in b.state_dict()
    state = {k: v for k, v in b.state_dict().items() if 'layer7.0.downsample' not in k}
    assert b.load_state_dict(state, strict=False).missing_keys


def test_a_subclass_may_have_a_classifier():
    class Classifier(DRN):
        def __init__(self):
            super().__init__(SMALL)
            self.fc = nn.Linear(8, 3)

    model = Classifier()
    model.load_state_dict(Classifier().state_dict(), strict=True)


def test_blocks_are_dlas():
    assert issubclass(ResidualBasicBlock, BasicBlock)
    assert issubclass(ResidualBottleneck, Bottleneck)
    dla = DLA(dict(DLA.arch_settings['46_c'], block='DRNBasicBlock'))
    assert not [name for name in dla.state_dict() if '.project.' in name]
    train_once(dla, (64, 64))


def test_any_block_that_owns_its_shortcut():
    pytest.importorskip('mmpretrain')
    model = DRN(dict(SMALL, block=dict(type='mmdla.InvertedResidual', expand_ratio=2)))
    assert train_once(model, (41, 40))[-1].shape == (2, 8, 6, 5)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='c_27'), r"arch='c_27': must be one of .*'c_26'"),
        (dict(arch=dict(SMALL, block='DLABasicBlock')), 'leaves its shortcut to its stage'),
        (dict(arch=dict(SMALL, depths=(1, 1, 0, 2, 2, 1))), r"arch\['depths'\].* 6 or 8"),
        (dict(arch=dict(SMALL, depths=(1, 1, 2, 1, 2, 2))), 'must be of one length'),
        (dict(arch=dict(SMALL, max_pooling=True)), r"arch\['depths'\].* 4 positive"),
        (dict(arch=dict(SMALL, stem=0)), r"arch\['stem'\]=0"),
        (dict(arch=dict(STEPS['A'], plain=True)), 'plain=True'),
        (dict(arch=dict(STEPS['A'], degridding_residual=False)), 'residual=False'),
        (dict(arch=dict(SMALL, max_pooling='no')), "max_pooling'.='no': must be True or False"),
        (dict(out_indices=(0, 3)), r'out_indices=\(0, 3\): must be levels from 1 to 8'),
        (dict(arch='a_18', out_indices=(3, 5)), 'levels from 1 to 4'),
        (dict(dilation_scheme='figure'), "dilation_scheme='figure': must be 'released' or 'paper'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DRN(**kwargs)
