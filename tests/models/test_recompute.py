"""Activation recomputation: the same training to the bit, with fewer stored activations."""

from __future__ import annotations

import copy
import gc
import math
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdla.analysis.memory import peak_bytes, saved_bytes
from mmdla.models import DLA, DRN, IDAUp
from mmdla.models.layers import AggregationNode, BasicBlock, recompute

X = (2, 3, 65, 64)
SELECTIVE = hasattr(torch.utils.checkpoint, 'create_selective_checkpoint_contexts')
needs_selective = pytest.mark.skipif(not SELECTIVE, reason="with_cp='norm' needs PyTorch 2.4")
MODES = [pytest.param('norm', marks=needs_selective), True]


class UpNet(nn.Module):
    """A backbone and IDA-up."""

    def __init__(self, backbone: nn.Module, with_cp: bool | str = False, **kwargs):
        super().__init__()
        self.backbone = backbone
        channels = [backbone.channels[i] for i in backbone.out_indices]
        self.neck = IDAUp(channels, with_cp=with_cp, **kwargs)

    def forward(self, x):
        return self.neck(self.backbone(x))


def seen(model: nn.Module, x: torch.Tensor, steps: int = 1) -> dict:
    """What a step computes: outputs, gradients and buffers, of a copy of the model."""
    model = copy.deepcopy(model).train()
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    for _ in range(steps):
        outs = model(x)
        loss = sum((out.float() * out.float().cos()).mean() for out in outs)
        loss.backward()
    found = {f'output {i}': out.detach() for i, out in enumerate(outs)}
    found |= {f'gradient of {n}': p.grad for n, p in model.named_parameters()}
    return found | dict(model.named_buffers()) | {'gradient of x': x.grad}


def check_equal(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name] is value is None) or torch.equal(found[name], value), name


def check_same(build, x: torch.Tensor, with_cp, change=lambda model: model, **kwargs) -> None:
    """A step is the same as with every activation stored, to the bit."""
    plain, lean = build(False), build(with_cp)
    lean.load_state_dict(plain.state_dict())
    plain, lean = change(plain), change(lean)
    check_equal(seen(lean, x, **kwargs), seen(plain, x, **kwargs))


class Halved(nn.Module):
    """A user's block: of another shape than ours, with a checkpoint, dropout and a view inside."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        a, b = self.act(self.bn(self.conv(x))).chunk(2, 1)
        a = checkpoint(lambda x: x.sigmoid() * x, a, use_reentrant=False)
        return F.dropout(torch.cat([a.exp(), b * b], 1), 0.3, self.training)


class Doubles(nn.BatchNorm2d):
    """A norm of somebody's own."""

    def forward(self, x):
        return 2 * super().forward(x)


def up(arch, indices, with_cp, **kwargs) -> UpNet:
    return UpNet(DLA(arch, out_indices=indices, with_cp=with_cp), with_cp=with_cp, **kwargs)


RES = (1, 1, 1, 1)
HALVED = dict(block=Halved, tree_depths=RES, channels=(8,) * 6)
NETWORKS = {
    '34': lambda cp: DLA('34', with_cp=cp),
    '60_res2net': lambda cp: DLA('60_res2net', out_indices=(2, 3), with_cp=cp),
    '102': lambda cp: DLA('102', out_indices=(2, 3), with_cp=cp),
    'up': lambda cp: up('46_c', (1, 2, 3, 4), cp),
    'up centernet': lambda cp: up('46x_c', (1, 2, 3), cp, variant='centernet'),
    'frozen': lambda cp: DLA('46_c', out_indices=(2, 3), frozen_stages=2, with_cp=cp),
    'norm_eval': lambda cp: DLA('46_c', out_indices=(2, 3), norm_eval=True, with_cp=cp),
    'ELU': lambda cp: DLA('46_c', out_indices=(3,), act_cfg=dict(type='ELU'), with_cp=cp),
    'GELU': lambda cp: DLA('46_c', out_indices=(3,), act_cfg=dict(type='GELU'), with_cp=cp),
    'GN': lambda cp: DLA('46_c', out_indices=(3,), norm_cfg=dict(type='GN', num_groups=8), with_cp=cp),
    'no statistics': lambda cp: DLA(
        '46_c', out_indices=(3,), norm_cfg=dict(type='BN', track_running_stats=False), with_cp=cp
    ),
    'own block': lambda cp: DLA(HALVED, out_indices=(3, 4), aggregation='ida', with_cp=cp),
    'drn_a_18': lambda cp: DRN('a_18', with_cp=cp),
    'drn_c_26': lambda cp: DRN('c_26', out_indices=(3, 7), with_cp=cp),
    'drn_d_22': lambda cp: DRN('d_22', out_indices=(3, 8), with_cp=cp),
}


