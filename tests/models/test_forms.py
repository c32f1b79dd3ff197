"""The six forms of Figure 2: equations written out once more, every block and node, export, DDP."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import random_norms
from mmengine.model import BaseModule
from torch import nn

from mmdla.models import DLA
from mmdla.models.layers import (
    FORMS,
    HDA,
    IDA,
    AggregationNode,
    AggregationTree,
    BasicBlock,
    Bottleneck,
    Chain,
    PooledNode,
    ReentrantTree,
    ShallowSkips,
    SumNode,
)

PAPERS_BLOCKS = ['basic', 'bottleneck', 'split', 'res2net']
MMPRETRAINS_BLOCKS = [
    'mmdla.ResNetBasicBlock',
    'mmdla.ResNetBottleneck',
    'mmdla.ResNeXtBottleneck',
    'mmdla.ConvNeXtBlock',
    'mmdla.InvertedResidual',
    'mmdla.RepVGGBlock',
]


def small(block, **kwargs) -> DLA:
    """A DLA of few and narrow layers, with two trees of depth 2."""
    arch = dict(block=block, tree_depths=(1, 2, 2, 1), channels=(8, 16, 64, 64, 128, 128))
    return DLA(arch, **kwargs)


# -- equations ------------------------------------------------------------------------------------


class Literal:
    """Each form as its equation, over the blocks and nodes of a stage in the order they are used."""

    def __init__(self, stage: nn.Module, stride: int, given: bool):
        modules = list(stage.named_modules())
        self.blocks = iter([m for _, m in modules if isinstance(m, BasicBlock)])
        self.nodes = [m for _, m in modules if isinstance(m, AggregationNode)]
        self.project = next(m for n, m in modules if n.split('.')[-1] == 'project' and m is not None)
        self.stride, self.given = stride, given

    def start(self, x):
        """First block's output, and what the stage is given beside the blocks' outputs."""
        pooled = F.max_pool2d(x, self.stride)
        return next(self.blocks)(x, self.project(pooled)), [pooled] if self.given else []

    def outputs(self, depth, x):
        first, given = self.start(x)
        outs = [first]
        for _ in range(2**depth - 1):
            outs.append(next(self.blocks)(outs[-1]))
        return outs, given

    def none(self, depth, x):
        return self.outputs(depth, x)[0][-1]

    def shallow(self, depth, x):
        """S(x1, ..., xn) = xn if n = 1 else N(x1, S(x2, ..., xn))"""
        outs, given = self.outputs(depth, x)
        nodes = iter(self.nodes)  # the deepest is used first

        def skips(xs):
            if len(xs) == 1:
                return xs[0]
            deep = skips(xs[1:])
            return next(nodes)(xs[0], deep)

        return skips([*given, *outs])

    def ida(self, depth, x):
        """I(x1, ..., xn) = x1 if n = 1 else I(N(x1, x2), ..., xn)"""
        outs, given = self.outputs(depth, x)
        nodes = iter(self.nodes)

        def iterate(xs):
            return xs[0] if len(xs) == 1 else iterate([next(nodes)(xs[0], xs[1]), *xs[2:]])

        return iterate([*given, *outs])

    def tree(self, depth, x):
        """A(x1) = x1, A(x1, ..., x2m) = N(A(xm+1, ..., x2m), A(x1, ..., xm)), the root given more"""
        outs, given = self.outputs(depth, x)
        nodes = iter(self.nodes)

        def join(xs, more=()):
            if len(xs) == 1:
                return xs[0]
            half = len(xs) // 2
            shallow, deep = join(xs[:half]), join(xs[half:])
            return next(nodes)(deep, shallow, *more)

        return join(outs, given)

    def reentrant(self, depth, x):
        """T_0 = B, T_n(x) = N(T_n-1(T_n-1(x)), T_n-1(x)), the root given more"""
        first, given = self.start(x)
        nodes = iter(self.nodes)
        begun = iter([first])

        def block(x):
            return next(begun, None) if x is None else next(self.blocks)(x)

        def tree(n, x, more=()):
            if n == 0:
                return block(x)
            left = tree(n - 1, x)
            right = tree(n - 1, left)
            return next(nodes)(right, left, *more)

        return tree(depth, None, given)

    def hda(self, depth, x):
        """Equation (2), by its own letters."""
        first, given = self.start(x)
        nodes = iter(self.nodes)
        begun = iter([first])

        def block(x):
            return next(begun) if x is None else next(self.blocks)(x)

        def T(n, x, more=()):
            R = {}
            for m in range(n - 1, 0, -1):
                R[m] = T(m, x if m == n - 1 else R[m + 1])
            L1 = block(R[1] if n > 1 else x)
            L2 = block(L1)
            return next(nodes)(L2, L1, *more, *(R[m] for m in range(n - 1, 0, -1)))

        return T(depth, None, given)


@pytest.mark.parametrize('given', [False, True], ids=['', 'input'])
@pytest.mark.parametrize('depth', [1, 2, 3, 4])
@pytest.mark.parametrize('form', FORMS)
def test_form_is_its_equation(form, depth, given):
    if form == 'none' and given:
        pytest.skip('has no node to take the input')
    stride = 1 + depth % 2
    node = partial(AggregationNode, kernel_size=1 + 2 * (depth == 2), residual=depth == 3, bias=True)
    stage = FORMS[form](depth, BasicBlock, 4, 6, stride, aggregate_input=given, node=node)
    random_norms(stage)
    x = torch.randn(2, 4, 10, 12)
    wanted = getattr(Literal(stage, stride, given), form)(depth, x)
    torch.testing.assert_close(stage(x), wanted)


NODES = dict(none=0, shallow=3, ida=3, tree=3, reentrant=3, hda=2)


@pytest.mark.parametrize('form', FORMS)
def test_forms_share_blocks_and_count_their_nodes(form):
    stage = FORMS[form](2, BasicBlock, 4, 6)
    modules = list(stage.modules())
    assert sum(isinstance(m, BasicBlock) for m in modules) == 4
    assert sum(isinstance(m, AggregationNode) for m in modules) == NODES[form]
    names = [n for n, m in stage.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if form != 'none':  # tools that look for the last normalization find a node's
        assert names[-1].rpartition('.')[2] == 'bn'


def test_equal_parameters_at_other_widths():
    """What docs/aggregation.md says."""
    arch = dict(block='basic', tree_depths=(1, 2, 2, 1), channels=(16, 32, 68, 132, 264, 532))
    models = DLA('34'), DLA(arch, aggregation='none')
    counts = [sum(p.numel() for p in m.parameters()) / 1e6 for m in models]
    assert [round(c, 2) for c in counts] == [15.23, 15.14]


def test_at_depth_1_the_trees_are_one():
    reference = random_norms(HDA(1, BasicBlock, 4, 6, 2))
    weights = [*reference.state_dict().values()]
    x = torch.randn(1, 4, 9, 8)
    for form in ('tree', 'reentrant'):
        stage = FORMS[form](1, BasicBlock, 4, 6, 2).eval()
        assert len(stage.state_dict()) == len(weights)
        blocks = [m for m in reference.modules() if isinstance(m, BasicBlock)]
        for a, b in zip([m for m in stage.modules() if isinstance(m, BasicBlock)], blocks):
            a.load_state_dict(b.state_dict())
        stage.project.load_state_dict(reference.project.state_dict())
        node = next(m for m in stage.modules() if isinstance(m, AggregationNode))
        node.load_state_dict(reference.root.state_dict())
        torch.testing.assert_close(stage(x), reference(x))


# -- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize('form', FORMS)
def test_forms_dilate_exactly(form):
    strided = random_norms(small('bottleneck', aggregation=form))
    dense = small('bottleneck', aggregation=form, output_stride=8).eval()
    dense.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, 65, 64)
    for a, b, step in zip(dense(x), strided(x), (1, 1, 2, 4)):
        torch.testing.assert_close(a[..., ::step, ::step], b, rtol=1e-3, atol=1e-4)


def test_link_levels_gives_the_input_to_a_node():
    linked, alone = small('basic'), small('basic', link_levels=False)
    assert linked.level3.tree2.root.conv.in_channels == 3 * 64 + 64
    assert alone.level3.tree2.root.conv.in_channels == 3 * 64
    # IDA goes on from level to level: the input is the shallowest that it takes.
    ida = small('basic', aggregation='ida')
    assert ida.level4.aggregation.node_1.conv.in_channels == 64 + 128


@pytest.mark.parametrize('block', MMPRETRAINS_BLOCKS)
def test_mmpretrains_blocks_serve(block):
    pytest.importorskip('mmpretrain')
    model = small(block, aggregation='hda')
    levels = model(torch.randn(2, 3, 65, 47))
    assert levels[-1].shape == (2, 128, 3, 2)
    sum(x.square().mean() for x in levels).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    # They own their shortcut: nothing of the stage's is projected for them.
    assert not [n for n, _ in model.named_parameters() if 'project' in n]


@pytest.mark.parametrize('size', [(8, 8), (9, 7)])
@pytest.mark.parametrize('name', MMPRETRAINS_BLOCKS)
def test_mmpretrains_blocks_dilate_exactly(name, size):
    """With dilation in the stride's place, every second value is what the stride gives."""
    pytest.importorskip('mmpretrain')
    from mmdla.models.layers import mmpretrain_blocks as blocks

    kind = getattr(blocks, name.removeprefix('mmdla.'))
    strided = random_norms(kind(64, 64, stride=2))
    dense = kind(64, 64, dilation=2, first_dilation=1).eval()
    dense.load_state_dict(strided.state_dict())
    x = torch.randn(1, 64, *size)
    torch.testing.assert_close(dense(x)[..., ::2, ::2], strided(x), rtol=1e-4, atol=1e-5)
    after, dilated = random_norms(kind(64, 64)), kind(64, 64, dilation=2).eval()
    dilated.load_state_dict(after.state_dict())
    wide = torch.randn(1, 64, 2 * size[0] - 1, 2 * size[1] - 1)
    wide[..., ::2, ::2] = x
    torch.testing.assert_close(dilated(wide)[..., ::2, ::2], after(x), rtol=1e-4, atol=1e-5)


