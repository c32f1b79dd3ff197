"""CenterNet's IDA-up against its authors' network written out, and its checkpoints; without mmdet."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from literal_centernet import Network
from torch import nn

from mmdla.checkpoints import CheckpointError, convert_released
from mmdla.models import DLA, IDAUp

CONVERT = Path(__file__).resolve().parents[2] / 'tools/model_converters/convert_released.py'
DCN = dict(type='DCNv2', deform_groups=1)
OPS = importlib.util.find_spec('mmcv._ext') is not None
needs_ops = pytest.mark.skipif(not OPS, reason='mmcv was built without ops')
BOTH = pytest.mark.parametrize('deformable', [False, pytest.param(True, marks=needs_ops)])


def neck(deformable: bool, **kwargs) -> IDAUp:
    return IDAUp(
        [64, 128, 256, 512], variant='centernet', conv_cfg=DCN if deformable else None, **kwargs
    )


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Runs the tool on a state dict; gives what it wrote, why it did not, and what it said."""
    spec = importlib.util.spec_from_file_location('convert_released', CONVERT)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(state: dict) -> tuple[dict | None, str, str]:
        src, dst = tmp_path / 'src.pth', tmp_path / 'dst.pth'
        torch.save(dict(epoch=140, state_dict=state, optimizer=dict(state={}, param_groups=[])), src)
        monkeypatch.setattr('sys.argv', ['convert_released.py', str(src), str(dst)])
        try:
            tool.main()
        except SystemExit as error:
            assert not dst.exists()
            return None, str(error), ''
        return torch.load(dst), '', capsys.readouterr().out

    return run


@BOTH
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_equals_the_network_written_out(deformable, prefix):
    theirs = Network(deformable)
    converted = convert_released({prefix + k: v for k, v in theirs.state_dict().items()})
    ours = nn.ModuleDict(dict(backbone=DLA('34'), neck=neck(deformable))).eval()
    heads = {k: v for k, v in converted.state_dict.items() if k.startswith('bbox_head.')}
    rest = {k: v for k, v in converted.state_dict.items() if k not in heads}
    ours.load_state_dict(rest, strict=True)
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        wanted = theirs.decode(theirs.base(image))
        (found,) = ours['neck'](ours['backbone'](image))
    assert found.shape == (2, 64, 16, 24)
    torch.testing.assert_close(found / wanted.std(), wanted / wanted.std(), atol=1e-5, rtol=0)

    assert len(heads) == 12
    assert torch.equal(heads['bbox_head.heatmap_head.0.weight'], theirs.hm[0].weight)
    assert torch.equal(heads['bbox_head.wh_head.2.bias'], theirs.wh[2].bias)
    assert torch.equal(heads['bbox_head.offset_head.2.weight'], theirs.reg[2].weight)
    assert (converted.down_ratio, converted.num_classes, converted.left_out) == (4, 80, ())


@needs_ops
def test_deformable_convolutions_begin_plain():
    model = neck(True)
    for module in model.modules():
        if hasattr(module, 'conv_offset'):
            nn.init.normal_(module.conv_offset.weight)
    model.init_weights()
    offsets = [p for n, p in model.named_parameters() if '.conv_offset.' in n]
    # a projection and a node for each of 1 + 2 + 3 nested aggregations and 2 last ones
    assert len(offsets) == 2 * 2 * 8
    assert all((p == 0).all() for p in offsets)
    weights = [p for n, p in model.named_parameters() if n.endswith('.conv.weight')]
    assert len(weights) == 16
    assert all(p.std() > 0 for p in weights)


@needs_ops
def test_deformable_convolutions_in_the_backbone_begin_plain():
    model = DLA('46_c', out_indices=(2, 3), conv_cfg=dict(type='DCNv2', deform_groups=1))
    for module in model.modules():
        if hasattr(module, 'conv_offset'):
            nn.init.normal_(module.conv_offset.weight)
    model.init_weights()
    offsets = [p for n, p in model.named_parameters() if '.conv_offset.' in n]
    assert offsets
    assert all((p == 0).all() for p in offsets)
    assert model(torch.randn(1, 3, 33, 50))[-1].shape == (1, 64, 5, 7)


@needs_ops
def test_pretrained_offsets_are_kept(tmp_path):
    state = {
        k: torch.randn_like(v) for k, v in neck(True).state_dict().items() if v.is_floating_point()
    }
    torch.save(state, tmp_path / 'neck.pth')
    model = neck(True, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'neck.pth')))
    model.init_weights()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())


