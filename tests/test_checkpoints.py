"""Released files load, and what is none is refused with the reason."""

from __future__ import annotations

import logging
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from conftest import sha256
from safetensors.torch import save_file
from torch import nn

from mmdla.checkpoints import CheckpointError, convert_released, read_checkpoint, state_dict_of
from mmdla.models import DLA, DRN

ROOT = Path(__file__).resolve().parents[1]


def released(arch: str = '34', classes: int = 1000) -> dict[str, torch.Tensor]:
    """A state dict as the authors' code saves it: classifier and dead projections included."""
    model = DLA(arch)
    model.init_weights()
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if getattr(module, 'depth', 1) > 1:
            state[f'{name}.project.0.weight'] = torch.randn(8, 8, 1, 1)
            state[f'{name}.project.1.weight'] = torch.randn(8)
            state[f'{name}.project.1.running_mean'] = torch.randn(8)
    state['fc.weight'] = torch.randn(classes, model.channels[-1], 1, 1)
    state['fc.bias'] = torch.randn(classes)
    # Files from before PyTorch 0.4.1 count no batches.
    return {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}


def same(model: nn.Module, state: dict) -> bool:
    own = model.state_dict()
    return all(torch.equal(v, own[k]) for k, v in state.items() if k in own)


def pretrained(path, arch='34', **kwargs) -> DLA:
    model = DLA(arch, init_cfg=dict(type='Pretrained', checkpoint=str(path), **kwargs))
    model.init_weights()
    return model