def test_blocks_are_mmpretrains_own():
    pytest.importorskip('mmpretrain')
    from mmpretrain.models import RepVGG, ResNet

    from mmdla.models.layers import mmpretrain_blocks as blocks

    theirs = random_norms(ResNet(50).layer2[0])
    ours = blocks.ResNetBottleneck(256, 512, stride=2).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 256, 9, 8)
    torch.testing.assert_close(ours(x), theirs(x))
    theirs = random_norms(RepVGG('A0').stage_1[0])
    ours = blocks.RepVGGBlock(theirs.in_channels, theirs.out_channels, stride=2).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, theirs.in_channels, 9, 8)
    wanted = theirs(x)
    ours.switch_to_deploy()
    torch.testing.assert_close(ours(x), wanted, rtol=1e-4, atol=1e-4)
    assert blocks.ResNeXtBottleneck(256, 512).conv2.weight.shape == (256, 8, 3, 3)  # 32x4d's second


def test_deployed_repvgg_dilates_too():
    pytest.importorskip('mmpretrain')
    block = dict(type='mmdla.RepVGGBlock')
    trained = random_norms(small(block, output_stride=8))
    x = torch.randn(1, 3, 65, 47)
    wanted = trained(x)
    for m in trained.modules():
        if hasattr(m, 'switch_to_deploy'):
            m.switch_to_deploy()
    deployed = small(dict(block, deploy=True), output_stride=8).eval()
    deployed.load_state_dict(trained.state_dict())
    for a, b in zip(deployed(x), wanted):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_arch_may_be_a_number():
    """What `--cfg-options model.backbone.arch=34` gives."""
    assert DLA(34).channels == DLA('34').channels