@pytest.mark.parametrize('with_cp', MODES)
@pytest.mark.parametrize('name', NETWORKS)
def test_trains_the_same_to_the_bit(name, with_cp):
    check_same(NETWORKS[name], torch.randn(X), with_cp)


@pytest.mark.parametrize('with_cp', MODES)
def test_steps_in_a_row(with_cp):
    check_same(NETWORKS['up'], torch.randn(X), with_cp, steps=2)


@pytest.mark.parametrize('with_cp', MODES)
def test_channels_last_is_the_same(with_cp):
    x = torch.randn(X).to(memory_format=torch.channels_last)
    check_same(NETWORKS['up'], x, with_cp, lambda m: m.to(memory_format=torch.channels_last))


@pytest.mark.parametrize('with_cp', MODES)
def test_mixed_precision_is_the_same_and_stores_less(with_cp):
    def build(cp):
        return up('46_c', (1, 2), cp)

    with torch.autocast('cpu', dtype=torch.bfloat16):
        check_same(build, torch.randn(2, 3, 33, 32), with_cp)
        # So large that the weights in bfloat16 do not count.
        x = torch.randn(1, 3, 128, 128)
        lean, plain = (saved_bytes(build(cp), x) for cp in (with_cp, False))
    assert lean < 0.75 * plain


@pytest.mark.parametrize('with_cp', MODES)
def test_statistics_are_updated_once(with_cp):
    model = NETWORKS['up'](with_cp).train()
    model(torch.randn(X))[0].mean().backward()
    tracked = [b for n, b in model.named_buffers() if n.endswith('num_batches_tracked')]
    assert tracked
    assert all(t == 1 for t in tracked)


class Net(nn.Module):
    """A block and a node, recomputed."""

    def __init__(self, selective: bool):
        super().__init__()
        self.block, self.node = BasicBlock(4, 4), AggregationNode([4, 2], 4)
        self.selective = selective

    def forward(self, x):
        run = lambda x: self.node(self.block(x), x[:, :2])  # noqa: E731
        return recompute(run, x, [self.block, self.node], self.selective)


def test_gradients_are_the_functions():
    """PyTorch's check in the plain mode; in the selective one, whose graph allows one backward pass,
    the same along random directions."""
    for selective in (False, True) if SELECTIVE else (False,):
        net = Net(selective).double().train()
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 0.0  # calls do not depend on each other
        x = torch.randn(2, 4, 5, 6, dtype=torch.double, requires_grad=True)
        if not selective:
            assert torch.autograd.gradcheck(net, (x,))
        weight = torch.randn(2, 4, 5, 6, dtype=torch.double)
        (gradient,) = torch.autograd.grad((net(x) * weight).sum(), x)
        for _ in range(3):
            step = 1e-6 * torch.randn_like(x)
            with torch.no_grad():
                slope = ((net(x + step) - net(x - step)) * weight).sum() / 2
            torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-5, atol=1e-12)


