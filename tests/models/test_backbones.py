"""The same questions to every backbone: sizes, levels, freezing, recomputation, layers, arguments.

The published networks run on the meta device, which computes shapes and the graph only.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from mmdla.analysis.memory import saved_bytes
from mmdla.models import DLA, DRN, AggregatedStages, SqueezeNet
from mmdla.models.layers import FORMS

SELECTIVE = hasattr(torch.utils.checkpoint, 'create_selective_checkpoint_contexts')
SMALL_DLA = dict(block='basic', tree_depths=(1, 2, 1, 1), channels=(4, 8, 8, 16, 16, 16))
SMALL_DRN = dict(block='basic', depths=(1, 1, 2, 1, 2, 2, 1, 1), channels=(4, 4, 8, 8, 16, 16, 8, 8))
SMALL_DRN_A = dict(
    block='basic', depths=(2, 1, 2, 2), channels=(8, 8, 16, 16), stem=8, max_pooling=True
)


def dla(**settings):
    return lambda **kwargs: DLA(SMALL_DLA, **settings, **kwargs)


def drn(arch, **settings):
    return lambda **kwargs: DRN(arch | settings, **kwargs)


# Small networks that return levels; each is built with further arguments.
SMALL = {f'DLA {form}': dla(aggregation=form) for form in FORMS}
SMALL |= {
    'DLA unlinked': dla(link_levels=False),
    'DLA residual': lambda **kwargs: DLA(
        SMALL_DLA | dict(residual_nodes=True, num_convs=(2, 1)), **kwargs
    ),
    'DRN A': drn(SMALL_DRN_A),
    'DRN A of bottlenecks': drn(SMALL_DRN_A, block='bottleneck'),
    'DRN A without pooling': drn(
        SMALL_DRN | dict(depths=SMALL_DRN['depths'][:6], channels=SMALL_DRN['channels'][:6])
    ),
    'DRN B': drn(SMALL_DRN),
    'DRN C': drn(SMALL_DRN, degridding_residual=False),
    'DRN C of bottlenecks': drn(SMALL_DRN, degridding_residual=False, block='bottleneck'),
    'DRN D': drn(SMALL_DRN, degridding_residual=False, plain=True),
}
# One of each way to begin and to go on.
FEW = ['DLA hda', 'DRN A', 'DRN C', 'DRN D']
ARCHS = {f'DLA {arch}': (DLA, arch) for arch in DLA.arch_settings}
ARCHS |= {f'DRN {arch}': (DRN, arch) for arch in DRN.arch_settings}


def aggregated(form: str) -> AggregatedStages:
    convs = [nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 4), (4, 8), (8, 8), (8, 8))]
    return AggregatedStages(convs, [4, 8, 8, 8], aggregation=form)


# Networks that return a single map: how they are built, its channels, how high it is.
OTHERS = {
    f'AggregatedStages {form}': (lambda form=form: aggregated(form), 8, lambda s: math.ceil(s / 16))
    for form in FORMS
}
OTHERS |= {
    f'SqueezeNet {version}': (lambda v=version: SqueezeNet(v, bypass=True, num_classes=5), 5, None)
    for version in ('1_0', '1_1')
}


def built(name: str) -> nn.Module:
    if name.startswith('SqueezeNet'):
        pytest.importorskip('torchvision')
    return OTHERS[name][0]()


def strides_of(model: DLA | DRN, output_stride: int) -> list[int]:
    """Strides of all levels."""
    if isinstance(model, DLA):
        strides = [1, 2, 4, 8, 16, 32]
    elif model.arch['max_pooling']:
        strides = [4, 8, 16, 32]
    else:
        strides = [1, 2, 4, 8, 16, 32, 32, 32]
    return [min(s, output_stride) for s in strides[: len(model.channels)]]


def train_once(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The outputs; every parameter has to get a gradient."""
    levels = model(x)
    sum(level.mean() for level in levels).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    return levels


# -- sizes ----------------------------------------------------------------------------------------


