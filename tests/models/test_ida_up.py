"""IDA-up: released numbers, both forms, any size, and the head in mmseg."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdla.models import DLA, IDAUp
from mmdla.models.layers import (
    AggregationNode,
    BilinearUpsample,
    LearnedUpsample,
    SumNode,
    match_size,
)

pytest.importorskip('mmseg')
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmdla.checkpoints import convert_released
from mmdla.models import IDAUpHead

LEVELS = {2: (1, 2, 3, 4, 5), 4: (2, 3, 4, 5), 8: (3, 4, 5)}


def network(arch: str, down: int, classes: int) -> tuple[DLA, IDAUpHead]:
    backbone = DLA(arch, out_indices=LEVELS[down])
    channels = [backbone.channels[i] for i in LEVELS[down]]
    return backbone.eval(), IDAUpHead(channels, num_classes=classes).eval()


@pytest.mark.parametrize(('arch', 'down'), [('34', 2), ('34', 4), ('60', 8)])
def test_golden(arch, down, golden):
    gold = golden(f'dla{arch}up_s{down}')
    state = gold.state_dict()
    backbone, head = network(arch, down, gold.meta['classes'])
    # The released names hold below the backbone and below `dla_up`.
    backbone.load_state_dict(
        {k.removeprefix('base.'): v for k, v in state.items() if k.startswith('base.')}, strict=True
    )
    up = {k.removeprefix('dla_up.'): v for k, v in state.items() if k.startswith('dla_up.')}
    head.dla_up.load_state_dict(up, strict=True)
    head.conv_seg.load_state_dict({n: state[f'fc.0.{n}'] for n in ('weight', 'bias')})
    with torch.no_grad():
        logits = head(backbone(gold.input()))
        released = F.conv_transpose2d(
            logits, state['up.weight'], stride=down, padding=down // 2, groups=logits.shape[1]
        )
    gold.check('logits_before_upsampling', logits)
    gold.check('log_prob', released.log_softmax(1))

    # mmseg's resize is the released upsampling but for the border, which that one darkens.
    ours = resize(logits, scale_factor=down, mode='bilinear', align_corners=False)
    edge = down // 2
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    assert (ours - released)[inside].abs().max() <= 1e-5 * released.std()
    darker = released[..., 0, 0] / ours[..., 0, 0]
    corner = ((down + 1) / (2 * down)) ** 2  # 0.5625, 0.390625, 0.31640625
    torch.testing.assert_close(darker, torch.full_like(darker, corner), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('down', 'params'), [(2, 18_095_163), (4, 18_012_203), (8, 17_767_467)])
def test_parameters_are_the_released_ones(down, params):
    backbone, head = network('34', down, 19)
    found = sum(p.numel() for p in nn.ModuleList([backbone, head]).parameters())
    # Released counting has the classifier, the dead projections and the frozen upsampling too.
    assert found + 513_000 + 41_728 + 19 * (2 * down) ** 2 == params


def test_nested_widths():
    neck = IDAUp([32, 64, 128, 256, 512])
    widths = [getattr(neck, f'ida_{i}').node_1.get_submodule('0').out_channels for i in range(4)]
    assert widths == [256, 128, 64, 32]


def test_centernet_aggregates_the_nested_ends_once_more():
    neck = IDAUp([8, 16, 24], variant='centernet').eval()
    a, b, c = (torch.randn(1, n, s, s) for n, s in ((8, 16), (16, 8), (24, 4)))
    deep = neck.ida_0([b, c])[-1]
    end = neck.ida_1([a, b, deep])[-1]
    wanted = neck.ida_up.node_1(end, neck.ida_up.up_1(neck.ida_up.proj_1(deep)))
    torch.testing.assert_close(neck([a, b, c])[0], wanted)
    assert deep.shape == (1, 16, 8, 8)
    assert not hasattr(neck.ida_up, 'node_2'), 'the deepest level itself is left out'


def test_centernet_projects_what_is_as_wide_too():
    neck = IDAUp([8, 8, 8], variant='centernet')
    layers = [m for m in neck.modules() if isinstance(m, SumNode)]
    assert len(layers) == 2 * (1 + 2 + 1)
    assert all(m.conv.kernel_size == (3, 3) and m.conv.bias is not None for m in layers)
    nested = IDAUp([8, 8, 8])
    assert isinstance(nested.ida_0.proj_1, nn.Identity)


def tall(in_channels, out_channels, deepest):
    return AggregationNode(in_channels, out_channels, kernel_size=(5, 1), deepest=deepest)


def test_any_node():
    neck = IDAUp([8, 16], node=dict(residual=True, bias=True), node_kernel=5)
    node = neck.ida_0.node_1
    assert node.residual
    assert node.get_submodule('0').kernel_size == (5, 5)
    assert node.get_submodule('0').bias is not None
    node = IDAUp([8, 16], variant='centernet', node=dict(bias=False)).ida_0.node_1
    assert isinstance(node, SumNode)
    assert node.conv.bias is None
    node = IDAUp(
        [8, 16], variant='single', node='SumNode', norm_cfg=dict(type='GN', num_groups=4)
    ).ida_0.node_1
    assert isinstance(node, SumNode)
    assert isinstance(node.bn, nn.GroupNorm)
    node = IDAUp([8, 16], variant='centernet', node=dict(type='AggregationNode')).ida_0.node_1
    assert node.get_submodule('0').in_channels == 16
    head = IDAUpHead([8, 16], num_classes=3, variant='centernet', node='AggregationNode')
    assert isinstance(head.dla_up.ida_0.node_1, AggregationNode)
    assert isinstance(
        IDAUpHead([8, 16], num_classes=3, variant='centernet').dla_up.ida_0.node_1, SumNode
    )


@pytest.mark.parametrize('variant', ['nested', 'single', 'centernet'])
@pytest.mark.parametrize('upsample', ['deconv', 'bilinear'])
@pytest.mark.parametrize('size', [(64, 64), (97, 65), (33, 50)])
def test_forms_train_at_any_size(variant, upsample, size):
    backbone = DLA('46_c', out_indices=(1, 2, 3, 4, 5))
    neck = IDAUp(backbone.channels[1:], variant=variant, upsample=upsample)
    (out,) = neck(backbone(torch.randn(2, 3, *size)))
    assert out.shape == (2, neck.out_channels, -(-size[0] // 2), -(-size[1] // 2))
    assert neck.out_channels == 32
    out.square().mean().backward()
    assert not [n for n, p in neck.named_parameters() if p.grad is None]


def test_single_is_one_ida_over_projections_to_32_channels():
    neck = IDAUp([8, 16, 24], variant='single').eval()
    xs = [torch.randn(1, c, s, s) for c, s in ((8, 16), (16, 8), (24, 4))]
    ida = neck.ida_0
    ys = [getattr(ida, f'up_{i}')(getattr(ida, f'proj_{i}')(x)) for i, x in enumerate(xs)]
    wanted = ida.node_2(ida.node_1(ys[0], ys[1]), ys[2])
    torch.testing.assert_close(neck(xs)[0], wanted)
    assert all(y.shape == (1, 32, 16, 16) for y in ys)


@pytest.mark.parametrize('factor', [2, 3, 4, 8])
def test_learned_upsampling_begins_as_interpolation(factor):
    x = torch.randn(1, 3, 7, 9)
    learned = match_size(LearnedUpsample(3, factor)(x), (7 * factor, 9 * factor), slack=1)
    plain = BilinearUpsample(factor)(x)
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(learned[inside], plain[inside], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('rounding', ['up', 'down'])
def test_skips_of_any_rounding_are_matched(rounding):
    neck = IDAUp([8, 16, 24], variant='single')
    sizes = {'up': ((45, 31), (23, 16), (12, 8)), 'down': ((45, 31), (22, 15), (11, 7))}[rounding]
    (out,) = neck([torch.randn(1, c, *s) for c, s in zip((8, 16, 24), sizes)])
    assert out.shape == (1, 32, 45, 31)


@pytest.mark.parametrize('upsample', ['deconv', 'bilinear'])
def test_odd_factors(upsample):
    neck = IDAUp([8, 16], strides=(1, 3), upsample=upsample)
    (out,) = neck([torch.randn(1, 8, 10, 11), torch.randn(1, 16, 4, 4)])
    assert out.shape == (1, 8, 10, 11)


def test_matching_moves_no_pixel():
    x = torch.arange(20.0).view(1, 1, 4, 5)
    assert torch.equal(match_size(x, (3, 4), 1), x[..., :3, :4])
    grown = match_size(x, (5, 4), 1)
    assert torch.equal(grown[..., :4, :], x[..., :4])
    assert torch.equal(grown[..., 4, :], x[..., 3, :4])


def test_wrong_strides_are_named():
    neck = IDAUp([8, 16])
    with pytest.raises(ValueError, match=r'20x20 after upsampling and meets one of 40x40.*strides'):
        neck([torch.rand(1, 8, 40, 40), torch.rand(1, 16, 10, 10)])
    with pytest.raises(ValueError, match='1 feature maps, but in_channels has 2'):
        neck([torch.rand(1, 8, 40, 40)])


@pytest.mark.parametrize('output_stride', [8, 16])
def test_dilated_backbones(output_stride):
    backbone = DLA('34', out_indices=(1, 2, 3, 4, 5), output_stride=output_stride)
    strides = [min(s, output_stride) for s in (2, 4, 8, 16, 32)]
    neck = IDAUp(backbone.channels[1:], strides=strides)
    assert neck(backbone(torch.randn(1, 3, 65, 70)))[0].shape == (1, 32, 33, 35)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(in_channels=[8]), 'needs two levels'),
        (dict(in_channels=[8, 16], strides=[4]), r'strides=\(4,\): must be 2'),
        (dict(in_channels=[8, 16], strides=[8, 4]), 'must ascend'),
        (dict(in_channels=[8, 16], variant='flat'), "variant='flat'"),
        (dict(in_channels=[8, 16], upsample='nearest'), "upsample='nearest'"),
        (dict(in_channels=[8, 16], node_kernel=2), 'node_kernel=2: must be odd'),
        (dict(in_channels=[8, 16], out_channels=32), 'leave out_channels out'),
        (
            dict(in_channels=[8, 16], out_channels=32, variant='centernet'),
            "out_channels=32: variant='centernet' ends with .* 8 channels",
        ),
        (dict(in_channels=[8, 16], node='Sum'), "node='Sum': must be"),
        (dict(in_channels=[8, 16], node=nn.Conv2d), 'node=.*must accept .* lacks deepest'),
        (dict(in_channels=[8, 16], conv_cfg=dict(type='Conv9')), "conv_cfg=.*no convolution 'Conv9'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        IDAUp(**kwargs)


def test_node_of_another_type_is_named():
    with pytest.raises(TypeError, match='node=3: must be a name'):
        IDAUp([8, 16], node=3)


class Remembers(SumNode):
    """A node that knows how to begin, and is not one of mmengine's modules."""

    def init_weights(self):
        nn.init.constant_(self.conv.weight, 0.5)