@pytest.fixture
def records():
    """What mmengine's logger was warned of."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance('mmdla-tests')
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record):
            if record.levelno >= logging.WARNING:
                lines.append(record.getMessage())

    listener = Listener()
    logger.addHandler(listener)
    yield lines
    logger.removeHandler(listener)


@pytest.mark.parametrize('wrapping', ['bare', 'DataParallel', 'dict', 'legacy', 'safetensors', 'model'])
def test_init_cfg_takes_every_wrapping(tmp_path, wrapping, records):
    state = released()
    path = tmp_path / 'weights.pth'
    if wrapping == 'DataParallel':
        torch.save(
            dict(epoch=3, arch='dla34', state_dict={f'module.{k}': v for k, v in state.items()}), path
        )
    elif wrapping == 'dict':
        torch.save(dict(state_dict=state, best_prec1=torch.tensor(74.2)), path)
    elif wrapping == 'legacy':
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif wrapping == 'safetensors':
        path = tmp_path / 'model.safetensors'
        save_file(state, path)
    elif wrapping == 'model':
        named = {f'backbone.{k}': v for k, v in state.items()}
        torch.save(dict(state_dict=named | {'decode_head.conv_seg.weight': torch.zeros(1)}), path)
    else:
        torch.save(state, path)
    assert same(pretrained(path), state)
    assert not [line for line in records if 'missing' in line or 'unexpected' in line]


def test_published_addresses_are_known():
    assert DLA.pretrained_urls.keys() == DLA.arch_settings.keys()
    model = DLA('60_res2net', init_cfg=dict(type='Pretrained', checkpoint='timm'))
    assert model.pretrained['checkpoint'].endswith(
        'timm/dla60_res2net.in1k/resolve/main/model.safetensors'
    )


def test_missing_and_unexpected_entries_are_reported(tmp_path, records):
    state = released()
    del state['level3.tree1.root.conv.weight']
    state['level3.extra'] = torch.zeros(1)
    torch.save(state, tmp_path / 'a.pth')
    pretrained(tmp_path / 'a.pth')
    text = '\n'.join(records)
    assert 'level3.tree1.root.conv.weight' in text
    assert 'level3.extra' in text
    assert 'project' not in text
    assert 'fc.weight' not in text


def test_another_network_is_refused(tmp_path):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='none of its parameters is one of DLA'):
        pretrained(tmp_path / 'a.pth')


def test_init_weights_twice_keeps_what_was_trained(tmp_path):
    state = released()
    torch.save(state, tmp_path / 'a.pth')
    model = pretrained(tmp_path / 'a.pth')
    nn.init.zeros_(model.level0[0].weight)
    model.init_weights()
    assert (model.level0[0].weight == 0).all()


# -- conversion -----------------------------------------------------------------------------------


@pytest.fixture
def convert(run_tool):
    """Runs convert_released.py; its exit status and what it wrote."""

    def run(*args) -> SimpleNamespace:
        status, text = run_tool('model_converters/convert_released.py', *args)
        # A message in place of a status is written to stderr, and the status is 1.
        code = 1 if isinstance(status, str) else status
        return SimpleNamespace(returncode=code, stdout=text, stderr=text)

    return run


def test_convert_classifiers(tmp_path):
    state = released('34', classes=10)
    converted = convert_released(state)
    assert converted.format == "authors' DLA classifier"
    assert converted.num_classes == 10
    assert converted.state_dict['head.fc.weight'].shape == (10, 512)
    assert not [k for k in converted.state_dict if re.search(r'level[34]\.project', k)]
    DLA('34').load_state_dict(converted.network, strict=True)

    assert converted.state_dict.keys() >= {'head.fc.weight', 'head.fc.bias'}


@pytest.mark.parametrize('arch', DLA.arch_settings)
def test_convert_every_architecture_of_timm(arch):
    with torch.device('meta'):
        theirs = timm.create_model(f'dla{arch}')
        ours = DLA(arch)
    converted = convert_released(theirs.state_dict())
    assert converted.format == "timm's DLA classifier"
    assert converted.network.keys() == ours.state_dict().keys()


def test_converted_classifier_gives_the_released_logits(golden):
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.models import ImageClassifier

    gold = golden('dla60x_c')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='mmdla.DLA', arch='60x_c', out_indices=(5,)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=256),
        ).eval()
    model.load_state_dict(convert_released(gold.state_dict()).state_dict, strict=True)
    with torch.no_grad():
        logits = model(gold.input(), mode='tensor')
        logits = model.head.fc(logits[-1]) if isinstance(logits, tuple) else logits
    gold.check('logits', logits.view(gold.meta['outputs']['logits']))


@pytest.mark.parametrize('norm', ['BN', 'GN'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_convert_mmdet3d(norm, prefix):
    """mmdet3d's DLANet calls `bn1` `norm1`; SMOKE's weights have group norm."""
    model = DLA('34', norm_cfg=dict(type=norm, num_groups=32) if norm == 'GN' else dict(type='BN'))
    own = model.state_dict()
    theirs = {prefix + re.sub(r'\bbn(\d?)\.', r'norm\1.', k): v for k, v in own.items()}
    theirs[f'{prefix}level3.project.0.weight'] = torch.zeros(128, 64, 1, 1)
    # Names of mmdet3d 1.x, as its DLANet has them.
    wanted = ['base_layer.1.weight', 'level2.tree1.norm1.weight', 'level2.tree1.conv2.weight',
              'level2.root.conv.weight', 'level2.root.norm.bias', 'level3.tree2.tree2.norm2.bias',
              'level4.tree1.project.1.weight']  # fmt: skip
    assert {prefix + name for name in wanted} <= theirs.keys()
    if prefix:
        theirs['bbox_head.conv.weight'] = torch.zeros(1)
    converted = convert_released(theirs)
    assert converted.format == "mmdet3d's DLANet"
    model.load_state_dict(converted.state_dict, strict=True)


def segmentation() -> dict[str, torch.Tensor]:
    """A state dict as the authors' DLASeg saves it, with 4 classes at output stride 8."""
    from mmdla.models import IDAUp

    state = {f'base.{k}': v for k, v in released('34').items()}
    state |= {f'dla_up.{k}': v for k, v in IDAUp([128, 256, 512]).state_dict().items()}
    return state | {
        'fc.0.weight': torch.randn(4, 128, 1, 1),
        'fc.0.bias': torch.randn(4),
        'up.weight': torch.randn(4, 1, 16, 16),
    }