def check_levels(model: DLA | DRN, output_stride: int, size: tuple[int, int], device: str) -> None:
    levels = train_once(model, torch.ones(2, 3, *size, device=device))
    strides = strides_of(model, output_stride)
    for level, stride, channels in zip(levels, strides, model.channels, strict=True):
        assert level.shape == (2, channels, *(math.ceil(s / stride) for s in size))


@pytest.mark.parametrize('name', ARCHS)
def test_every_network_has_its_levels_and_no_dead_parameter(name):
    kind, arch = ARCHS[name]
    default = 32 if kind is DLA else 8
    with torch.device('meta'):
        levels = len(kind.arch_settings[arch]['channels'])
        numbers = range(6) if kind is DLA else range(1, levels + 1)
        model = kind(arch, out_indices=numbers)
        check_levels(model, default, (97, 66), 'meta')
        # By default the levels are those of a ResNet.
        model = kind(arch)
    strides = strides_of(model, default)
    found = [strides[i - model.numbers[0]] for i in model.out_indices]
    assert found == [min(s, default) for s in (4, 8, 16, 32)]
    assert model.out_indices[-1] == model.numbers[-1]


@pytest.mark.parametrize('output_stride', [32, 16, 8])
@pytest.mark.parametrize('name', SMALL)
def test_small_networks_have_their_levels_and_no_dead_parameter(name, output_stride):
    model = SMALL[name](output_stride=output_stride)
    model = SMALL[name](output_stride=output_stride, out_indices=model.numbers)
    for size in [(64, 96), (97, 66)]:
        model.zero_grad()
        check_levels(model, output_stride, size, 'cpu')


@pytest.mark.parametrize('name', FEW)
def test_every_size(name):
    """All sizes modulo the largest stride, and those of BSDS, CamVid and PASCAL."""
    model = SMALL[name]()
    stride = strides_of(model, 8 if isinstance(model, DRN) else 32)[-1]
    for size in [(n, 97 - n) for n in range(33, 65)] + [(321, 481), (360, 480), (225, 401)]:
        with torch.no_grad():
            level = model(torch.ones(2, 3, *size))[-1]
        assert level.shape[2:] == tuple(math.ceil(s / stride) for s in size)


@pytest.mark.parametrize('name', OTHERS)
def test_one_map_and_no_dead_parameter(name):
    channels, height = OTHERS[name][1:]
    model = built(name)
    for size in [(64, 96), (97, 65)]:
        model.zero_grad()
        (out,) = train_once(model, torch.randn(2, 3, *size))
        assert out.shape[:2] == (2, channels)
        if height is not None:
            assert out.shape[2:] == tuple(map(height, size))