@needs_ops
@pytest.mark.parametrize('with_cp', [False, True])
def test_deformable_convolutions_train_at_odd_sizes(with_cp):
    model = neck(True, with_cp=with_cp)
    model.init_weights()
    sizes = ((17, 25), (9, 13), (5, 7), (3, 4))
    levels = [torch.randn(2, c, *s) for c, s in zip((64, 128, 256, 512), sizes)]
    (out,) = model(levels)
    assert out.shape == (2, 64, 17, 25)
    out.square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.skipif(OPS, reason='mmcv has its ops')
def test_missing_ops_are_named():
    with pytest.raises(ValueError, match=r"conv_cfg=.*no convolution 'DCNv2'.*compiled ops"):
        neck(True)


@pytest.mark.parametrize('deformable', [False, True])
def test_tool_names_the_config(deformable, convert):
    written, _, text = convert(Network(deformable).state_dict())
    assert "This was DLASeg of the CenterNet family, DLA '34'" in text
    assert ("conv_cfg=dict(type='DCNv2', deform_groups=1)" in text) is deformable
    assert 'CenterNetHead(in_channels=64, feat_channels=256, num_classes=80)' in text
    name = 'dla34-dcn_centernet_coco.py' if deformable else 'dla34_centernet_coco.py'
    assert f'such as configs/detection/{name}' in text
    assert 'Left out' not in text
    assert written['meta']['down_ratio'] == 4


def test_tool_names_what_it_leaves_out(convert):
    state = Network(True, dict(hm=1, wh=2, reg=2, tracking=2, id=8)).state_dict()
    state['base.pre_img_layer.0.weight'] = torch.zeros(16, 3, 7, 7)
    state['base.fc.weight'] = torch.zeros(1000, 512, 1, 1)
    written, _, text = convert(state)
    assert 'Left out, having no counterpart here: base.pre_img_layer, id, tracking.' in text
    assert 'num_classes=1)' in text
    assert {k.split('.')[0] for k in written['state_dict']} == {'backbone', 'neck', 'bbox_head'}
    assert not [k for k in written['state_dict'] if 'pre_img' in k or '.fc.' in k]


@pytest.mark.parametrize('heads', [dict(hm=1, wh=4, reg=2, id=8), dict(hm=80, reg=2)])
def test_heads_that_are_not_centernets_are_left_out_by_name(heads, convert):
    """FairMOT's sizes have four maps; mmdet's head has all three branches or none."""
    written, _, text = convert(Network(True, heads).state_dict())
    assert f'Left out, having no counterpart here: {", ".join(sorted(heads))}.' in text
    assert 'CenterNetHead' not in text
    assert {k.split('.')[0] for k in written['state_dict']} == {'backbone', 'neck'}


def test_other_decoders_are_refused(convert):
    state = Network(False).state_dict()
    # CenterTrack's `--dla_node conv`: 1x1 convolution and batch norm in a row.
    plain = {k.replace('.conv.weight', '.conv.0.weight'): v for k, v in state.items()}
    message = r'another IDA-up \(dla_up\.ida_0\.proj_1\.conv\.0\.weight\)'
    with pytest.raises(CheckpointError, match=message):
        convert_released(plain)
    written, error, _ = convert(plain)
    assert written is None
    assert 'another IDA-up' in error


@pytest.mark.parametrize('change', ['missing', 'shape', 'offsets', 'head'])
def test_tool_checks_neck_and_head(change, convert):
    state = dict(Network(True).state_dict())
    if change == 'missing':
        del state['dla_up.ida_1.up_2.weight']
        named = 'neck.ida_1.up_2.weight'
    elif change == 'shape':
        state['ida_up.up_1.weight'] = torch.zeros(64, 1, 2, 2)
        named = 'neck.ida_up.up_1.weight'
    elif change == 'offsets':
        del state['ida_up.node_2.conv.conv_offset_mask.bias']
        named = 'neck.ida_up.node_2.conv.conv_offset.bias'
    else:
        state['wh.0.weight'] = torch.zeros(128, 64, 3, 3)
        named = 'bbox_head.wh_head.0.weight'
    written, error, _ = convert(state)
    assert written is None
    assert '1 entries of its head or neck are missing, too many or of another shape' in error
    assert named in error
