"""Released networks are found in files, renamed and loaded, and every entry is accounted for."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from conftest import SHARED
from safetensors.torch import save_file
from torch import nn

from mmdla.checkpoints import (
    CheckpointError,
    LoadReport,
    convert_released,
    load_model,
    load_pretrained,
    weights_for,
)
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
    model = DLA('34', init_cfg=dict(type='Pretrained', checkpoint='tricks'))
    assert model.pretrained['checkpoint'].endswith('/dla34+tricks-24a49e58.pth')
    with pytest.raises(ValueError, match="checkpoint='tricks' needs arch='34', not '60'"):
        DLA('60', init_cfg=dict(type='Pretrained', checkpoint='tricks'))


def total(report: LoadReport) -> int:
    return len(report.loaded) + len(report.converted) + sum(map(len, report.left_out.values()))


def test_part_of_a_network_is_an_error_unless_asked_for(tmp_path, records):
    state = released()
    del state['level3.tree1.root.conv.weight']
    state['level2.tree1.conv1.weight'] = torch.zeros(7, 7)
    state['level3.extra'] = torch.zeros(1)
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError) as caught:
        pretrained(tmp_path / 'a.pth')
    said = str(caught.value)
    assert 'level3.tree1.root.conv.weight (missing)' in said
    assert 'level2.tree1.conv1.weight (is (7, 7), must be (64, 32, 3, 3))' in said
    assert 'lacks 2 of the 222 entries of DLA' in said
    model = pretrained(tmp_path / 'a.pth', strict=False)
    assert torch.equal(model.level2.tree1.conv2.weight, state['level2.tree1.conv2.weight'])
    text = '\n'.join(records)
    assert 'missing, and initialized: ' in text
    assert 'level3.tree1.root.conv.weight' in text
    assert 'not of this network: level3 (1)' in text
    assert 'of another shape: level2 (1)' in text


@pytest.mark.parametrize('out_indices', [(2, 3), (5,)])
def test_what_a_backbone_does_not_take_is_counted(out_indices, tmp_path):
    state = released()
    torch.save(
        dict(state_dict=state, optimizer=[torch.zeros(2)], best=torch.tensor(1)), tmp_path / 'a.pth'
    )
    model = DLA('34', out_indices=out_indices)
    report = load_pretrained(model, str(tmp_path / 'a.pth'))
    assert same(model, state)
    assert total(report) == report.total == len(state) + 2
    assert len(report.loaded) == len([k for k in state if k in model.state_dict()])
    said = report.summary()
    assert f'{len(state) + 2} entries' in said
    assert 'computed by the released code, but not used: level3 (3)' in said
    assert 'does not build: ' in said
    assert 'fc (2)' in said
    assert ('level5' in said) is (out_indices == (2, 3))
    assert 'no counterpart here: best (1), optimizer (1)' in said


CONTAINERS = {
    'bare': lambda s: s,
    'state_dict': lambda s: dict(state_dict=s, epoch=1),
    'model': lambda s: dict(model=s, iteration=3),
    'model_state': lambda s: dict(epoch=140, model_state=s, optimizer_state=None),
    'model_state_dict': lambda s: dict(model_state_dict=s),
    'net': lambda s: dict(net=s),
    'nested': lambda s: dict(args=dict(a=1), checkpoint=dict(model=dict(state_dict=s))),
    'list': lambda s: dict(models=[s]),
    'beside an optimizer': lambda s: dict(optimizer=dict(state={0: dict(exp_avg=torch.ones(9))}), x=s),
}
PREFIXES = ('', 'module.', '_orig_mod.', 'model.', 'encoder.', 'backbone.', 'backbone.base.',
            'backbone.bottom_up.', 'backbone.body.base.', 'net.backbone.base.', 'module.module.',
            'anything.at_all.')  # fmt: skip


@pytest.fixture(scope='module')
def small():
    return {arch: released(arch, 4) for arch in ('46_c',)} | {'c_26': released_drn('c_26', 4)}


def numbered(state: dict) -> dict:
    order = ['conv1', 'bn1', 'relu', *(f'layer{i}' for i in range(1, 9))]
    parts = {k: k.partition('.') for k in state}
    return {f'{order.index(a)}.{b}' if a in order else k: state[k] for k, (a, _, b) in parts.items()}


@pytest.mark.parametrize('kind', ['46_c', 'norms', 'c_26', 'numbers'])
@pytest.mark.parametrize('container', CONTAINERS)
def test_a_network_is_found_in_any_container_below_any_prefix(container, kind, small, tmp_path):
    arch = '46_c' if kind in ('46_c', 'norms') else 'c_26'
    state = own = small[arch]
    if kind == 'norms':
        state = {re.sub(r'\bbn(\d?)\.', r'norm\1.', k): v for k, v in own.items()}
    elif kind == 'numbers':
        state = {k: v for k, v in numbered(own).items() if not k.startswith('fc.')}
    network = (DLA if arch == '46_c' else DRN)(arch)
    for prefix in PREFIXES[list(CONTAINERS).index(container) % 5 :: 5]:
        held = {prefix + k: v for k, v in state.items()} | {'last_one.0.weight': torch.zeros(3, 5)}
        content = CONTAINERS[container](held)
        for value in network.state_dict().values():
            value.zero_()
        torch.save(content, tmp_path / 'a.pth')
        report = load_pretrained(network, str(tmp_path / 'a.pth'))
        assert same(network, own), prefix
        extra = container == 'beside an optimizer'
        assert total(report) == len(held) + extra, prefix
        assert 'last_one (1)' in report.summary(), prefix
        assert len(report.loaded) + len(report.converted) == len(
            [k for k in own if k in network.state_dict()]
        )
        converted = convert_released(content, 'here')
        assert same(network, converted.network)
        assert total(converted.report) == len(held) + extra
        assert 'last_one' in converted.left_out


def test_of_two_copies_the_first_is_taken_and_the_other_is_named(small, tmp_path):
    own = small['46_c']
    other = {k: v + 1 for k, v in own.items()}
    torch.save(dict(state_dict=own, state_dict_ema=other), tmp_path / 'a.pth')
    network = DLA('46_c')
    report = load_pretrained(network, str(tmp_path / 'a.pth'))
    assert same(network, own)
    assert 'another copy of the weights: state_dict_ema (' in report.summary()
    assert total(report) == 2 * len(own)
    network = DLA('46_c')
    load_pretrained(network, str(tmp_path / 'a.pth'), prefix='')
    assert same(network, own)


def test_a_prefix_that_is_given_is_the_only_one(small, tmp_path):
    own = small['46_c']
    student = {f'student.{k}': v for k, v in own.items()}
    teacher = {f'teacher.{k}': v + 1 for k, v in own.items()}
    torch.save(dict(state_dict=student | teacher), tmp_path / 'a.pth')
    network = DLA('46_c')
    load_pretrained(network, str(tmp_path / 'a.pth'), prefix='teacher')
    assert torch.equal(network.level0[0].weight, own['level0.0.weight'] + 1)
    with pytest.raises(CheckpointError, match=r"below prefix='model' \(its keys: state_dict.student"):
        load_pretrained(network, str(tmp_path / 'a.pth'), prefix='model')


GOLDEN = sorted(
    p.stem
    for start in ('dla', 'drn', 'users_', 'afa_')
    for p in (SHARED / 'golden').glob(f'{start}*.json')
)


@pytest.mark.parametrize('name', GOLDEN)
def test_every_entry_of_the_released_networks_is_accounted_for(name, tmp_path, convert):
    shapes = json.loads((SHARED / f'golden/{name}.json').read_text())['state_dict']
    state = {k: torch.zeros(shape) for k, shape in shapes.items()}
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    done = convert(tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert done.returncode == 0, done.stderr
    counts = re.search(r'(\d+) entries.*: (\d+) converted, (\d+) left out', done.stdout)
    entries, converted, left_out = map(int, counts.groups())
    assert entries == converted + left_out == len(shapes)
    assert len(torch.load(tmp_path / 'b.pth')['state_dict']) == converted
    named = re.findall(r'left out, .*', done.stdout)
    if not re.search('and [0-9]+ more', done.stdout):
        assert sum(int(n) for line in named for n in re.findall(r'\((\d+)\)', line)) == left_out


@pytest.mark.parametrize('arch', [a for a in DLA.arch_settings if not a.startswith('60_res')])
def test_every_released_classifier_converts(arch, tmp_path):
    """With what the released trees have and do not use, at every depth."""
    state = released(arch, classes=3)
    converted = convert_released(state)
    assert converted.format == "authors' DLA classifier"
    assert converted.network.keys() == {
        k for k in DLA(arch).state_dict() if not k.endswith('num_batches_tracked')
    }
    assert total(converted.report) == len(state)
    assert len(converted.report.left_out['computed by the released code, but not used']) == len(
        [k for k in state if k not in converted.names.values()]
    )
    torch.save(state, tmp_path / 'a.pth')
    assert same(pretrained(tmp_path / 'a.pth', arch), converted.network)


@pytest.mark.parametrize('name', ['users_fairmot_dla34', 'users_monodle_dla34', 'users_smoke_dla34'])
def test_backbones_of_detectors_give_the_released_levels(name, golden, tmp_path):
    gold = golden(name)
    torch.save(dict(model_state=gold.state_dict()), tmp_path / 'a.pth')
    norm_cfg = dict(type='GN', num_groups=32) if 'smoke' in name else dict(type='BN')
    model = DLA('34', out_indices=range(6), norm_cfg=norm_cfg).eval()
    report = load_pretrained(model, str(tmp_path / 'a.pth'))
    assert total(report) == len(gold.meta['state_dict'])
    assert 'no counterpart here: ' in report.summary()
    with torch.no_grad():
        for i, level in enumerate(model(gold.input())):
            gold.check(f'level{i}', level)


def test_another_network_is_refused(tmp_path):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'none of its parameters is one of DLA \(its keys: a\)'):
        pretrained(tmp_path / 'a.pth')
    torch.save(released('60'), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'of another network than the model.*of DLA'):
        pretrained(tmp_path / 'a.pth', strict=True)


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


@pytest.mark.parametrize('name', ['dla34', 'dla46x_c', 'dla60', 'dla102'])
def test_every_golden_classifier_gives_the_released_logits(name, golden, tmp_path):
    """By conversion to the backbone and a linear layer, without mmpretrain."""
    gold = golden(name)
    converted = convert_released(gold.state_dict())
    model = DLA(name[3:], out_indices=(5,)).eval()
    model.load_state_dict(converted.network, strict=True)
    head = {n: converted.state_dict[f'head.fc.{n}'] for n in ('weight', 'bias')}
    with torch.no_grad():
        pooled = model(gold.input())[0].mean((2, 3))
        gold.check('logits', nn.functional.linear(pooled, head['weight'], head['bias']))


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
    # Without its classifier it is a model with a backbone that can be used.
    headless = convert_released({k: v for k, v in segmentation().items() if not k.startswith('fc.')})
    assert (headless.format, headless.left_out) == ('DLA backbone', ('dla_up', 'up'))
    with pytest.raises(
        CheckpointError, match=r'neither an authors. DLA, DLASeg, AFA-DLA, DRN or DRNSeg'
    ):
        convert_released(nn.Linear(2, 2).state_dict())


def test_convert_tool(tmp_path, convert):
    src, dst = tmp_path / 'src.pth', tmp_path / 'out/dst.pth'
    torch.save(released('46_c'), src)
    done = convert(src, dst)
    assert done.returncode == 0, done.stderr
    assert "This was authors' DLA classifier, DLA '46_c'" in done.stdout
    assert f'{len(released("46_c"))} entries' in done.stdout
    model = DLA('46_c', init_cfg=dict(type='Pretrained', checkpoint=str(dst), prefix='backbone'))
    model.init_weights()
    assert same(model, released('46_c')) is False
    assert same(model, torch.load(src))

    again = convert(src, dst)
    assert again.returncode == 2
    assert 'exists already' in again.stderr
    (tmp_path / 'page.pth').write_text('<!DOCTYPE html>\n<html><body>404 Not Found</body></html>')
    page = convert(tmp_path / 'page.pth', tmp_path / 'never.pth')
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
    model = MODELS.build(Config.fromfile(ROOT / f'configs/drn/drn_{arch}_cityscapes.py').model)
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
    assert (
        'LinearHead(in_channels=512, num_classes=19), such as configs/drn/drn_d_22_city' in done.stdout
    )
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


@pytest.mark.parametrize('prefix', ['', 'module.', 'model.', '_orig_mod.'])
def test_whole_models_are_loaded_and_the_rest_is_named(prefix, tmp_path):
    pytest.importorskip('mmseg')
    from mmengine.registry import DefaultScope
    from mmseg.models import EncoderDecoder

    def model() -> nn.Module:
        with DefaultScope.overwrite_default_scope('mmseg'):
            return EncoderDecoder(
                backbone=dict(type='mmdla.DLA', arch='34', out_indices=(3, 4, 5)),
                decode_head=dict(type='mmdla.IDAUpHead', in_channels=[128, 256, 512], num_classes=4),
            )

    released_net = segmentation()
    found = model()
    report = load_model(found, {prefix + k: v for k, v in released_net.items()}, 'here')
    assert torch.equal(found.decode_head.conv_seg.bias, released_net['fc.0.bias'])
    assert total(report) == len(released_net)
    assert 'fixed bilinear upsampling, which needs no weights here: up (1)' in report.summary()
    own = {prefix + k: v for k, v in found.state_dict().items()}
    content = dict(state_dict=own, optimizer=[torch.zeros(1)])
    assert len(weights_for(model(), content, 'here')) == len(own)
    report = load_model(model(), content, 'here')
    assert (len(report.loaded), report.left_out) == (len(own), {'no counterpart here': ['optimizer.0']})
    del own[f'{prefix}decode_head.conv_seg.bias']
    with pytest.raises(CheckpointError, match=r'decode_head.conv_seg.bias \(missing\)'):
        weights_for(model(), content, 'here')


@pytest.mark.parametrize(
    'state',
    [
        {'base_layer.0.weight': [1], 'level2.root.bn.weight': [1], 'fc.weight': [], 'fc.bias': []},
        {'base.base_layer.0.weight': [1], 'fc.0.weight': [], 'fc.0.bias': []},
        {
            'seg.weight': [],
            'seg.bias': [],
            'base.0.0.weight': [1],
            'base.8.0.weight': [1],
            'base.x.0.weight': [1],
        },
        {'layer0.0.weight': [1], 'layer8.0.weight': [1], 'fc.weight': [2], 'fc.bias': []},
    ],
)
def test_weights_of_other_shapes_are_none_of_a_network(state):
    state = {name: torch.zeros(shape) for name, shape in state.items()}
    converted = convert_released(state, 'here.pth')
    assert total(converted.report) == len(state)
    assert all(torch.is_tensor(value) for value in converted.state_dict.values())
