"""Attentive feature aggregation: its equations by hand, as nodes anywhere, and the up-network."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdla.models import DLA, AFAUp, IDAUp
from mmdla.models.layers import (
    FORMS,
    AttentiveNode,
    BasicBlock,
    ChannelAttention,
    HierarchicalAttention,
    LevelFusion,
    ScaleSpaceRendering,
    SpatialAttention,
)

LEAKY = dict(type='LeakyReLU', negative_slope=0.01)


def randomize(module: nn.Module) -> nn.Module:
    """Evaluation mode, with batch norms that are not the identity."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module.eval()


class Constant(nn.Module):
    """An attention of one value, or one for each of the inputs that it meets."""

    def __init__(self, *values: float):
        super().__init__()
        self.values = list(values)

    def forward(self, x):
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        return x.new_full((len(x), 1, 1, 1), value)


# -- the equations --------------------------------------------------------------------------------


def test_spatial_attention_is_two_3x3_convolutions_and_one_logit():
    sa = randomize(SpatialAttention(3))
    x = torch.randn(2, 3, 5, 4)
    y = x
    for layer in (sa.conv, sa.conv_inner):
        conv, (norm, _) = layer
        assert conv.bias is None
        y = F.conv2d(y, conv.weight, padding=1)
        mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        y = (y - mean) / (var + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
        y = y.clamp(min=0)
    z = torch.einsum('nchw,c->nhw', y, sa.final[0].weight[0, :, 0, 0])[:, None]
    torch.testing.assert_close(sa.logits(x), z)
    torch.testing.assert_close(sa(x), 1 / (1 + torch.exp(-z)))


def test_channel_attention_of_one_channel_by_hand():
    ca = ChannelAttention(1).eval()
    ca.conv1[0].weight.data.fill_(2)
    ca.conv2[0].weight.data.fill_(-0.5)
    x = torch.tensor([1.0, 2.0, 3.0, -6.0]).view(1, 1, 2, 2)
    # The mean is 0, the maximum 3: M(0) = 0, M(3) = -0.5 * relu(2 * 3).
    scale = 1 / math.sqrt(1 + 1e-5)
    assert ca(x).item() == pytest.approx(1 / (1 + math.exp(3 * scale)))


@pytest.mark.parametrize(('channels', 'hidden'), [(64, 4), (32, 2), (8, 1)])
def test_channel_attention_reduces_by_16(channels, hidden):
    assert ChannelAttention(channels).conv1[0].out_channels == hidden
    assert ChannelAttention(channels, reduction=1).conv1[0].out_channels == channels


def test_node_of_two_by_hand():
    node = AttentiveNode([2, 2], 2, deepest=-1)
    node.sa_1, node.ca_1 = Constant(0.75), Constant(0.25)
    s, d = torch.full((1, 2, 3, 3), 8.0), torch.full((1, 2, 3, 3), 16.0)
    # 0.75 * (1 - 0.25) * 8 + (1 - 0.75) * 0.25 * 16
    torch.testing.assert_close(node(s, d), torch.full((1, 2, 3, 3), 5.5))
    # in trees the deepest comes first
    node = AttentiveNode([2, 2], 2)
    node.sa_1, node.ca_1 = Constant(0.75), Constant(0.25)
    torch.testing.assert_close(node(d, s), torch.full((1, 2, 3, 3), 5.5))
    node.residual = True
    torch.testing.assert_close(node(d, s), torch.full((1, 2, 3, 3), 21.5))


def test_attentions_of_a_node_see_their_own_input():
    node = randomize(AttentiveNode([4, 4], 4, deepest=-1))
    s, d = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    ((sa, ca),) = node.attention(s, d)
    torch.testing.assert_close(sa, node.sa_1(s))
    torch.testing.assert_close(ca, node.ca_1(d))
    torch.testing.assert_close(node(s, d), sa * (1 - ca) * s + (1 - sa) * ca * d)
    assert (sa.shape, ca.shape) == ((2, 1, 5, 6), (2, 4, 1, 1))


def test_node_of_many_joins_them_one_after_the_other():
    node = randomize(AttentiveNode([4, 3, 5], 4))
    deep, first, second = (torch.randn(2, c, 5, 6) for c in (4, 3, 5))
    y = node.proj_0(first)
    for i, x in ((1, node.proj_1(second)), (2, deep)):
        sa, ca = getattr(node, f'sa_{i}')(y), getattr(node, f'ca_{i}')(x)
        y = sa * (1 - ca) * y + (1 - sa) * ca * x
    torch.testing.assert_close(node(deep, first, second), y)
    assert isinstance(node.proj_2, nn.Identity)
    assert len(node.attention(deep, first, second)) == 2


def test_fusion_by_hand():
    fusion = LevelFusion([2, 2, 2]).eval()
    fusion.proj_1 = fusion.proj_2 = nn.Identity()
    # asked from the finest to the coarsest
    fusion.level_sa, fusion.level_ca = Constant(0.5, 0.25, 0.8), Constant(0.5, 0.5, 1)
    levels = [torch.full((1, 2, s, s), v) for s, v in ((1, 100.0), (2, 10.0), (4, 1.0))]
    # A = .8 * .75 * .5, .25 * .5, .5; C = 1 * .5 * .5, .5 * .5, .5
    wanted = 0.3 * 0.25 * 100 + 0.125 * 0.25 * 10 + 0.5 * 0.5 * 1
    torch.testing.assert_close(fusion(levels), torch.full((1, 2, 4, 4), wanted))
    fusion.level_sa, fusion.level_ca = Constant(0.5, 0.25, 0.8), Constant(0.5, 0.5, 1)
    maps = [(a.item(), c.item()) for a, c in fusion.attention(levels)]
    assert [v for pair in maps for v in pair] == pytest.approx([0.3, 0.25, 0.125, 0.25, 0.5, 0.5])


def test_fusion_projects_and_resizes_the_coarser_levels():
    fusion = randomize(LevelFusion([6, 4]))
    coarse, fine = torch.randn(1, 6, 3, 4), torch.randn(1, 4, 5, 7)
    projected = F.interpolate(fusion.proj_1(coarse), (5, 7), mode='bilinear', align_corners=False)
    a, b = (fusion.level_sa(x) * fusion.level_ca(x) for x in (projected, fine))
    left = (1 - fusion.level_sa(fine)) * (1 - fusion.level_ca(fine))
    torch.testing.assert_close(fusion([coarse, fine]), a * left * projected + b * fine)


def test_rendering_by_hand():
    rendering = ScaleSpaceRendering(3)
    y = [torch.full((1, 1, 1, 1), v) for v in (math.log(2), math.log(4), 1e-9)]
    weights = [w.item() for w in rendering.weights(y)]
    # half is absorbed, three quarters of the rest, next to nothing of what is left
    assert weights == pytest.approx([0.5, 0.375, 1e-9 / 8], rel=1e-5)
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(rendering.attend(x), rendering.logits(x).abs())


def test_hierarchy_by_hand():
    """From the largest scale down, p = a p_s + (1 - a) p."""
    hierarchy = HierarchicalAttention(3)
    attention = [torch.rand(1, 1, 2, 2) for _ in range(3)]
    predictions = [torch.randn(1, 5, 2, 2) for _ in range(3)]
    p = predictions[2]
    for i in (1, 0):
        p = attention[i] * predictions[i] + (1 - attention[i]) * p
    weights = hierarchy.weights(attention)
    torch.testing.assert_close(sum(w * q for w, q in zip(weights, predictions)), p)
    assert hierarchy.conv[0].out_channels == hierarchy.conv_inner[0].out_channels == 256


@pytest.mark.parametrize('kind', ['spatial', 'channel', 'node', 'fusion', 'ssr', 'hma'])
def test_gradients(kind):
    def double(*shape):
        return torch.randn(*shape, dtype=torch.double, requires_grad=True)

    def scales(module):
        return lambda *xs: torch.cat(module.weights([module.attend(x) for x in xs]))

    smooth = dict(act_cfg=dict(type='Sigmoid'))
    xs = [double(2, 3, 3, 4), double(2, 3, 3, 4)]
    if kind == 'spatial':
        function, xs = SpatialAttention(3, **smooth), xs[:1]
    elif kind == 'channel':
        function, xs = ChannelAttention(3, **smooth), xs[:1]
    elif kind == 'node':
        function = AttentiveNode([3, 3], 3, **smooth)
    elif kind == 'fusion':
        xs = [double(2, 3, 2, 2), double(2, 3, 3, 4)]
        module = LevelFusion([3, 3], **smooth).double().eval()
        assert torch.autograd.gradcheck(lambda *levels: module(levels), xs)
        return
    else:
        classes = dict(ssr=ScaleSpaceRendering, hma=HierarchicalAttention)
        module = classes[kind](3, 4, **smooth).double().eval()
        assert torch.autograd.gradcheck(scales(module), xs)
        return
    assert torch.autograd.gradcheck(function.double().eval(), xs)


# -- as a node, anywhere --------------------------------------------------------------------------


@pytest.mark.parametrize('arch', ['34', '102'])
@pytest.mark.parametrize('form', FORMS)
def test_every_form_of_figure_2_trains_a_step(form, arch):
    residual = dict(residual=True) if arch == '102' else {}
    settings = dict(block='basic', tree_depths=(1, 2, 1, 1), channels=(4, 4, 8, 8, 8, 8)) | residual
    model = DLA(settings, aggregation=form, node='AttentiveNode')
    nodes = [m for m in model.modules() if isinstance(m, AttentiveNode)]
    assert bool(nodes) == (form != 'none')
    assert all(node.residual == bool(residual) for node in nodes)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(level.square().mean() for level in model(torch.randn(2, 3, 97, 65))).backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None]
    assert not lacking
    optimizer.step()
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert len(changed) > len(before) / 2
    assert all(p.isfinite().all() for p in model.parameters())


