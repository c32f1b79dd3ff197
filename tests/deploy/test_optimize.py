"""Optimized networks: the same outputs, at every size, around the same models; what cannot be is refused."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from conftest import ROOT, random_norms
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdla.deploy import OptimizeError, inference, optimize
from mmdla.deploy.inference import Optimized
from mmdla.deploy.upsampling import PhaseUpsample
from mmdla.models import DLA, DRN, IDAUp
from mmdla.models.layers import LearnedUpsample

SMALL = dict(block='basic', tree_depths=(1, 2, 1, 1), channels=(4, 8, 8, 16, 16, 16))
SMALL_DRN = dict(block='basic', depths=(1,) * 8, channels=(4, 4, 8, 8, 8, 8, 8, 8), plain=True)
SIZES = [(64, 96), (65, 97), (71, 50)]


def close(found, wanted, tolerance=1e-4):
    """Equal to a part of the largest output."""
    if not isinstance(found, torch.Tensor):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted):
            close(a, b, tolerance)
        return
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * wanted.abs().max().item())


def run(model, x):
    with torch.no_grad():
        return model(x)


def segmentor(head: dict, backbone: dict | None = None, **test_cfg):
    pytest.importorskip('mmseg')
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmseg')
    backbone = backbone or dict(type='DLA', arch=SMALL)
    head = dict(type='IDAUpHead', in_channels=[8, 16, 16, 16], num_classes=3) | head
    model = MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            backbone=backbone,
            decode_head=head,
            auxiliary_head=dict(
                type='FCNHead', in_channels=head.get('aux', 16), in_index=-1, channels=4, num_classes=3
            )
            if head['type'] == 'IDAUpHead'
            else None,
            test_cfg=dict(mode='whole') | test_cfg,
        )
    )
    model.init_weights()
    return random_norms(model)


def linear(upsample: str) -> dict:
    head = dict(type='LinearHead', in_channels=8, num_classes=3, upsample=upsample)
    return dict(head=head, backbone=dict(type='DRN', arch=SMALL_DRN))


SEGMENTORS = {
    'nested': dict(head={}),
    'single': dict(head=dict(variant='single')),
    'centernet': dict(head=dict(variant='centernet')),
    'bilinear': dict(head=dict(upsample='bilinear')),
    'linear': linear('bilinear'),
    'linear-deconv': linear('deconv'),
    'boundary': dict(head=dict(type='BoundaryHead', num_classes=2, out_channels=2)),
    'boundary-1': dict(head=dict(type='BoundaryHead', num_classes=2, out_channels=1)),
    'sides': dict(head=dict(type='SideOutputHead', strides=(1, 2, 4, 8), num_classes=2)),
    'average': dict(
        head=dict(type='SideOutputHead', strides=(1, 2, 4, 8), num_classes=2, prediction='average')
    ),
}


def classifier(head: str = 'LinearClsHead', arch=SMALL):
    pytest.importorskip('mmpretrain')
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='mmdla.DLA', arch=arch, out_indices=(5,)),
            neck=None if head == 'ClassMapHead' else dict(type='GlobalAveragePooling'),
            head=dict(type=head, num_classes=5, in_channels=arch['channels'][-1]),
        )
    )
    return random_norms(model)


# -- the same outputs -----------------------------------------------------------------------------


@pytest.mark.compile
@pytest.mark.parametrize('kind', [DLA, DRN])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_every_architecture(kind, dtype):
    for arch in kind.arch_settings:
        if dtype == torch.bfloat16 and arch not in ('34', '46x_c', '60_res2net', 'c_26', 'd_22'):
            continue
        backbone = random_norms(kind(arch))
        quick = optimize(backbone, torch.rand(1, 3, 64, 96), dtype, compile=False)
        assert not any(isinstance(m, _BatchNorm) for m in quick.modules()), arch
        x = torch.rand(1, 3, 65, 97)
        close(quick(x), run(backbone, x), 1e-4 if dtype == torch.float32 else 0.2)


@pytest.mark.parametrize('name', SEGMENTORS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_segmentors(name, dtype):
    model = segmentor(**SEGMENTORS[name])
    quick = optimize(model, torch.rand(1, 3, 64, 96), dtype, compile=False)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    for size in SIZES:
        x = torch.rand(2, 3, *size)
        close(quick(x), run(model, x), tolerance)
        with torch.no_grad():
            wanted, found = model.predict(x), quick.predict(x)
        for a, b in zip(found, wanted):
            # Of one channel they are probabilities, and random norms make extreme logits.
            if len(b.seg_logits.data) > 1:
                close(a.seg_logits.data, b.seg_logits.data, tolerance)
            elif dtype == torch.float32:
                close(a.seg_logits.data, b.seg_logits.data, 10 * tolerance)
            same = (a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean()
            assert same > (0.999 if dtype == torch.float32 else 0.9)
        logits = quick(x)
        chances = logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()
        close(quick.probabilities(x), chances, 1e-5)


def samples(number: int, **meta):
    from mmseg.structures import SegDataSample

    return [SegDataSample(metainfo=meta) for _ in range(number)]


METAS = {
    'as it is': dict(img_shape=(65, 97), ori_shape=(65, 97), pad_shape=(65, 97)),
    'resized': dict(img_shape=(65, 97), ori_shape=(130, 194), pad_shape=(65, 97)),
    'flipped': dict(
        img_shape=(65, 97),
        ori_shape=(65, 97),
        pad_shape=(65, 97),
        flip=True,
        flip_direction='horizontal',
    ),
    'padded': dict(
        img_shape=(60, 90), ori_shape=(60, 90), pad_shape=(65, 97), img_padding_size=[0, 7, 0, 5]
    ),
}


@pytest.mark.parametrize('name', ['nested', 'linear', 'boundary-1'])
@pytest.mark.parametrize('meta', METAS)
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_labels_only(name, meta, mode):
    window = dict(crop_size=(48, 48), stride=(32, 32)) if mode == 'slide' else {}
    model = segmentor(**SEGMENTORS[name], mode=mode, **window)
    x = torch.rand(2, 3, 65, 97)
    quick = optimize(model, x, compile=False, labels_only=True)
    with torch.no_grad():
        wanted = model.predict(x, samples(2, **METAS[meta]))
    found = quick.predict(x, samples(2, **METAS[meta]))
    for a, b in zip(found, wanted):
        assert 'seg_logits' not in a
        assert a.pred_sem_seg.data.shape == b.pred_sem_seg.data.shape
        assert a.pred_sem_seg.data.dtype == b.pred_sem_seg.data.dtype
        assert (a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean() > 0.999
    assert len(quick.predict(x)) == 2


@pytest.mark.parametrize('head', ['LinearClsHead', 'ClassMapHead'])
@pytest.mark.parametrize('compiled', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_classifiers(head, compiled):
    model = classifier(head)
    quick = optimize(model, torch.rand(2, 3, 64, 64), compile=compiled)
    for size in SIZES:
        x = torch.rand(2, 3, *size)
        close(quick(x), run(model, x))
        with torch.no_grad():
            wanted, found = model.predict(x), quick.predict(x)
        for a, b in zip(found, wanted):
            close(a.pred_score, b.pred_score)
            if head == 'ClassMapHead':
                close(a.class_maps, b.class_maps)
    x = torch.rand(1, 3, 64, 64)
    for stage in ('backbone', 'neck', 'pre_logits'):
        with torch.no_grad():
            close(quick.extract_feat(x, stage), model.extract_feat(x, stage))


@pytest.mark.compile
@pytest.mark.parametrize('dtype', [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_compiled_segmentor(dtype):
    """In one graph, whatever the size."""
    model = segmentor({})
    quick = optimize(model, torch.rand(1, 3, 128, 192), dtype, labels_only=True)
    for size in [(128, 192), (129, 191), (160, 161)]:
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            (wanted,) = model.predict(x)
        (found,) = quick.predict(x)
        same = (found.pred_sem_seg.data == wanted.pred_sem_seg.data).float().mean()
        assert same > (0.999 if dtype == torch.float32 else 0.9)
        assert not torch.is_inference(found.pred_sem_seg.data)


@pytest.mark.slow
@pytest.mark.parametrize('name', SEGMENTORS)
def test_every_compiled_segmentor(name):
    model = segmentor(**SEGMENTORS[name])
    quick = optimize(model, torch.rand(1, 3, 64, 96))
    for size in SIZES:
        x = torch.rand(1, 3, *size)
        close(quick(x), run(model, x))


@pytest.mark.slow
@pytest.mark.parametrize('arch', [*DLA.arch_settings, *(f'drn:{a}' for a in DRN.arch_settings)])
def test_every_compiled_architecture(arch):
    backbone = DRN(arch[4:]) if arch.startswith('drn:') else DLA(arch)
    random_norms(backbone)
    quick = optimize(backbone, torch.rand(1, 3, 64, 96))
    for size in SIZES:
        x = torch.rand(1, 3, *size)
        close(quick(x), run(backbone, x))


@pytest.mark.parametrize('factor', [2, 3, 4, 5, 8])
@pytest.mark.parametrize('channels', [3, 16])
def test_upsampling_by_phases(factor, channels):
    plain = LearnedUpsample(channels, factor)
    nn.init.normal_(plain.weight)
    phases = PhaseUpsample(plain)
    x = torch.randn(2, channels, 5, 7)
    close(phases._convolution(x)[..., :1, :1], phases._products(x)[..., :1, :1], 1e-6)
    with torch.no_grad():
        close(phases(x), plain(x), 1e-6)
        start = factor // 2
        crop = (..., slice(start, start + 5 * factor), slice(start, start + 7 * factor))
        close(phases._products(x)[crop], plain(x), 1e-6)


def test_modules_within_others():
    """A neck takes several maps; group norms stay."""
    backbone = DLA(SMALL, norm_cfg=dict(type='GN', num_groups=2))
    x = torch.rand(1, 3, 65, 97)
    close(optimize(backbone, x, compile=False)(x), run(backbone.eval(), x))
    both = random_norms(nn.Sequential(DLA(SMALL), IDAUp([8, 16, 16, 16])))
    close(optimize(both, x, compile=False)(x), run(both, x))
    levels = list(run(both[0], x))
    close(optimize(both[1], levels, compile=False)(levels), run(both[1], levels))


# -- what is around ---------------------------------------------------------------------------------


def test_the_model_is_left_as_it_is():
    model = DLA(SMALL, frozen_stages=1).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    quick = optimize(model, torch.rand(1, 3, 64, 96), compile=False)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert modes == [m.training for m in model.modules()]
    assert any(p.requires_grad for p in model.parameters())
    assert not quick(torch.rand(1, 3, 64, 96))[0].requires_grad
    assert quick.error < 1e-5
    with pytest.raises(RuntimeError, match='train the original model'):
        quick.train()
    quick.train(False)
    assert isinstance(quick.eval(), Optimized)


def test_segmentors_stay_what_they_are():
    from mmseg.models import EncoderDecoder

    model = segmentor({})
    quick = optimize(model, torch.rand(1, 3, 64, 96), compile=False)
    assert isinstance(quick, EncoderDecoder)
    assert type(model).__name__ == 'EncoderDecoder'
    assert model.with_auxiliary_head
    assert not quick.with_auxiliary_head


def test_inferencer_and_test_step(tmp_path):
    pytest.importorskip('mmseg')
    import numpy as np
    from mmengine.config import Config

    from mmdla.apis import SegInferencer
    from mmdla.engine.config import build_model

    cfg = Config.fromfile(ROOT / 'configs/dla34_demo.py')
    torch.save(build_model(cfg).state_dict(), tmp_path / 'demo.pth')
    inferencer = SegInferencer('dla34_demo', str(tmp_path / 'demo.pth'), device='cpu')
    image = np.random.default_rng(0).integers(0, 255, (96, 120, 3)).astype('uint8')
    wanted = inferencer(image)['predictions']
    inferencer.model = optimize(
        inferencer.model, torch.rand(1, 3, 96, 120), compile=False, labels_only=True
    )
    found = inferencer(image)['predictions']
    assert found.shape == wanted.shape
    assert (found == wanted).mean() > 0.999


# -- a lower precision that is no faster ----------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The timer of float32 and bfloat16 in turn: seconds of a call of each, by their type."""
    seconds, calls = {torch.float32: 1.0, torch.bfloat16: 1.0}, []

    def timed(call):
        network = call.func.__self__
        calls.append(network.dtype)
        call()
        return seconds[network.dtype]

    monkeypatch.setattr(inference, 'timed', timed)
    monkeypatch.setattr(inference, 'SECONDS', 600.0)  # however busy the machine is
    return seconds, calls