def test_layers_that_know_how_to_begin_do():
    neck = IDAUp([8, 16, 24], node=Remembers)
    neck.init_weights()
    nodes = [m for m in neck.modules() if isinstance(m, Remembers)]
    assert len(nodes) == 3
    assert all((m.conv.weight == 0.5).all() for m in nodes)
    assert neck.ida_0.proj_1[0].weight.std() > 0


def test_head_initialisation_is_the_papers():
    head = IDAUpHead([64, 128, 256], num_classes=1000)
    head.init_weights()
    assert head.dropout is None
    assert head.conv_seg.weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.05)
    up = head.dla_up.ida_0.up_1
    torch.testing.assert_close(up.weight[0, 0], LearnedUpsample(1, 2).weight[0, 0])
    conv = head.dla_up.ida_1.node_1.get_submodule('0')
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    from mmengine.structures import PixelData

    return [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in labels]


def test_head_keeps_what_mmseg_gives():
    """Losses, ignored labels, sampler and align_corners work as in any mmseg head."""
    xs = [torch.randn(2, c, s, s) for c, s in ((8, 16), (16, 8), (24, 4))]
    labels = torch.randint(0, 4, (2, 32, 32))
    labels[:, :8] = 255
    head = IDAUpHead(
        [8, 16, 24],
        num_classes=4,
        loss_decode=[
            dict(type='CrossEntropyLoss', loss_name='loss_ce'),
            dict(type='DiceLoss', loss_name='loss_dice'),
        ],
    )
    logits = head(xs)
    losses = head.loss_by_feat(logits, samples(labels))
    wanted = F.cross_entropy(
        F.interpolate(logits, (32, 32), mode='bilinear'), labels, ignore_index=255, reduction='sum'
    )
    torch.testing.assert_close(losses['loss_ce'] * labels.numel(), wanted)
    assert 'loss_dice' in losses

    sampled = IDAUpHead(
        [8, 16, 24],
        num_classes=4,
        align_corners=True,
        sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50),
    )
    loss = sampled.loss(xs, samples(labels), None)['loss_ce']
    loss.backward()
    assert torch.isfinite(loss)