def test_from_configs():
    from mmengine.registry import MODELS

    xs = [torch.randn(2, 4, 9, 8) for _ in range(3)]
    node = dict(type='mmdla.AttentiveNode', reduction=2)
    ida = MODELS.build(dict(type='mmdla.IDA', in_channels=[4] * 3, out_channels=4, node=node))
    assert ida.node_2.ca_1.conv1[0].out_channels == 2
    assert ida(xs).shape == (2, 4, 9, 8)
    neck = MODELS.build(dict(type='mmdla.IDAUp', in_channels=[4, 8], node='AttentiveNode'))
    assert isinstance(neck.ida_0.node_1, AttentiveNode)
    pooled = MODELS.build(
        dict(type='PooledNode', in_channels=[4, 4], out_channels=4, node='AttentiveNode')
    )
    assert pooled(xs[0][..., :5, :4], xs[1]).shape == (2, 4, 5, 4)
    gn = MODELS.build(dict(type='SpatialAttention', channels=4, norm_cfg=dict(type='GN', num_groups=2)))
    assert isinstance(gn.conv[1][0], nn.GroupNorm)


def test_stages_of_another_network():
    from mmdla.models import AggregatedStages

    stages = [nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)]
    model = AggregatedStages(stages, [4, 8], aggregation='ida', node='AttentiveNode')
    (out,) = model(torch.randn(2, 4, 33, 17))
    assert out.shape == (2, 8, 9, 5)
    out.mean().backward()
    assert all(p.grad is not None for p in model.parameters())