def test_convert_tool_checks_the_head(tmp_path, convert):
    state = segmentation()
    torch.save(state, tmp_path / 'whole.pth')
    done = convert(tmp_path / 'whole.pth', tmp_path / 'out.pth')
    assert done.returncode == 0, done.stderr
    assert (
        'out_indices=(3, 4, 5)) with IDAUpHead(in_channels=[128, 256, 512], num_classes=4)'
        in done.stdout
    )
    del state['dla_up.ida_1.node_1.0.weight']
    torch.save(state, tmp_path / 'part.pth')
    done = convert(tmp_path / 'part.pth', tmp_path / 'never.pth')
    assert done.returncode == 1
    assert 'entries of its head' in done.stderr
    assert 'decode_head.dla_up.ida_1.node_1.0.weight' in done.stderr
    # A detector of the CenterNet family has the same beginning and no classifier.
    detector = {k: v for k, v in segmentation().items() if not k.startswith('fc.')}
    with pytest.raises(CheckpointError, match='neither an authors'):
        convert_released(detector)


def test_convert_tool(tmp_path, convert):
    src, dst = tmp_path / 'src.pth', tmp_path / 'out/dst.pth'
    torch.save(released('46_c'), src)
    done = convert(src, dst)
    assert done.returncode == 0, done.stderr
    assert "This was authors' DLA classifier, DLA '46_c'" in done.stdout
    model = DLA('46_c', init_cfg=dict(type='Pretrained', checkpoint=str(dst), prefix='backbone'))
    model.init_weights()
    assert same(model, released('46_c')) is False
    assert same(model, torch.load(src))

    again = convert(src, dst)
    assert again.returncode == 2
    assert 'exists already' in again.stderr
    page = convert(bad_file('web page', tmp_path), tmp_path / 'never.pth')
    assert page.returncode == 1
    assert 'this is a web page' in page.stderr
    assert 'Traceback' not in page.stderr
    partial = dict(list(released('46_c').items())[:-20])
    torch.save(partial, tmp_path / 'partial.pth')
    refused = convert(tmp_path / 'partial.pth', tmp_path / 'never.pth')
    assert "closest is DLA '46_c'" in refused.stderr
    assert not (tmp_path / 'never.pth').exists()


def released_drn(arch: str, classes: int = 1000) -> dict[str, torch.Tensor]:
    """A DRN's state dict as the authors' code saves it, with C-58's dead shortcut."""
    model = DRN(arch)
    model.init_weights()
    state = dict(model.state_dict())
    if arch == 'c_58':
        state['layer7.0.downsample.0.weight'] = torch.randn(512, 2048, 1, 1)
        state['layer7.0.downsample.1.weight'] = torch.randn(512)
    shape = (classes, model.channels[-1])
    state['fc.weight'] = torch.randn(*shape, *(() if arch.startswith('a') else (1, 1)))
    state['fc.bias'] = torch.randn(classes)
    return state


def released_drnseg(arch: str, classes: int = 19) -> dict[str, torch.Tensor]:
    """The released segmentation network: the layers before the classifier become a sequence."""
    model = DRN(arch)
    state = {f'base.{k}': v for k, v in nn.Sequential(*model.children()).state_dict().items()}
    state['seg.weight'] = torch.randn(classes, model.channels[-1], 1, 1)
    state['seg.bias'] = torch.randn(classes)
    state['up.weight'] = torch.randn(classes, 1, 16, 16)
    return state


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('arch', ['a_50', 'c_26', 'c_58', 'd_22'])
def test_convert_drn_classifiers(arch, prefix):
    state = released_drn(arch, classes=10)
    converted = convert_released({f'{prefix}{k}': v for k, v in state.items()})
    family = 'ResNet classifier' if arch == 'a_50' else "authors' DRN classifier"
    assert converted.format == family
    assert (converted.backbone, converted.num_classes) == ('DRN', 10)
    assert converted.state_dict['head.fc.weight'].shape == (10, state['fc.weight'].shape[1])
    network = DRN(arch)
    network.load_state_dict(converted.network, strict=True)
    assert same(network, state)
    assert converted.network.keys() == network.state_dict().keys()