def test_second_derivatives_are_the_same():
    net, x = Net(False).double().train(), torch.randn(2, 4, 5, 6, dtype=torch.double)
    x.requires_grad_()

    def second(run):
        (first,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    assert torch.equal(second(net), second(lambda x: net.node(net.block(x), x[:, :2])))


# -- what is stored -------------------------------------------------------------------------------


def hooked_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """What autograd packs, each storage once."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(x)
    del out
    return sum(storages.values())


@pytest.mark.parametrize('name', ['34', 'up', 'drn_a_18', 'GN'])
def test_by_default_what_autograd_packs_is_stored(name):
    model, x = NETWORKS[name](False), torch.randn(X)
    found = saved_bytes(model, x)
    assert found == hooked_bytes(model, x)
    for with_cp in ('norm', True) if SELECTIVE else (True,):
        lean = NETWORKS[name](with_cp)
        assert saved_bytes(lean, x) < found
        assert saved_bytes(lean, x) == saved_bytes(lean, x), 'it leaves nothing behind'


@needs_selective
def test_convolutions_run_once_and_the_rest_twice():
    """What the selective mode stores beside the levels is the convolutions' outputs."""
    model = DLA('46_c', out_indices=(5,), with_cp='norm').train()
    counts = {}

    from torch.utils._python_dispatch import TorchDispatchMode

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            counts[func] = counts.get(func, 0) + 1
            return func(*args, **(kwargs or {}))

    convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with Operators():
        model(torch.randn(X))[0].mean().backward()
    aten = torch.ops.aten
    assert counts[aten.convolution.default] == convs
    assert sum(n for f, n in counts.items() if 'batch_norm' in f.name() and 'back' not in f.name()) in (
        range(2 * norms - 1, 2 * norms + 1)
    )


def test_saved_bytes_of_plain_modules():
    x = torch.randn(4, 10)
    sigmoid = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid())
    assert saved_bytes(sigmoid, x) == x.nbytes + 4 * 20 * 4
    assert saved_bytes(nn.Identity(), x) == 0
    assert saved_bytes(nn.Sequential(nn.Linear(10, 20), nn.Flatten()), x) == x.nbytes
    assert peak_bytes(sigmoid, x) >= saved_bytes(sigmoid, x)


def test_a_stride_of_2_stores_less():
    """The peak falls with what is stored."""
    indices = (1, 2, 3, 4, 5)
    x, wide = torch.randn(1, 3, 64, 128), torch.randn(1, 3, 192, 192)
    saved = {cp: saved_bytes(up('34', indices, cp), x) for cp in (False, True)}
    peak = {cp: peak_bytes(up('46_c', indices, cp), wide) for cp in (False, True)}
    assert saved[True] < 0.2 * saved[False]
    assert peak[True] < 0.75 * peak[False]
    if SELECTIVE:
        assert saved[True] < saved_bytes(up('34', indices, 'norm'), x) < 0.65 * saved[False]
        assert peak[True] < peak_bytes(up('46_c', indices, 'norm'), wide) < 0.85 * peak[False]


@pytest.mark.parametrize('with_cp', MODES)
def test_frozen_levels_store_nothing(with_cp):
    """Nor do they run again."""
    plain = DLA('46_c', out_indices=(3,), frozen_stages=2)
    lean = DLA('46_c', out_indices=(3,), frozen_stages=2, with_cp=with_cp)
    only = DLA('46_c', out_indices=(3,), with_cp=with_cp)
    x = torch.randn(X)
    assert saved_bytes(lean, x) < saved_bytes(plain, x)
    assert saved_bytes(lean, x) < 0.5 * saved_bytes(only, x)
    runs = []
    lean.level1.register_forward_pre_hook(lambda *_: runs.append(1))
    lean(x)[0].mean().backward()
    assert len(runs) == 1