# -- the up-network -------------------------------------------------------------------------------

CHANNELS = (4, 8, 16, 16, 32)


def levels(size, number=5, batch=2, first=2):
    found = []
    for channels in CHANNELS[:number]:
        found.append(torch.randn(batch, channels, *(-(-side // first) for side in size)))
        first *= 2
    return found


@pytest.mark.parametrize('upsample', ['deconv', 'bilinear'])
@pytest.mark.parametrize('number', [5, 4, 3, 2])  # output strides 2, 4, 8, 16
@pytest.mark.parametrize('size', [(64, 96), (97, 161), (33, 50)])
def test_any_size_and_every_output_stride(size, number, upsample):
    neck = AFAUp(CHANNELS[-number:], upsample=upsample)
    xs = levels(size, 5)[-number:]
    outs = neck(xs)
    assert [tuple(x.shape[2:]) for x in outs] == [tuple(x.shape[2:]) for x in (*xs[-2::-1], xs[0])]
    assert tuple(x.shape[1] for x in outs) == neck.out_channels
    assert neck.fusion.inputs == min(3, number - 1)
    sum(x.square().mean() for x in outs).backward()
    lacking = [n for n, p in neck.named_parameters() if p.grad is None]
    assert not lacking


def test_the_maps_are_the_ends_of_the_nested_steps():
    neck = randomize(AFAUp([4, 8, 16]))
    a, b, c = (torch.randn(1, n, s, s) for n, s in ((4, 16), (8, 8), (16, 4)))
    deep = neck.ida_0([b, c])
    end = neck.ida_1([a, *deep])
    outs = neck([a, b, c])
    torch.testing.assert_close(outs[0], deep[-1])
    torch.testing.assert_close(outs[1], end[-1])
    torch.testing.assert_close(outs[2], neck.fusion([deep[-1], end[-1]]))
    nested = randomize(IDAUp([4, 8, 16], node='AttentiveNode'))
    assert nested.state_dict().keys() <= {
        k.replace('.1.0.', '.1.') if '.proj_' in k else k for k in neck.state_dict()
    }


def test_attention_maps_are_asked_for():
    neck = randomize(AFAUp(CHANNELS))
    xs = levels((33, 50))
    maps = neck.attention(xs)
    nodes = [f'ida_{i}.node_{j}' for i in range(4) for j in range(1, i + 2)]
    assert list(maps) == [*nodes, 'fusion.0', 'fusion.1', 'fusion.2']
    sa, ca = maps['ida_3.node_2']
    assert (sa.shape, ca.shape) == ((2, 1, 17, 25), (2, 4, 1, 1))
    assert all(0 <= m.min() <= m.max() <= 1 for pair in maps.values() for m in pair)
    # those that the forward pass multiplies with
    aligned = neck.ida_0.align([xs[3], xs[4]])
    torch.testing.assert_close(maps['ida_0.node_1'][0], neck.ida_0.node_1.sa_1(aligned[0]))
    torch.testing.assert_close(maps['ida_0.node_1'][1], neck.ida_0.node_1.ca_1(aligned[1]))
    finest = neck(xs)[3]
    torch.testing.assert_close(maps['fusion.2'][0], neck.fusion.level_sa(finest))
    with pytest.raises(ValueError, match='AggregationNode has no method attention'):
        AFAUp([4, 8], node='AggregationNode').attention(levels((16, 16), 2))


@pytest.mark.parametrize('with_cp', [True, 'norm'])
def test_recomputation_changes_nothing(with_cp):
    if with_cp == 'norm' and not hasattr(
        torch.utils.checkpoint, 'create_selective_checkpoint_contexts'
    ):
        pytest.skip('needs PyTorch 2.4')
    found = []
    for mode in (False, with_cp):
        torch.manual_seed(0)
        neck = AFAUp(CHANNELS, with_cp=mode)
        torch.manual_seed(1)
        sum(x.square().mean() for x in neck(levels((33, 50)))).backward()
        found.append((dict(neck.named_buffers()), {n: p.grad for n, p in neck.named_parameters()}))
    for plain, recomputed in zip(*found):
        assert all(torch.equal(value, recomputed[name]) for name, value in plain.items())


def test_activation_and_norm_reach_every_layer():
    neck = AFAUp(CHANNELS, norm_cfg=dict(type='GN', num_groups=2), act_cfg=LEAKY)
    kinds = {type(m) for m in neck.modules()}
    assert nn.BatchNorm2d not in kinds
    assert nn.ReLU not in kinds
    assert {m.negative_slope for m in neck.modules() if isinstance(m, nn.LeakyReLU)} == {0.01}


def test_initialization_is_the_papers():
    neck = AFAUp([32, 64])
    neck.init_weights()
    weight = neck.ida_0.node_1.sa_1.conv[0].weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.1)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="num_fused='3': must be a whole number"):
        AFAUp([4, 8], num_fused='3')
    with pytest.raises(ValueError, match=r'in_channels=\[4\]: must be 2 or more'):
        AttentiveNode([4], 4)
    with pytest.raises(ValueError, match='inputs: 3 feature maps, built for 2'):
        AttentiveNode([4, 4], 4)(*[torch.randn(2, 4, 3, 3)] * 3)
    with pytest.raises(ValueError, match='inputs: 1 feature maps, built for 2'):
        LevelFusion([4, 4])([torch.randn(2, 4, 3, 3)])
    with pytest.raises(ValueError, match='3 feature maps, but in_channels has 2 entries'):
        AFAUp([4, 8])(levels((16, 16), 3))


# -- compilation and export -----------------------------------------------------------------------


@pytest.mark.compile
@pytest.mark.parametrize('form', FORMS)
def test_stages_compile_and_export(form):
    stage = FORMS[form](2, BasicBlock, 4, 6, 2, node=AttentiveNode).eval()
    x = torch.randn(1, 4, 9, 7)
    wanted = stage(x)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(stage, backend='eager', fullgraph=True)(x), wanted)
    torch.testing.assert_close(torch.export.export(stage, (x,)).module()(x), wanted)


@pytest.mark.compile
def test_the_up_network_compiles_and_exports():
    neck = randomize(AFAUp(CHANNELS))
    xs = levels((33, 50))
    wanted = neck(xs)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(neck, backend='eager', fullgraph=True)(xs), wanted)
    torch.testing.assert_close(torch.export.export(neck, (xs,)).module()(xs), wanted)


def test_one_image_cannot_train_batch_norm():
    attention = ChannelAttention(32)
    with pytest.raises(ValueError, match='batch norm over one image cannot be trained'):
        attention(torch.rand(1, 32, 4, 4))
    assert attention.eval()(torch.rand(1, 32, 4, 4)).shape == (1, 32, 1, 1)