@pytest.mark.parametrize('kind', ['backbone', 'classifier', 'segmentor'])
def test_bfloat16_that_is_slower_is_warned_of(kind, clock):
    model = dict(
        backbone=lambda: random_norms(DLA(SMALL)),
        classifier=classifier,
        segmentor=lambda: segmentor({}),
    )[kind]()
    seconds, calls = clock
    seconds[torch.bfloat16] = 7.04
    with pytest.warns(
        UserWarning, match=r'dtype=torch.bfloat16 takes 7.0 times as long as torch.float32'
    ) as told:
        optimize(model, torch.rand(1, 3, 64, 96), torch.bfloat16, compile=False)
    assert len([w for w in told if 'times as long' in str(w.message)]) == 1
    assert calls == [torch.float32, torch.bfloat16] * inference.ROUNDS, 'in turn'


def test_bfloat16_that_is_as_fast_is_not(clock, monkeypatch):
    model, x = random_norms(DLA(SMALL)), torch.rand(1, 3, 64, 96)
    seconds, calls = clock
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for value in (0.4, 1.09):
            seconds[torch.bfloat16] = value
            optimize(model, x, torch.bfloat16, compile=False)
        calls.clear()
        optimize(model, x, compile=False)
    assert not calls, 'float32 is not timed'
    # One round where even that takes longer than all are given.
    monkeypatch.setattr(inference, 'SECONDS', 0.0)
    seconds[torch.bfloat16] = 3
    with pytest.warns(UserWarning, match=r'3\.0 times .*median of 1 alternating'):
        optimize(model, x, torch.bfloat16, compile=False)