def test_a_plain_callable_is_a_block():
    """The least that the contract asks for: three arguments, one tensor in, one out."""

    def convolution(in_channels, out_channels, stride):
        return nn.Conv2d(in_channels, out_channels, 3, stride, 1)

    for form in FORMS:
        assert small(convolution, aggregation=form)(torch.randn(1, 3, 33, 34))[-1].shape[1] == 128


class Zeroed(nn.Conv2d):
    """A block that knows how to begin."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__(in_channels, out_channels, 3, stride, 1)

    def init_weights(self):
        nn.init.zeros_(self.weight)


@pytest.mark.parametrize('form', FORMS)
def test_a_blocks_own_initialization_is_kept(form):
    model = small(Zeroed, aggregation=form)
    model.init_weights()
    blocks = [m for m in model.modules() if isinstance(m, Zeroed)]
    assert len(blocks) == 12
    assert all((m.weight == 0).all() for m in blocks)
    assert model.base_layer[0].weight.std() > 0


class ChannelAttention(nn.Module):
    """A node that weighs its inputs, as attentive feature aggregation does."""

    def __init__(self, in_channels, out_channels, deepest=0, reduction=4):
        super().__init__()
        width = sum(in_channels)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )
        self.join = nn.Conv2d(width, out_channels, 1)

    def forward(self, *inputs):
        x = torch.cat(inputs, 1)
        return self.join(x * self.weigh(x))


@pytest.mark.parametrize('form', [f for f in FORMS if f != 'none'])
def test_any_node_serves_in_every_form(form):
    from mmengine.registry import MODELS

    model = small('basic', aggregation=form, node=ChannelAttention)
    kinds = {type(m) for m in model.modules()}
    assert ChannelAttention in kinds
    assert AggregationNode not in kinds
    sum(x.mean() for x in model(torch.randn(2, 3, 65, 64))).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    MODELS.register_module('TestChannelAttention', force=True, module=ChannelAttention)
    model = small('basic', aggregation=form, node=dict(type='TestChannelAttention', reduction=2))
    assert next(m for m in model.modules() if isinstance(m, ChannelAttention)).weigh[1].stride == (1, 1)
    wide = small('basic', aggregation=form, node=dict(kernel_size=3, bias=True))
    node = next(m for m in wide.modules() if isinstance(m, AggregationNode))
    assert node.conv.kernel_size == (3, 3)
    assert node.conv.bias is not None


def test_another_form_of_ones_own():
    class Twice(HDA):
        pass

    model = small('basic', aggregation=Twice)
    assert type(model.level3) is Twice
    assert type(model.level3.tree1) is Twice


def test_sum_node():
    node = random_norms(SumNode([6, 6, 6], 4))
    xs = [torch.randn(2, 6, 7, 9) for _ in range(3)]
    wanted = F.conv2d(xs[0] + xs[1] + xs[2], node.conv.weight, node.conv.bias, padding=1)
    torch.testing.assert_close(node(*xs), node.bn(wanted).relu())
    with pytest.raises(ValueError, match=r'in_channels=\[4, 6\]'):
        SumNode([4, 6], 6)


# -- other networks' stages -----------------------------------------------------------------------


def test_pooled_node_brings_its_inputs_to_the_deepest():
    node = random_norms(PooledNode([4, 6], 6, deepest=1))
    shallow, deep = torch.randn(1, 4, 8, 12), torch.randn(1, 6, 4, 6)
    wanted = node.node(F.max_pool2d(shallow, 2), deep)
    torch.testing.assert_close(node(shallow, deep), wanted)
    assert node(torch.randn(1, 4, 9, 13), deep).shape == (1, 6, 4, 6)


@pytest.mark.parametrize('form', FORMS)
def test_stages_of_another_network(form):
    pytest.importorskip('mmpretrain')
    from mmpretrain.models import ResNet

    from mmdla.models import AggregatedStages

    net = random_norms(ResNet(18))
    stem = nn.Sequential(net.conv1, net.norm1, net.relu, net.maxpool)
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    model = random_norms(AggregatedStages(stages, [64, 128, 256, 512], stem, aggregation=form))
    x = torch.randn(2, 3, 64, 96)
    (out,) = model(x)
    y = stem(x)
    if form == 'none':
        torch.testing.assert_close(out, stages[3](stages[2](stages[1](stages[0](y)))))
    if form == 'hda':
        x1 = stages[0](y)
        x2 = stages[1](x1)
        left = model.stages.tree1.root(x2, x1)
        x3 = stages[2](left)
        x4 = stages[3](x3)
        torch.testing.assert_close(out, model.stages.tree2.root(x4, x3, left))
    model.train()
    (out,) = model(torch.randn(2, 3, 97, 65))
    assert out.shape == (2, 512, 4, 3)
    out.square().mean().backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None]
    assert not lacking


def test_stages_from_a_config():
    from mmengine.registry import MODELS

    stage = dict(type='Conv2d', in_channels=4, out_channels=4, kernel_size=3, stride=2, padding=1)
    cfg = dict(type='mmdla.AggregatedStages', stages=[stage, stage], channels=[4, 4], aggregation='ida')
    assert MODELS.build(cfg)(torch.randn(2, 4, 33, 17))[0].shape == (2, 4, 9, 5)


class Stage(BaseModule):
    """A stage that initializes itself."""

    def __init__(self):
        super().__init__(dict(type='Constant', layer='Conv2d', val=7.0))
        self.conv = nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x):
        return self.conv(x)


def test_stages_keep_their_own_initialization():
    from mmdla.models import AggregatedStages

    model = AggregatedStages([Stage(), Stage()], [4, 4], nn.Sequential(Stage()))
    model.init_weights()
    weights = [m.conv.weight for m in model.modules() if isinstance(m, Stage)]
    assert len(weights) == 3
    assert all((w == 7).all() for w in weights)


def test_pretrained_weights_come_last(tmp_path):
    """A stage's own initialization does not undo what a checkpoint gives."""
    from mmdla.models import AggregatedStages

    trained = AggregatedStages([Stage(), Stage()], [4, 4]).state_dict()
    torch.save(trained, tmp_path / 'trained.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'trained.pth'))
    model = AggregatedStages([Stage(), Stage()], [4, 4], init_cfg=init_cfg)
    model.init_weights()
    assert all(torch.equal(v, trained[k]) for k, v in model.state_dict().items())


def test_layers_alone_from_a_config():
    from mmengine.registry import MODELS

    xs = [torch.randn(2, 4, 9, 8) for _ in range(3)]
    ida = MODELS.build(
        dict(type='mmdla.IDA', in_channels=[4] * 3, out_channels=4, node=dict(type='mmdla.SumNode'))
    )
    assert isinstance(ida.node_2, SumNode)
    assert ida(xs).shape == (2, 4, 9, 8)
    stage = dict(depth=2, block='bottleneck', in_channels=4, out_channels=8, stride=2)
    assert MODELS.build(dict(type='mmdla.HDA', **stage))(xs[0]).shape == (2, 8, 5, 4)
    chain = MODELS.build(dict(type='mmdla.Chain', aggregation='ida', **stage))
    assert isinstance(chain.aggregation, IDA)
    model = small('basic', aggregation=dict(type='mmdla.Chain', aggregation='mmdla.ShallowSkips'))
    assert isinstance(model.level3.aggregation, ShallowSkips)
    assert small('basic', aggregation=dict(type='none')).link_levels is False


# -- export and compilation -----------------------------------------------------------------------


@pytest.mark.compile
@pytest.mark.parametrize('form', FORMS)
def test_forms_compile_and_export(form):
    stage = FORMS[form](3, BasicBlock, 4, 6, 2, aggregate_input=form != 'none').eval()
    x = torch.randn(1, 4, 9, 7)
    wanted = stage(x)
    compiled = torch.compile(stage, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(x), wanted)
    exported = torch.export.export(stage, (x,)).module()
    torch.testing.assert_close(exported(x), wanted)


def check_compiled_and_exported(model: nn.Module, x: torch.Tensor) -> None:
    torch._dynamo.reset()
    model.eval()
    wanted = model(x)
    torch.testing.assert_close(torch.compile(model, backend='eager', fullgraph=True)(x), wanted)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), wanted)