@pytest.mark.parametrize('backward', [True, False])
@pytest.mark.parametrize('with_cp', [False, *MODES])
def test_nothing_is_left(backward, with_cp):
    """After backward, or when the output is dropped without: no map."""
    model = NETWORKS['up'](with_cp).train()
    refs = []
    convs = [m for m in model.modules() if isinstance(m, (nn.Conv2d, AggregationNode))]
    for m in convs:
        m.register_forward_hook(lambda m, x, y: refs.append(weakref.ref(y)))
    for _ in range(2):
        (out,) = model(torch.randn(X))
        if backward:
            out.square().mean().backward()
        kept = out.detach().clone()
        del out
        gc.collect()
        assert refs
        assert not [r for r in refs if r() is not None]
    assert kept.isfinite().all()


@pytest.mark.parametrize('with_cp', MODES)
def test_an_exception_in_forward_leaves_nothing(with_cp):
    class Breaks(AggregationNode):
        broken = True

        def forward(self, *inputs):
            if self.broken:
                raise ArithmeticError('broken')
            return super().forward(*inputs)

    model = DLA('46_c', out_indices=(2,), node=Breaks, with_cp=with_cp).train()
    with pytest.raises(ArithmeticError):
        model(torch.randn(X))
    Breaks.broken = False
    model(torch.randn(X))[0].mean().backward()
    assert all(p.grad is not None for p in model.parameters())


# -- layers of others -----------------------------------------------------------------------------


def replace_norms(model: nn.Module, kind: type) -> nn.Module:
    for name, module in list(model.named_modules()):
        if type(module) is nn.BatchNorm2d:
            parent, _, child = name.rpartition('.')
            setattr(model.get_submodule(parent), child, kind(module.num_features))
    return model


@pytest.mark.parametrize('with_cp', MODES)
def test_other_norms(with_cp):
    check_same(
        lambda cp: replace_norms(DLA('46_c', out_indices=(2, 3), with_cp=cp), Doubles),
        torch.randn(X),
        with_cp,
    )


@pytest.mark.parametrize('with_cp', MODES)
def test_reverted_sync_norms(with_cp):
    """What mmengine makes of SyncBN in a single process."""
    from mmengine.model import revert_sync_batchnorm

    def build(cp):
        norm_cfg = dict(type='SyncBN')
        return revert_sync_batchnorm(DLA('46_c', out_indices=(2,), norm_cfg=norm_cfg, with_cp=cp))

    check_same(build, torch.randn(X), with_cp)


@pytest.mark.parametrize('with_cp', MODES)
def test_blocks_of_mmpretrain(with_cp):
    pytest.importorskip('mmpretrain')
    blocks = [
        dict(type='mmdla.ResNetBasicBlock', with_cp=True),
        dict(type='mmdla.InvertedResidual'),
        dict(type='mmdla.ConvNeXtBlock', drop_path_rate=0.3),  # random, and of matrix products
    ]
    for block in blocks:
        arch = dict(block=block, tree_depths=RES, channels=(8,) * 6)
        check_same(lambda cp, a=arch: DLA(a, out_indices=(3,), with_cp=cp), torch.randn(X), with_cp)


@needs_selective
def test_what_the_selective_mode_cannot_do_is_an_error():
    """PyTorch's own: a second backward pass, a convolution's output changed in place."""
    model = DLA('46_c', out_indices=(2,), with_cp='norm').train()
    loss = model(torch.randn(X))[0].mean()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='backward an extra time'):
        loss.backward()

    class InPlace(nn.Module):
        def __init__(self, in_channels, out_channels, stride=1):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)

        def forward(self, x):
            return self.conv(x).relu_()

    model = DLA(dict(HALVED, block=InPlace), out_indices=(2,), with_cp='norm').train()
    with pytest.raises(RuntimeError, match='has been mutated'):
        model(torch.randn(X))[0].mean().backward()


# -- others who decide what is stored -------------------------------------------------------------