# -- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', SMALL)
def test_levels_past_the_last_wanted_are_not_built(name):
    full = SMALL[name]()
    first = full.numbers[0]
    wanted = (first, first + 2)
    model = SMALL[name](out_indices=wanted).eval()
    assert not hasattr(model, model.level_name.format(first + 3))
    # A released classifier's file loads strictly, and keeps its entries.
    state = full.state_dict() | {'fc.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}
    kept = dict(state)
    model.load_state_dict(state, strict=True)
    assert state.keys() == kept.keys(), "the caller's state dict lost entries"
    x = torch.rand(1, 3, 40, 41)
    everything = SMALL[name](out_indices=full.numbers).eval()
    everything.load_state_dict(full.state_dict())
    levels = everything(x)
    for a, b in zip(model(x), (levels[0], levels[2]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('name', SMALL)
def test_depths_of_layers(name):
    """For layer-wise learning rates: the stem, the levels in their order, what follows."""
    model = SMALL[name]()
    levels = dict(model.levels())
    last = len(levels) + 1
    for parameter, _ in model.named_parameters():
        depth = model.get_layer_depth(f'backbone.{parameter}', 'backbone.')
        parts = [parameter.startswith(f'{model.level_name.format(i)}.') for i in levels]
        assert depth == (parts.index(True) + 1 if any(parts) else 0, last + 1)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (last, last + 1)


# -- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', SMALL)
def test_freezing_holds_through_training(name):
    first = SMALL[name]().numbers[0]
    model = SMALL[name](frozen_stages=first + 1).train()
    levels = dict(model.levels())
    frozen = [*model.stem_modules(), levels[first], levels[first + 1]]
    before = copy.deepcopy([m.state_dict() for m in frozen])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    optimizer.step()
    for module, state in zip(frozen, before):
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert levels[first + 2].training
    assert next(levels[first + 2].parameters()).grad is not None
    if first > 0:
        stem = SMALL[name](frozen_stages=0)
        assert not any(p.requires_grad for m in stem.stem_modules() for p in m.parameters())
        assert all(p.requires_grad for p in dict(stem.levels())[first].parameters())


@pytest.mark.parametrize('name', SMALL)
def test_norm_eval_is_applied_by_train(name):
    model = SMALL[name](norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert all(level.training for _, level in model.levels())


@pytest.mark.parametrize('name', SMALL)
def test_recomputing_changes_nothing(name):
    """Gradients and buffers are equal to the bit, with every value of ``with_cp``."""
    x = torch.randn(2, 3, 65, 64)
    plain = SMALL[name]()
    plain.init_weights()
    state = copy.deepcopy(plain.state_dict())
    first = plain.numbers[0]
    saved = saved_bytes(copy.deepcopy(plain), x)
    sum(level.square().mean() for level in plain(x)).backward()
    for with_cp in [True, [first, first + 2], 'norm'] if SELECTIVE else [True, [first, first + 2]]:
        lean = SMALL[name](with_cp=with_cp)
        lean.load_state_dict(state)
        sum(level.square().mean() for level in lean(x)).backward()
        for (key, a), (_, b) in zip(plain.named_parameters(), lean.named_parameters()):
            assert torch.equal(a.grad, b.grad), (with_cp, key)
        for (key, a), (_, b) in zip(plain.named_buffers(), lean.named_buffers()):
            assert torch.equal(a, b), (with_cp, key)
            assert not key.endswith('num_batches_tracked') or b == 1
        assert saved_bytes(lean, x) < (0.5 if with_cp is True else 1) * saved


# -- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', SMALL)
def test_other_image_channels_and_layers(name):
    model = SMALL[name](
        in_channels=5, norm_cfg=dict(type='GN', num_groups=32), act_cfg=dict(type='GELU')
    )
    assert model(torch.rand(1, 5, 33, 33))[-1].shape[1] == model.channels[-1]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.ReLU) for m in model.modules())


@pytest.mark.parametrize('name', ['DLA 60x', 'DRN d_54'])
def test_initialization_is_the_papers(name):
    kind, arch = ARCHS[name]
    model = kind(arch)
    model.init_weights()
    for m in model.modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000:
            std = math.sqrt(2 / (m.kernel_size[0] ** 2 * m.out_channels))
            assert m.weight.std().item() == pytest.approx(std, rel=0.06)
        if isinstance(m, nn.BatchNorm2d):
            assert (m.weight == 1).all()
            assert (m.bias == 0).all()


@pytest.mark.compile
@pytest.mark.parametrize('name', [*FEW, *OTHERS])
def test_compiles_and_exports(name):
    model = (SMALL[name]() if name in SMALL else built(name)).eval()
    x = torch.randn(1, 3, 65, 47)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend='eager', fullgraph=True)(x)
    exported = torch.export.export(model, (x,)).module()(x)
    for a, b, c in zip(model(x), compiled, exported, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c)


# -- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(('kind', 'arch'), [(DLA, SMALL_DLA), (DRN, SMALL_DRN), (DRN, SMALL_DRN_A)])
def test_nothing_of_the_callers_is_changed(kind, arch):
    given = copy.deepcopy(arch)
    kind(given, out_indices=[1, 3])
    assert given == arch


@pytest.mark.parametrize('kind', [DLA, DRN])
@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (dict(arch='35'), ValueError, "arch='35': must be one of"),
        (dict(arch=3.5), TypeError, r'arch=3\.5: must be a name or a dict'),
        (dict(arch=dict(block='basic')), ValueError, r"missing: \['channels', '(tree_)?depths'\]"),
        (dict(key=('depth', 1)), ValueError, r'unknown: \[.depth.\]'),
        (dict(key=('block', 'conv')), ValueError, r"arch\['block'\]='conv'"),
        (dict(key=('channels', (16, 32))), ValueError, r"arch\['channels'\]=\(16, 32\)"),
        (dict(key=('channels', 8)), TypeError, r"arch\['channels'\]=8"),
        (dict(out_indices=5), TypeError, 'out_indices=5: must be a list'),
        (
            dict(out_indices=(2, 9)),
            ValueError,
            r'out_indices=\(2, 9\): must be levels from [01] to [58]',
        ),
        (dict(out_indices=(3, 2)), ValueError, 'ascending'),
        (dict(out_indices=(3, 3)), ValueError, 'without repetition'),
        (dict(out_indices=()), ValueError, r'out_indices=\(\)'),
        (dict(output_stride=4), ValueError, 'output_stride=4: must be 8, 16 or 32'),
        (dict(frozen_stages=9), ValueError, 'frozen_stages=9'),
        (dict(frozen_stages=-2), ValueError, 'frozen_stages=-2'),
        (
            dict(out_indices=(1,), frozen_stages=2),
            ValueError,
            'frozen_stages=2: must be from -1 .* to 1',
        ),
        (dict(with_cp=[9]), ValueError, r'with_cp=\[9\]'),
        (dict(with_cp='all'), TypeError, 'with_cp=\'all\': must be True, False, "norm", or a list'),
        (dict(conv_cfg=dict(type='Conv9')), ValueError, "no convolution 'Conv9'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(kind, kwargs, error, message):
    kwargs = dict(kwargs)
    arch = SMALL_DLA if kind is DLA else SMALL_DRN
    if 'key' in kwargs:
        key, value = kwargs.pop('key')
        arch = arch | {key: value}
    with pytest.raises(error, match=message):
        kind(**(dict(arch=arch) | kwargs))


# -- deprecated names -----------------------------------------------------------------------------


def test_deprecated_keys_of_architectures():
    """They warn and build the same network; the new name beside the old one is an error."""
    old = dict(block='basic', depths=(2, 1, 1, 2, 1, 1), channels=SMALL_DLA['channels'], residual=True)
    with pytest.warns(DeprecationWarning, match='residual_nodes') as warned:
        model = DLA(dict(old, channels=(4, 8, 8, 8, 8, 8)))
    assert {str(w.message).split(' ')[0] for w in warned} >= {"arch['depths']", "arch['residual']"}
    new = dict(block='basic', num_convs=(2, 1), tree_depths=(1, 2, 1, 1), channels=(4, 8, 8, 8, 8, 8))
    today = DLA(dict(new, residual_nodes=True))
    assert model.arch == today.arch
    assert str(model) == str(today)
    with pytest.warns(DeprecationWarning, match='degridding_residual'):
        assert str(DRN(dict(SMALL_DRN, residual=False))) == str(SMALL['DRN C']())
    for arch in (dict(new, depths=(1,) * 6), dict(new, residual=True, residual_nodes=True)):
        with pytest.raises(ValueError, match='deprecated name'):
            DLA(arch)


def test_deprecated_arguments():
    from mmdla.models import IDAUp

    with pytest.warns(DeprecationWarning, match='dilation_scheme'):
        assert DRN(SMALL_DRN_A, first_dilation='paper').dilation_scheme == 'paper'
    with pytest.warns(DeprecationWarning, match='variant'):
        assert IDAUp([4, 8], form='single').variant == 'single'
    pytest.importorskip('mmseg')
    from mmdla.models import IDAUpHead

    with pytest.warns(DeprecationWarning, match='variant'):
        head = IDAUpHead([4, 8], num_classes=2, form='single')
    assert head.dla_up.variant == 'single'
