"""What training keeps: maps that are made again in backward, recomputed levels, the compiler's graph."""

from __future__ import annotations

import copy
import gc
import math
import weakref

import pytest
import torch
from conftest import run_ranks
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdla.models import DLA, DRN, IDAUp
from mmdla.models.layers import AggregationNode, BasicBlock, keep_all, norm_act, remake, remaking
from mmdla.utils.memory import peak_bytes, saved_bytes

X = (2, 3, 65, 64)
MIB = 2**20


@pytest.fixture(autouse=True)
def _all_sizes(monkeypatch):
    """Small maps are made again too, as large ones are outside of tests."""
    monkeypatch.setattr(remake, 'LEAST_MAP', 0)
    monkeypatch.setattr(remake, 'LEAST_INPUT', 0)


@pytest.fixture
def made(monkeypatch) -> list[remake.Remake]:
    """What was made again, or was still there, since."""
    found, again = [], remake.Remake._again
    monkeypatch.setattr(remake.Remake, '_again', lambda self: found.append(self) or again(self))
    return found


class UpNet(nn.Module):
    """A backbone and IDA-up."""

    def __init__(self, backbone: nn.Module, with_cp: bool = False, **kwargs):
        super().__init__()
        self.backbone = backbone
        channels = [backbone.channels[i] for i in backbone.out_indices]
        self.neck = IDAUp(channels, with_cp=with_cp, **kwargs)

    def forward(self, x):
        return self.neck(self.backbone(x))


def seen(model: nn.Module, x: torch.Tensor, steps: int = 1, retain: bool = False) -> dict:
    """What a step gives: outputs, gradients and buffers, of a copy of the model."""
    model = copy.deepcopy(model).train()
    x = x.clone().requires_grad_()
    for _ in range(steps):
        outs = model(x)
        loss = sum((out.float() * out.float().cos()).mean() for out in outs)
        if retain:
            loss.backward(retain_graph=True)
        loss.backward()
    found = {f'output {i}': out.detach() for i, out in enumerate(outs)}
    found |= {f'gradient of {n}': p.grad for n, p in model.named_parameters()}
    return found | dict(model.named_buffers()) | {'gradient of x': x.grad}


def check_same(model: nn.Module, x: torch.Tensor, **kwargs) -> None:
    """A step is the same as with every map kept, to the bit."""
    found = seen(model, x, **kwargs)
    with keep_all():
        wanted = seen(model, x, **kwargs)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name] is value is None) or torch.equal(found[name], value), name