@pytest.mark.parametrize('with_cp', [False, *MODES])
def test_within_somebodys_checkpoint(with_cp):
    class Outer(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return checkpoint(self.model, x, use_reentrant=False)

    model, x = NETWORKS['up'](with_cp), torch.randn(X)
    # The inner selective checkpoint goes on storing what convolutions compute.
    share = 0.6 if with_cp == 'norm' else 0.2
    assert saved_bytes(Outer(model), x) < share * saved_bytes(NETWORKS['up'](False), x)
    parameters = list(model.parameters())
    found = torch.autograd.grad(Outer(model)(x)[0].square().mean(), parameters)
    wanted = torch.autograd.grad(model(x)[0].square().mean(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))


def test_within_offloading():
    """What a user of `save_on_cpu` gets by default is plain PyTorch's, and the same gradients."""
    model, x = NETWORKS['up'](False).train(), torch.randn(X)
    packed = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(1) or t, lambda t: t)
    with hooks:
        (out,) = model(x)
    out.mean().backward()
    assert len(packed) > 50
    with torch.autograd.graph.save_on_cpu():
        model(x)[0].mean().backward()


def test_functional_transforms_work():
    model = DLA('46_c', out_indices=(3,), norm_cfg=dict(type='BN', track_running_stats=False))
    parameters = dict(model.named_parameters())
    x = torch.randn(X)

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,))[0].square().mean()

    found = torch.func.grad(loss)(parameters)
    model(x)[0].square().mean().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad)


@pytest.mark.parametrize('with_cp', MODES)
def test_without_gradients_nothing_is_done(with_cp, monkeypatch):
    from mmdla.models.layers import recompute as function

    module = __import__(function.__module__, fromlist=['checkpoint'])
    monkeypatch.setattr(module, 'checkpoint', lambda *_, **__: pytest.fail('recomputes'))
    model, x = NETWORKS['up'](with_cp), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model.train()(x)
        wanted = model.eval()(x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(model, x)
    torch.testing.assert_close(traced(x)[0], wanted)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x)[0], wanted)
    model.requires_grad_(False)(x)


# -- levels to recompute --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('build', 'levels'),
    [
        (lambda **kwargs: DLA('46_c', **kwargs), [0, 2, 5]),
        (lambda **kwargs: DRN('d_22', **kwargs), (1, 4)),
        (lambda **kwargs: DRN('a_18', **kwargs), [3]),
    ],
    ids=['dla', 'drn_d', 'drn_a'],
)
def test_chosen_levels_are_recomputed(build, levels):
    model, lean, full = (build(with_cp=w) for w in (False, levels, True))
    x = torch.randn(2, 3, 64, 64)
    lean.load_state_dict(model.state_dict())
    check_equal(seen(lean, x), seen(model, x))
    runs = []
    parts = [('stem', lean.stem_modules()[0]), *((i, m) for i, m in lean.levels())]
    for name, module in parts:
        module.register_forward_pre_hook(lambda *_, name=name: runs.append(name))
    lean.train()
    sum(out.mean() for out in lean(x)).backward()
    first = lean.numbers[0]
    again = {name for name in runs if runs.count(name) == 2}
    assert again == set(levels) | ({'stem'} if first in levels else set())
    assert saved_bytes(full, x) < saved_bytes(lean, x) < saved_bytes(model, x)