ALL = [f'{form}:{block}' for form in FORMS for block in PAPERS_BLOCKS + MMPRETRAINS_BLOCKS]
# Every form and every block at least once.
SAMPLE = [f'{list(FORMS)[i % 6]}:{b}' for i, b in enumerate(PAPERS_BLOCKS + MMPRETRAINS_BLOCKS)]


@pytest.mark.compile
@pytest.mark.parametrize(
    'pair', [p if p in SAMPLE else pytest.param(p, marks=pytest.mark.slow) for p in ALL]
)
def test_networks_compile_and_export(pair):
    form, block = pair.split(':')
    if block in MMPRETRAINS_BLOCKS:
        pytest.importorskip('mmpretrain')
    arch = dict(block=block, tree_depths=(1, 2, 1, 1), channels=(8, 16, 64, 64, 64, 64))
    check_compiled_and_exported(
        DLA(arch, out_indices=(2, 3), aggregation=form), torch.randn(1, 3, 33, 35)
    )


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (
            dict(arch=dict(block='basic', tree_depths=[1] * 4, channels=8)),
            TypeError,
            r"arch\['channels'\]=8",
        ),
        (
            dict(arch='102', node=ChannelAttention),
            ValueError,
            'node=.*must accept the argument residual',
        ),
        (dict(node=dict(kernel_size=2)), ValueError, 'kernel_size=2: must be odd'),
        (dict(node=dict(kernal_size=3)), ValueError, 'node=.*does not accept kernal_size'),
        (dict(node=dict(out_channels=5)), ValueError, 'node=.*the network sets out_channels'),
        (dict(aggregation=dict(type='hda', depth=4)), ValueError, 'aggregation=.*sets depth'),
        (dict(block=dict(type='basic', stride=2)), ValueError, r"arch\['block'\]=.*sets stride"),
        (dict(block=dict(type='basic', foo=2)), ValueError, r"arch\['block'\]=.*does not accept foo"),
        (dict(aggregation=dict(type='none'), link_levels=True), ValueError, 'link_levels=True'),
        (dict(aggregation='hdaa'), ValueError, r"aggregation='hdaa': must be one of .*'hda'"),
        (dict(aggregation=3), TypeError, 'aggregation=3: must be a name'),
        (dict(aggregation='none', link_levels=True), ValueError, 'link_levels=True'),
        (dict(aggregation=nn.Conv2d), ValueError, 'aggregation=.*lacks depth, block'),
        (dict(node='Nodee'), ValueError, "node='Nodee'"),
        (dict(node=nn.Identity()), TypeError, 'node=Identity'),
        (dict(block='Blockk'), ValueError, r"arch\['block'\]='Blockk': must be one of .*basic"),
        (dict(block=nn.ReLU), ValueError, r"arch\['block'\]=.*lacks in_channels"),
        (
            dict(block=lambda in_channels, out_channels, stride: None, output_stride=8),
            ValueError,
            r'lacks dilation, first_dilation',
        ),
        (dict(aggregation='ida', init_cfg='timm'), ValueError, "needs aggregation='hda', not 'ida'"),
    ],
    ids=lambda value: re.sub(r' at 0x\w+', '', str(value)),  # the same in every process
)
def test_bad_arguments_of_the_backbone_are_named(kwargs, error, message):
    kwargs = dict(kwargs)
    arch = kwargs.pop('arch', '34')
    if 'block' in kwargs:
        arch = dict(block=kwargs.pop('block'), tree_depths=[1] * 4, channels=[8] * 6)
    if kwargs.get('init_cfg'):
        kwargs['init_cfg'] = dict(type='Pretrained', checkpoint='timm')
    with pytest.raises(error, match=message):
        DLA(arch, **kwargs)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(depth=0), 'depth=0: must be an integer, 1 or more'),
        (dict(depth=1.5), 'depth=1.5'),
        (dict(stride=3), 'stride=3: a stage has stride 1 or 2'),
        (dict(out_channels=[4, 4, 4]), r'out_channels=\[4, 4, 4\]: must be .* or 2 of them'),
        (dict(out_channels=0), 'out_channels=0: must be a positive'),
        (dict(out_channels=[4, 8]), 'cannot go from 4 to 8 channels'),
    ],
    ids=str,
)
def test_bad_arguments_of_the_stages_are_named(form, kwargs, message):
    with pytest.raises(ValueError, match=message):
        FORMS[form](**{**dict(depth=1, block=BasicBlock, in_channels=4, out_channels=4), **kwargs})