# -- what cannot be -----------------------------------------------------------------------------------


class NormFirst(nn.Module):
    """Defines its layers in the order of convolution and norm, and runs them in the other."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(x))


class Breaking(nn.Module):
    def forward(self, x):
        torch._dynamo.graph_break()
        return x


def test_what_cannot_be_is_refused():
    backbone, x = random_norms(DLA(SMALL)), torch.rand(1, 3, 64, 96)
    for kwargs, error, message in [
        (dict(model='dla34'), TypeError, "model='dla34': must be a module"),
        (dict(example=[1]), TypeError, r'example=\[1\]: must be a tensor'),
        (dict(example=x[0]), OptimizeError, r'torch.float32, \(3, 64, 96\)'),
        (dict(example=x.double()), OptimizeError, r'torch.float64'),
        (dict(example=x[:0]), OptimizeError, r'\(0, 3, 64, 96\)'),
        (dict(dtype=torch.int8), OptimizeError, 'dtype=torch.int8: must be one of'),
        (dict(dtype=torch.float16), OptimizeError, 'dtype=torch.float16: must be .* on a CPU'),
        (dict(labels_only=True), OptimizeError, 'labels_only=True: DLA predicts no label maps'),
        (dict(model=nn.DataParallel(backbone)), OptimizeError, 'pass model.module'),
        (dict(model=copy.deepcopy(backbone).bfloat16()), OptimizeError, 'parameters of torch.bfloat16'),
        (dict(model=random_norms(NormFirst())), OptimizeError, 'does not follow the convolution'),
    ]:
        with pytest.raises(error, match=message):
            optimize(**(dict(model=backbone, example=x, compile=False) | kwargs))
    with pytest.raises(OptimizeError, match='OptimizedModule is optimized already'):
        optimize(optimize(backbone, x, compile=False), x)
    broken = copy.deepcopy(backbone)
    broken.level2.root.conv.weight.data.fill_(float('nan'))
    with pytest.raises(OptimizeError, match='infinite values or NaN for the example'):
        optimize(broken, x, compile=False)
    with pytest.raises(OptimizeError, match=r'cannot capture it as one graph .*use compile=False'):
        optimize(nn.Sequential(nn.Conv2d(3, 3, 1), Breaking()), x)


class Second(nn.Module):
    """A second output that is not finite."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.conv(x)
        return [y, y * (float('nan') if y.dtype == torch.bfloat16 else 1)]