class Halved(nn.Module):
    """A user's block: of another shape than ours, with a checkpoint and a view inside."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        a, b = norm_act(self.bn, self.act, self.conv(x)).chunk(2, 1)
        a = checkpoint(lambda x: x.sigmoid() * x, a, use_reentrant=False)
        return torch.cat([a.exp(), b * b], 1)


RES = (1, 1, 1, 1, 1, 1)
NETWORKS = {
    '34': lambda: DLA('34'),
    '60_res2net': lambda: DLA('60_res2net', out_indices=(2, 3)),
    '102': lambda: DLA('102', out_indices=(2, 3)),
    'up': lambda: UpNet(DLA('46_c', out_indices=(1, 2, 3, 4))),
    'up centernet': lambda: UpNet(DLA('46x_c', out_indices=(1, 2, 3)), form='centernet'),
    'levels': lambda: UpNet(DLA('46_c', out_indices=(1, 2, 3), with_cp=[0, 2]), with_cp=True),
    'frozen': lambda: DLA('46_c', out_indices=(2, 3), frozen_stages=2),
    'norm_eval': lambda: DLA('46_c', out_indices=(2, 3), norm_eval=True),
    'ELU': lambda: DLA('46_c', out_indices=(3,), act_cfg=dict(type='ELU')),
    'LeakyReLU': lambda: DLA('46_c', out_indices=(3,), act_cfg=dict(type='LeakyReLU')),
    'ReLU6': lambda: DLA('46_c', out_indices=(3,), act_cfg=dict(type='ReLU6')),
    'GELU': lambda: DLA('46_c', out_indices=(3,), act_cfg=dict(type='GELU')),
    'not in place': lambda: DLA('46_c', out_indices=(3,), act_cfg=dict(type='ReLU', inplace=False)),
    'GN': lambda: DLA('46_c', out_indices=(3,), norm_cfg=dict(type='GN', num_groups=8)),
    'no statistics': lambda: DLA(
        '46_c', out_indices=(3,), norm_cfg=dict(type='BN', track_running_stats=False)
    ),
    'own block': lambda: DLA(
        dict(block=Halved, depths=RES, channels=(8,) * 6), out_indices=(3, 4), aggregation='ida'
    ),
    'drn_a_18': lambda: DRN('a_18'),
    'drn_c_26': lambda: DRN('c_26', out_indices=(3, 7)),
    'drn_d_22': lambda: DRN('d_22', out_indices=(3, 8)),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_trains_the_same_to_the_bit(name):
    model = NETWORKS[name]()
    getattr(model, 'backbone', model).init_weights()
    check_same(model, torch.randn(X))


def test_steps_in_a_row_and_backward_twice():
    model = NETWORKS['up']()
    check_same(model, torch.randn(X), steps=2)
    check_same(model, torch.randn(X), retain=True)


def test_channels_last_is_the_same():
    model = NETWORKS['up']().to(memory_format=torch.channels_last)
    check_same(model, torch.randn(X).to(memory_format=torch.channels_last))


def test_mixed_precision_is_the_same_and_keeps_less(made):
    model = NETWORKS['up']().train()
    x = torch.randn(X)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        check_same(model, x)
        # so large that the weights in bfloat16 do not count
        x = torch.randn(2, 3, 160, 160)
        lean = saved_bytes(model, x)
        with keep_all():
            plain = saved_bytes(model, x)
    assert made
    assert lean < 0.7 * plain


def test_second_derivatives_are_the_same():
    model = nn.Sequential(BasicBlock(4, 4), AggregationNode([4, 2], 4)).double()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.node = model

        @remaking
        def forward(self, x):
            return self.node(self.block(x), x[:, :2])

    net, x = Net().train(), torch.randn(2, 4, 5, 6, dtype=torch.double, requires_grad=True)

    def second():
        (first,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    with keep_all():
        wanted = second()
    assert torch.equal(second(), wanted)
    # batch norm without what it learns of earlier calls
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0
    assert torch.autograd.gradcheck(net, (x,))


def test_a_part_of_the_graph_is_asked_first():
    model = NETWORKS['34']().train()
    x = torch.randn(X)
    weights = [model.level3.root.conv.weight] if hasattr(model.level3, 'root') else []
    weights += [model.base_layer[0].weight, model.level5.root.conv.weight]

    def twice():
        state = copy.deepcopy(model.state_dict())
        loss = sum(out.square().mean() for out in model(x))
        parts = [torch.autograd.grad(loss, w, retain_graph=True)[0] for w in reversed(weights)]
        parts += torch.autograd.grad(loss, list(model.parameters()))
        model.load_state_dict(state)
        return parts

    found = twice()
    with keep_all():
        wanted = twice()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))


# -- what is kept ---------------------------------------------------------------------------------


def hooked_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """What an outer pair of hooks sees, which nobody's inner hooks may hide."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with keep_all(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(x)
    del out
    return sum(storages.values())


@pytest.mark.parametrize('name', ['34', 'up', 'drn_a_18', 'GN', 'own block'])
def test_saved_bytes_are_those_that_autograd_packs(name):
    model, x = NETWORKS[name](), torch.randn(X)
    with keep_all():
        found = saved_bytes(model, x)
    assert found == hooked_bytes(model, x) or name == 'own block'  # whose checkpoint hides some
    assert saved_bytes(model, x) < found or name == 'GN'
    assert saved_bytes(model, x) == saved_bytes(model, x), 'it leaves nothing behind'


def test_saved_bytes_of_plain_modules():
    x = torch.randn(4, 10)
    sigmoid = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid())
    assert saved_bytes(sigmoid, x) == x.nbytes + 4 * 20 * 4
    assert saved_bytes(nn.Identity(), x) == 0
    assert saved_bytes(nn.Sequential(nn.Linear(10, 20), nn.Flatten()), x) == x.nbytes
    assert peak_bytes(sigmoid, x) >= saved_bytes(sigmoid, x)