def test_bad_arguments_of_the_others_are_named():
    from mmdla.models import AggregatedStages
    from mmdla.models.layers import Res2NetBlock, SplitBottleneck

    with pytest.raises(ValueError, match='aggregate_input=True'):
        Chain(1, BasicBlock, 4, 4, aggregate_input=True)
    for channels in ([], [4] * 6):
        with pytest.raises(ValueError, match='joins 2, 4, 8'):
            AggregationTree(channels, 4)
    for kind in (IDA, ShallowSkips):
        with pytest.raises(ValueError, match=r'in_channels=\[\]'):
            kind([], 4)
    for kind in (IDA, ShallowSkips, AggregationTree):
        for number in (1, 3):
            with pytest.raises(ValueError, match=f'inputs: {number} feature maps, built for 2'):
                kind([4, 4], 4)([torch.randn(1, 4, 3, 3)] * number)
    with pytest.raises(ValueError, match='out_channels=1: must be 2 or more'):
        Bottleneck(4, 1)
    with pytest.raises(ValueError, match=r'feature maps of \[4, 4\] channels, built for \[4, 8\]'):
        PooledNode([4, 8], 8)(*[torch.randn(1, 4, 3, 3)] * 2)
    with pytest.raises(TypeError, match='stages=3: must be a list'):
        AggregatedStages(3, [4])
    with pytest.raises(TypeError, match="'layer1'; each must be a module or its config"):
        AggregatedStages(['layer1', 'layer2'], [4, 4])
    with pytest.raises(ValueError, match=r'out_channels=48: .*multiple of 32'):
        SplitBottleneck(32, 48)
    with pytest.raises(ValueError, match=r'out_channels=2: .*multiples of 64'):
        Res2NetBlock(2, 2)
    with pytest.raises(ValueError, match='scale=1'):
        Res2NetBlock(64, 64, scale=1)
    with pytest.raises(ValueError, match='stages: 3 of them'):
        AggregatedStages([nn.Identity()] * 3, [4] * 3)
    with pytest.raises(ValueError, match=r'channels=\[4\]: must be 2'):
        AggregatedStages([nn.Identity()] * 2, [4])
    pytest.importorskip('mmpretrain')
    from mmdla.models.layers.mmpretrain_blocks import (
        ConvNeXtBlock,
        ResNetBasicBlock,
        ResNetBottleneck,
        ResNeXtBottleneck,
    )

    with pytest.raises(ValueError, match='out_channels=9: must be a multiple of expansion=4'):
        ResNetBottleneck(8, 9)
    with pytest.raises(ValueError, match='expansion=2'):
        ResNetBasicBlock(8, 8, expansion=2)
    with pytest.raises(ValueError, match='kernel_size=4: must be odd'):
        ConvNeXtBlock(8, 8, kernel_size=4)
    with pytest.raises(ValueError, match=r'out_channels=96: .*multiple of 64'):
        ResNeXtBottleneck(64, 96)


def test_aggregations_of_features_alone():
    """Without blocks: over any maps of one size."""
    xs = [torch.randn(1, c, 5, 6) for c in (3, 4, 5, 6)]
    for kind in (IDA, ShallowSkips, AggregationTree):
        assert kind([3, 4, 5, 6], 8)(xs).shape == (1, 8, 5, 6)
    assert issubclass(HDA, ReentrantTree)