def test_every_output_counts():
    with pytest.raises(OptimizeError, match='must be finite'):
        optimize(Second().eval(), torch.rand(1, 3, 8, 8), torch.bfloat16, compile=False)


def test_wrong_folding_is_found_in_low_precision_too():
    with pytest.raises(OptimizeError, match='does not follow the convolution'):
        optimize(random_norms(NormFirst()), torch.rand(1, 3, 8, 8), torch.bfloat16, compile=False)


def test_norms_that_cannot_be_folded_are_named():
    layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)).eval()
    with pytest.raises(OptimizeError, match='batch norm without weights'):
        optimize(layers, torch.rand(1, 3, 8, 8), compile=False)


def test_other_outputs_are_named():
    class Dict(nn.Module):
        def forward(self, x):
            return dict(x=x)

    with pytest.raises(OptimizeError, match='returns dict'):
        optimize(Dict(), torch.rand(1, 3, 8, 8), compile=False)


def test_autocast_around_changes_nothing():
    backbone, x = random_norms(DLA('34')), torch.rand(1, 3, 96, 96)
    quick = optimize(backbone, x, compile=False)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = quick(x)
    close(found, run(backbone, x))


def test_heads_of_other_predictions_are_refused():
    head = dict(
        type='EncHead', in_channels=[8, 16, 16, 16], in_index=(0, 1, 2, 3), channels=8, num_codes=4,
        use_se_loss=True, num_classes=3,
    )  # fmt: skip
    with pytest.raises(OptimizeError, match='EncHead, has its own predict method'):
        optimize(segmentor(head), torch.rand(1, 3, 64, 96), compile=False)


def test_other_models_are_named():
    pytest.importorskip('mmseg')
    from mmdla.models.segmentors.seg_tta import SegTTAModel

    with pytest.raises(OptimizeError, match='SegTTAModel is neither an ImageClassifier'):
        optimize(SegTTAModel(segmentor({})), torch.rand(1, 3, 64, 96))