def test_a_stride_of_2_keeps_half():
    """DLA-34 2s at 1x3x512x1024 keeps 491 MiB of 906, and 151 with_cp; the peak falls with it."""

    def kept(with_cp=False):
        indices = (1, 2, 3, 4, 5)
        net = UpNet(DLA('34', out_indices=indices, with_cp=with_cp), with_cp=with_cp)
        small = UpNet(DLA('46_c', out_indices=indices, with_cp=with_cp), with_cp=with_cp)
        saved = saved_bytes(net, torch.randn(1, 3, 64, 128))
        return saved, peak_bytes(small, torch.randn(1, 3, 256, 256))

    with keep_all():
        plain, plain_peak = kept()
    lean, lean_peak = kept()
    recomputed, recomputed_peak = kept(True)
    assert lean < 0.58 * plain
    assert recomputed < 0.2 * plain
    assert recomputed_peak < lean_peak < 0.75 * plain_peak


def test_what_others_keep_is_not_made(made):
    """Levels that go to somebody's convolution are kept by it, and so not computed again."""
    backbone = DLA('46_c', out_indices=(1, 2, 3)).train()
    heads = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in backbone.channels[1:4])
    x = torch.randn(X)
    levels = backbone(x)
    outs = [head(level) for head, level in zip(heads, levels)]
    kept = [weakref.ref(level) for level in levels]
    del levels
    assert all(level() is not None for level in kept)
    sum(out.square().mean() for out in outs).backward()
    assert made
    check_same(backbone, x)


@pytest.mark.parametrize('backward', [True, False])
def test_nothing_is_left(backward, made):
    """After backward, or when the output is dropped without: no map, nothing noted."""
    model = NETWORKS['up']().train()
    refs = []
    convs = [m for m in model.modules() if isinstance(m, (nn.Conv2d, AggregationNode))]
    hooks = [m.register_forward_hook(lambda m, x, y: refs.append(weakref.ref(y))) for m in convs]
    gc.disable()  # nothing waits for the collector
    try:
        for _ in range(2):
            (out,) = model(torch.randn(X))
            if backward:
                out.square().mean().backward()
            kept = out.detach().clone()
            del out
            assert refs
            assert not [r for r in refs if r() is not None]
            assert not remake._state.remakes
    finally:
        gc.enable()
    assert kept.isfinite().all()
    assert bool(made) is backward
    for hook in hooks:
        hook.remove()


def test_an_output_that_is_held_holds_no_more():
    """Who keeps a backbone's level does not keep what it was made of."""
    model = DLA('46_c', out_indices=(2,)).train()
    refs = []
    model.level2.root.conv.register_forward_hook(lambda m, x, y: refs.append(weakref.ref(y)))
    (level,) = model(torch.randn(X))
    level.square().mean().backward()
    value = level.detach()
    del level
    assert refs[0]() is None
    assert value.isfinite().all()


def test_an_exception_in_forward_leaves_no_hooks():
    class Breaks(AggregationNode):
        def forward(self, *inputs):
            super().forward(*inputs)
            raise ArithmeticError('broken')

    model = DLA('46_c', out_indices=(2,), node=Breaks).train()
    with pytest.raises(ArithmeticError):
        model(torch.randn(X))
    assert not remake._state.active
    assert not remake._hooked()
    check_same(NETWORKS['up'](), torch.randn(X))


def test_small_maps_are_kept(monkeypatch, made):
    model = NETWORKS['up']().train()
    monkeypatch.setattr(remake, 'LEAST_INPUT', MIB)
    model(torch.randn(X))[0].mean().backward()
    assert not made
    monkeypatch.setattr(remake, 'LEAST_INPUT', 0)
    monkeypatch.setattr(remake, 'LEAST_MAP', MIB)
    model(torch.randn(X))[0].mean().backward()
    assert not made


# -- what must be seen ----------------------------------------------------------------------------