@pytest.mark.parametrize('arch', ['a_50', 'c_26', 'c_42', 'd_22', 'd_105'])
def test_convert_drn_segmentation_networks(arch, tmp_path):
    pytest.importorskip('mmseg')
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    state = released_drnseg(arch)
    converted = convert_released({f'module.{k}': v for k, v in state.items()})
    assert converted.format == "authors' DRNSeg"
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(ROOT / f'configs/drn_{arch}_cityscapes.py').model)
    model = revert_sync_batchnorm(model)
    model.load_state_dict(converted.state_dict, strict=True)
    wanted = nn.Sequential(*DRN(arch).children()).eval()
    wanted.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith('base.')})
    x = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        y = nn.functional.conv2d(wanted(x), state['seg.weight'], state['seg.bias'])
        torch.testing.assert_close(model.eval()(x, mode='tensor'), y)

    torch.save(state, tmp_path / 'seg.pth')
    backbone = DRN(arch, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'seg.pth')))
    backbone.init_weights()
    assert same(backbone, converted.network)


def test_what_is_no_network_is_reported():
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.models import ImageClassifier

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='mmdla.DRN', arch='a_18', out_indices=(4,)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
        )
    state = released_drn('a_18', classes=10)
    model.load_state_dict(state, strict=True)
    odd = {'aux.weight': torch.zeros(1), 'layer9.0.conv1.weight': torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r'aux\.weight'):
        model.load_state_dict(state | odd, strict=True)


def test_convert_tool_knows_drn(tmp_path, convert):
    torch.save(dict(state_dict=released_drnseg('d_22')), tmp_path / 'seg.pth')
    done = convert(tmp_path / 'seg.pth', tmp_path / 'out.pth')
    assert done.returncode == 0, done.stderr
    assert "This was authors' DRNSeg, DRN 'd_22'" in done.stdout
    assert 'LinearHead(in_channels=512, num_classes=19), such as configs/drn_d_22_city' in done.stdout
    torch.save(released_drn('c_58'), tmp_path / 'classifier.pth')
    done = convert(tmp_path / 'classifier.pth', tmp_path / 'out2.pth')
    assert done.returncode == 0, done.stderr
    assert "DRN(arch='c_58', out_indices=(8,)), GlobalAveragePooling" in done.stdout
    state = released_drnseg('d_22')
    del state['base.3.0.conv1.weight']
    torch.save(state, tmp_path / 'part.pth')
    done = convert(tmp_path / 'part.pth', tmp_path / 'never.pth')
    assert done.returncode == 1
    assert "closest is DRN 'd_22'" in done.stderr
    state['base.9.weight'] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r'has layers base.\[9\]'):
        convert_released(state)


def test_drn_a_takes_a_resnet():
    theirs = timm.create_model('resnet18')
    converted = convert_released(theirs.state_dict())
    assert converted.format == 'ResNet classifier'
    DRN('a_18').load_state_dict(converted.network, strict=True)
    DRN('a_18').load_state_dict(theirs.state_dict(), strict=True)


def test_other_schemes_are_mmengines(monkeypatch):
    from mmengine.runner import CheckpointLoader

    state = released_drn('a_18')
    monkeypatch.setattr(CheckpointLoader, '_schemes', {'here://': lambda f, map_location: state})
    model = DRN('a_18', init_cfg=dict(type='Pretrained', checkpoint='here://resnet18'))
    model.init_weights()
    assert same(model, state)


@pytest.mark.parametrize('arch', ['a_50', 'c_26', 'd_54'])
def test_released_drn_classifier_gives_the_released_logits(arch, golden):
    """A released file, loaded as it is into mmpretrain's classifier."""
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.models import ImageClassifier

    gold = golden(f'drn_{arch}')
    backbone = DRN(arch)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='mmdla.DRN', arch=arch, out_indices=(backbone.numbers[-1],)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=backbone.channels[-1]),
        ).eval()
    model.load_state_dict(gold.state_dict(), strict=True)
    with torch.no_grad():
        gold.check('logits', model.head(model.extract_feat(gold.input())))
    again = ImageClassifier.state_dict(model)
    model.load_state_dict(again, strict=True)