@pytest.mark.parametrize(
    ('build', 'error', 'message'),
    [
        (lambda: DLA('46_c', with_cp=[6]), ValueError, r'with_cp=\[6\].*levels from 0 to 5'),
        (lambda: DLA('46_c', out_indices=(1,), with_cp=[2]), ValueError, r'from 0 to 1, .*\(1,\)'),
        (lambda: DLA('46_c', with_cp=[True]), ValueError, r'with_cp=\[True\]'),
        (
            lambda: DLA('46_c', with_cp=2),
            TypeError,
            'with_cp=2: must be True, False, "norm", or a list',
        ),
        (lambda: DLA('46_c', with_cp='all'), TypeError, "with_cp='all'"),
        (lambda: DRN('d_22', with_cp=(0,)), ValueError, r'with_cp=\(0,\).*levels from 1 to 8'),
        (
            lambda: IDAUp([4, 8], with_cp=[0]),
            ValueError,
            r"with_cp=\[0\]: must be True, False or 'norm'",
        ),
        (lambda: IDAUp([4, 8], with_cp='all'), ValueError, "with_cp='all'"),
    ],
)
def test_impossible_values_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize('build', [DLA, DRN, lambda with_cp: IDAUp([4, 8], with_cp=with_cp)])
def test_an_older_pytorch_is_named(build, monkeypatch):
    monkeypatch.delattr(torch.utils.checkpoint, 'create_selective_checkpoint_contexts', raising=False)
    with pytest.raises(RuntimeError, match=r"with_cp='norm': needs .* PyTorch 2\.4; this is"):
        build(with_cp='norm')


# -- the compiler's graph -------------------------------------------------------------------------


class WithHead(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x))


def graph_network(name: str, with_cp: bool | str) -> nn.Module:
    if name == 'classification':
        return DLA('34', out_indices=(5,), with_cp=with_cp)
    pytest.importorskip('mmseg')
    from mmdla.models import BoundaryHead, IDAUpHead, LinearHead

    if name == 'drn':
        return WithHead(DRN('d_22', with_cp=with_cp), LinearHead(512, num_classes=19))
    head = dict(small=IDAUpHead, segmentation=IDAUpHead, boundaries=BoundaryHead)[name]
    arch, indices = ('46_c', (1, 2, 3)) if name == 'small' else ('34', (1, 2, 3, 4, 5))
    backbone = DLA(arch, out_indices=indices, with_cp=with_cp)
    kwargs = {} if head is BoundaryHead else dict(num_classes=19)
    channels = [backbone.channels[i] for i in indices]
    return WithHead(backbone, head(channels, with_cp=with_cp, **kwargs))


LARGE = [
    pytest.param(name, with_cp, marks=[pytest.mark.slow] + [needs_selective] * (with_cp == 'norm'))
    for name in ('classification', 'segmentation', 'drn', 'boundaries')
    for with_cp in (False, 'norm', True)
]


@pytest.mark.compile
@pytest.mark.parametrize(
    ('name', 'with_cp'), [('small', True), pytest.param('small', 'norm', marks=needs_selective), *LARGE]
)
def test_one_graph_without_breaks(name, with_cp):
    if with_cp and not hasattr(torch.compiler, 'is_compiling'):
        pytest.skip('compilers before PyTorch 2.3 fail at it')
    model = graph_network(name, with_cp)
    for mode in (True, False):
        torch._dynamo.reset()
        found = torch._dynamo.explain(model.train(mode))(torch.randn(2, 3, 64, 96))
        reasons = [str(reason.reason) for reason in found.break_reasons]
        assert (found.graph_count, found.graph_break_count) == (1, 0), reasons


@pytest.mark.compile
@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_compiling'), reason='compilers before PyTorch 2.3 fail at it'
)
@pytest.mark.parametrize('with_cp', MODES)
def test_under_the_compiler_changes_nothing(with_cp):
    torch._dynamo.reset()
    plain, lean = (DLA('46_c', out_indices=(2,), with_cp=cp) for cp in (False, with_cp))
    lean.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (plain, torch.compile(lean, backend='aot_eager', fullgraph=True)):
        model(x)[0].square().mean().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), lean.named_parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
        assert math.isfinite(b.grad.sum())
    for (name, a), (_, b) in zip(plain.named_buffers(), lean.named_buffers()):
        torch.testing.assert_close(a, b, msg=name)


def test_arguments_by_name():
    neck = IDAUp([4, 8])
    maps = [torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)]
    torch.testing.assert_close(neck(inputs=maps), neck(maps))
    with pytest.raises(TypeError, match='conv2d'):
        neck([torch.randn(1, 4, 8, 8), 3])
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'inputs'"):
        neck()