def test_changes_in_place_are_seen():
    """What autograd refuses is refused with the hooks too."""

    class Spoils(nn.Module):
        def __init__(self, what):
            super().__init__()
            self.conv, self.bn, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
            self.what = what

        @remaking
        def forward(self, x):
            y = self.conv(x)
            z = norm_act(self.bn, self.act, y)
            if self.what == 'input':
                y.mul_(2)
            if self.what == 'output':
                return z.mul_(2)
            return z

    x = torch.randn(X)
    model = Spoils('input')
    for context in (keep_all, torch.enable_grad):
        with context(), pytest.raises(RuntimeError, match='modified by an inplace operation'):
            model(x).square().mean().backward()
    model = Spoils('none')
    out = model(x).square().mean()
    with torch.no_grad():
        model.bn.weight.mul_(2)
    with pytest.raises(RuntimeError, match=r'inplace operation.*is at version \d+; expected'):
        out.backward()
    # Autograd refuses this, having nothing to take the value from; here it is made again.
    model = Spoils('output')
    with keep_all(), pytest.raises(RuntimeError, match='modified by an inplace operation'):
        model(x).square().mean().backward()
    loss = model(x).square().mean()
    found = torch.autograd.grad(loss, model.conv.weight)[0]
    other = Spoils('none')
    other.load_state_dict(model.state_dict())
    wanted = torch.autograd.grad((other(x) * 2).square().mean(), other.conv.weight)[0]
    torch.testing.assert_close(found, wanted)


class Doubles(nn.BatchNorm2d):
    """A norm of somebody's own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Syncs(nn.SyncBatchNorm):
    """SyncBN as the CPU can run it."""

    def forward(self, x):
        return torch.batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var, True, 0.1, self.eps, False
        )


@pytest.mark.parametrize('kind', [Doubles, Syncs])
def test_other_norms_are_kept(kind, made):
    model = DLA('46_c', out_indices=(2, 3)).train()
    for name, module in list(model.named_modules()):
        if type(module) is nn.BatchNorm2d:
            parent, _, child = name.rpartition('.')
            setattr(model.get_submodule(parent), child, kind(module.num_features))
    check_same(model, torch.randn(X))
    assert {again.make for again in made} == {remake._cat}


def test_reverted_sync_norms_are_made_again(made):
    """What mmengine makes of SyncBN in a single process."""
    from mmengine.model import revert_sync_batchnorm

    model = DLA('46_c', out_indices=(2, 3), norm_cfg=dict(type='SyncBN'))
    model = revert_sync_batchnorm(model)
    check_same(model, torch.randn(X))
    assert {again.make for again in made} - {remake._cat}


@pytest.mark.parametrize('where', ['norm', 'act', 'forward'])
def test_layers_that_somebody_changed_are_kept(where):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.act = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
            self.last = nn.Conv2d(8, 8, 1)

        @remaking
        def forward(self, x):
            return (self.last(norm_act(self.bn, self.act, self.conv(x))),)

    model = Net()
    if where == 'forward':
        forward = model.bn.forward
        model.bn.forward = lambda x: forward(x) * 2
    else:
        module = model.bn if where == 'norm' else model.act
        module.register_forward_hook(lambda m, x, y: y * 2)
    x = torch.randn(X)

    def gradients():
        model.zero_grad()
        model(x)[0].square().mean().backward()
        return [p.grad.clone() for p in model.parameters()]

    found = gradients()
    with keep_all():
        assert all(torch.equal(a, b) for a, b in zip(found, gradients()))


def test_blocks_of_mmpretrain():
    pytest.importorskip('mmpretrain')
    for block in (dict(type='ResNetBasicBlock', with_cp=True), 'InvertedResidual'):
        block = dict(type=block) if isinstance(block, str) else block
        block['type'] = f'mmdla.{block["type"]}'
        model = DLA(dict(block=block, depths=RES, channels=(8,) * 6), out_indices=(3,))
        check_same(model, torch.randn(X))


# -- others who decide what is kept ---------------------------------------------------------------


def test_within_somebodys_checkpoint_nothing_is_packed(made):
    model, x = NETWORKS['up']().train(), torch.randn(X)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return checkpoint(self.model, x, use_reentrant=False)

    assert saved_bytes(Outer(), x) < 0.2 * saved_bytes(model, x)
    made.clear()
    Outer()(x)[0].mean().backward()
    assert not made


def test_within_offloading_the_tensors_are_offloaded(made):
    model = NETWORKS['up']().train()
    with torch.autograd.graph.save_on_cpu():
        (out,) = model(torch.randn(X))
    out.mean().backward()
    assert not made


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


def test_without_training_there_are_no_hooks(made):
    model = NETWORKS['up']()
    model.eval()
    model(torch.randn(X))[0].mean().backward()
    model.train()
    with torch.no_grad():
        model(torch.randn(X))
    assert not made


RANKS = """
from mmdla.models import DLA, IDAUp
from mmdla.models.layers import keep_all, remake
remake.LEAST_MAP = remake.LEAST_INPUT = 0
again, made = remake.Remake._again, []
remake.Remake._again = lambda self: made.append(1) or again(self)