def test_head_chooses_levels():
    head = IDAUpHead([16, 24], num_classes=3, in_index=[1, 2], variant='single', upsample='bilinear')
    xs = [torch.randn(2, c, s, s) for c, s in ((8, 16), (16, 8), (24, 4))]
    assert head(xs).shape == (2, 3, 8, 8)


@pytest.mark.parametrize('variant', ['nested', 'centernet'])
def test_head_names_its_own_argument(variant):
    message = rf"channels=64: variant='{variant}' .*8 channels of the shallowest level"
    with pytest.raises(ValueError, match=message):
        IDAUpHead([8, 16], num_classes=3, channels=64, variant=variant)


@pytest.mark.parametrize('output_stride', [32, 16, 8])
@pytest.mark.parametrize('size', [(33, 64), (65, 97)])
def test_backbone_and_head_train_at_every_output_stride(output_stride, size):
    backbone = DLA('46x_c', out_indices=(1, 2, 3, 4, 5), output_stride=output_stride)
    strides = [min(s, output_stride) for s in (2, 4, 8, 16, 32)]
    head = IDAUpHead(backbone.channels[1:], num_classes=5, strides=strides)
    out = resize(head(backbone(torch.randn(1, 3, *size))), size=size, mode='bilinear')
    assert out.shape == (1, 5, *size)
    out.square().mean().backward()
    for part in (backbone, head):
        assert not [n for n, p in part.named_parameters() if p.grad is None]


def test_converted_segmentation_network_loads_strictly(golden):
    gold = golden('dla34up_s4')
    converted = convert_released(gold.state_dict())
    backbone, head = network('34', 4, 19)
    model = nn.ModuleDict(dict(backbone=backbone, decode_head=head))
    model.load_state_dict(converted.state_dict, strict=True)
    assert (converted.down_ratio, converted.num_classes) == (4, 19)
    with torch.no_grad():
        gold.check('logits_before_upsampling', head(backbone(gold.input())))