def train():
    torch.manual_seed(0)
    backbone = DLA('46_c', out_indices=(1, 2, 3))
    model = DistributedDataParallel(
        torch.nn.Sequential(backbone, IDAUp(backbone.channels[1:4])), bucket_cap_mb=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(dist.get_rank())
    for step in range(2):
        with model.no_sync():  # accumulated
            model(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
        model(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()

found = train()
count = len(made)
with keep_all():
    wanted = train()
assert count and len(made) == count
assert all(torch.equal(v, wanted[k]) for k, v in found.items())
print('the same')
"""


def test_processes_and_accumulation(tmp_path):
    assert run_ranks(tmp_path, RANKS).count('the same') == 2


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
    found, wanted = seen(lean, x), seen(model, x)
    assert all(torch.equal(v, found[k]) for k, v in wanted.items())
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
        (lambda: DLA('46_c', with_cp=2), TypeError, 'with_cp=2: must be True, False, or a list'),
        (lambda: DLA('46_c', with_cp='all'), TypeError, "with_cp='all'"),
        (lambda: DRN('d_22', with_cp=(0,)), ValueError, r'with_cp=\(0,\).*levels from 1 to 8'),
    ],
)
def test_levels_that_are_not_there_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


# -- the compiler's graph -------------------------------------------------------------------------


class WithHead(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x))


def graph_network(name: str, with_cp: bool) -> nn.Module:
    if name == 'classification':
        return DLA('34', out_indices=(5,), with_cp=with_cp)
    pytest.importorskip('mmseg')
    from mmdla.models import BoundaryHead, IDAUpHead, LinearHead

    if name == 'drn':
        return WithHead(DRN('d_22', with_cp=with_cp), LinearHead(512, num_classes=19))
    head = dict(segmentation=IDAUpHead, boundaries=BoundaryHead)[name]
    backbone = DLA('34', out_indices=(1, 2, 3, 4, 5), with_cp=with_cp)
    kwargs = {} if head is BoundaryHead else dict(num_classes=19)
    return WithHead(backbone, head(backbone.channels[1:], with_cp=with_cp, **kwargs))


GRAPHS = [
    pytest.param('classification', False, marks=pytest.mark.slow),
    ('segmentation', True),
    pytest.param('segmentation', False, marks=pytest.mark.slow),
    pytest.param('classification', True, marks=pytest.mark.slow),
    ('drn', False),
    pytest.param('drn', True, marks=pytest.mark.slow),
    pytest.param('boundaries', False, marks=pytest.mark.slow),
    pytest.param('boundaries', True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(('name', 'with_cp'), GRAPHS)
def test_one_graph_without_breaks(name, with_cp):
    if with_cp and not hasattr(torch.compiler, 'is_compiling'):
        pytest.skip('compilers before PyTorch 2.3 fail at it')
    model = graph_network(name, with_cp)
    for mode in (True, False):
        torch._dynamo.reset()
        found = torch._dynamo.explain(model.train(mode))(torch.randn(2, 3, 64, 96))
        reasons = [str(reason.reason) for reason in found.break_reasons]
        assert (found.graph_count, found.graph_break_count) == (1, 0), reasons


def test_levels_are_sequences_still():
    """Parts of a level, and layers put after it, run."""
    level = DLA('46_c').level0
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(level[:2](x), level[1](level[0](x)))
    torch.testing.assert_close(level[:1](x), level[0](x))
    assert (level.append(nn.Softmax(1))(x).sum(1) - 1).abs().max() < 1e-5


def test_arguments_by_name():
    neck = IDAUp([4, 8])
    maps = [torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)]
    torch.testing.assert_close(neck(inputs=maps), neck(maps))
    with pytest.raises(TypeError, match='conv2d'):
        neck([torch.randn(1, 4, 8, 8), 3])
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'inputs'"):
        neck()


def test_under_the_compiler_nothing_is_packed(made):
    model = DLA('46_c', out_indices=(2,)).train()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    compiled(torch.randn(X))[0].square().mean().backward()
    assert not made
    assert all(math.isfinite(p.grad.sum()) for p in model.parameters())
