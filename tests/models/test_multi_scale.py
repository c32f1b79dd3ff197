"""AFA-DLA as a segmentor: released numbers, scales, heads, and all that mmseg does with a segmentor."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

pytest.importorskip('mmseg')
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdla.checkpoints import ABN_EPS, AUTHORS_AFA, convert_released, load_model
from mmdla.deploy import optimize
from mmdla.deploy.exporting import Graph, export, load
from mmdla.models import (
    DLA,
    LinearBoundaryHead,
    LinearHead,
    MultiScaleSegmentor,
    ObjectContextHead,
    OneHotBCELoss,
    RegionMutualInformationLoss,
)
from mmdla.utils.predictions import boundary_probability

LEAKY = dict(type='LeakyReLU', negative_slope=0.01)
SMALL = dict(
    type='mmdla.DLA',
    arch=dict(block='basic', tree_depths=(1, 2, 1, 1), channels=(4, 4, 8, 8, 16, 16)),
    out_indices=(1, 2, 3, 4, 5),
)
AFA_UP = dict(type='mmdla.AFAUp', in_channels=[4, 8, 8, 16, 16])
LINEAR = dict(type='mmdla.LinearHead', in_channels=4, num_classes=3, stride=2)
CONTEXT = dict(type='mmdla.ObjectContextHead', in_channels=4, num_classes=3, channels=6, ocr_channels=5)
BOUNDARY = dict(type='mmdla.LinearBoundaryHead', in_channels=4, stride=2, log_prob=True)
SSR = dict(type='mmdla.ScaleSpaceRendering', channels=4)


def auxiliary(head: str = 'mmdla.LinearHead', **settings) -> list[dict]:
    """One on what each step ends with."""
    return [
        dict(type=head, in_channels=c, in_index=i, stride=16 // 2**i, **settings)
        for i, c in enumerate((16, 8, 8, 4))
    ]


def settings(head: dict, attention: dict | None = None, scales=(1,), **test_cfg) -> dict:
    return ConfigDict(
        type='mmdla.MultiScaleSegmentor',
        backbone=SMALL,
        neck=AFA_UP,
        decode_head=head,
        scale_attention=attention,
        train_cfg=dict(scales=scales),
        test_cfg=dict(mode='whole', scales=scales) | test_cfg,
    )


VARIANTS = dict(
    plain=settings(LINEAR),
    released=settings(LINEAR | dict(upsample='deconv', log_prob=True), SSR, (0.5, 1, 1.5)),
    hierarchical=settings(
        LINEAR, dict(type='mmdla.HierarchicalAttention', channels=4, hidden_channels=5), (0.5, 1, 2)
    ),
    context=settings(CONTEXT, SSR | dict(channels=6), (0.5, 1)),
    context_alone=settings(CONTEXT),
    boundaries=settings(BOUNDARY, size_divisor=32),
    fcn=settings(
        dict(type='FCNHead', in_channels=4, in_index=-1, channels=5, num_classes=3),
        SSR | dict(channels=5),
        (1, 0.75),
    ),
)


def milder_norms(model: nn.Module) -> nn.Module:
    """Evaluation mode, with batch norms that are not the identity but keep attentions from 0 and 1."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.1)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


def build(name: str, **options) -> MultiScaleSegmentor:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return milder_norms(MODELS.build(copy.deepcopy(VARIANTS[name]) | options))


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=y[None])) for y in labels]


def block_labels(shape, classes: int, seed: int) -> torch.Tensor:
    """8x8 blocks of one class, the first ignored, as the golden files' read-me has them."""
    rng = np.random.default_rng(seed)
    n, h, w = shape
    out = np.kron(rng.integers(0, classes, (n, h // 8, w // 8)), np.ones((8, 8), int))
    out[:, :8, :8] = 255
    return torch.from_numpy(out)


# -- released numbers -----------------------------------------------------------------------------

GOLDEN = ['afa_dla34_edges', 'afa_dla34_edges_abn', 'afa_dla34_ssr', 'afa_dla102x_ocr_ssr']


def released(gold) -> tuple[MultiScaleSegmentor, dict[str, torch.Tensor]]:
    """The network of a golden file, and the file's entries."""
    init_default_scope('mmseg')
    meta = gold.meta
    edges, context = meta['is_edge'], 'ocr' in meta['name']
    act_cfg = LEAKY if meta.get('abn') else dict(type='ReLU')
    arch = meta['base'].removeprefix('dla')
    channels = DLA(arch).channels[1:]
    linear = dict(
        type=f'mmdla.{"LinearBoundaryHead" if edges else "LinearHead"}',
        num_classes=meta['classes'],
        upsample='deconv',
        log_prob=True,
    )
    head = linear | dict(in_channels=channels[0], stride=2)
    if context:
        head = dict(
            type='mmdla.ObjectContextHead',
            in_channels=channels[0],
            num_classes=meta['classes'],
            act_cfg=act_cfg,
        )
    attention = SSR | dict(channels=256 if context else channels[0], act_cfg=act_cfg)
    model = MODELS.build(
        ConfigDict(
            type='mmdla.MultiScaleSegmentor',
            backbone=dict(type='mmdla.DLA', arch=arch, out_indices=(1, 2, 3, 4, 5)),
            neck=dict(type='mmdla.AFAUp', in_channels=channels, act_cfg=act_cfg),
            decode_head=head,
            auxiliary_head=[
                linear | dict(in_channels=c, in_index=i, stride=16 // 2**i)
                for i, c in enumerate(channels[-2::-1])
            ],
            scale_attention=attention if meta['scales'] else None,
            train_cfg=dict(scales=meta['train_scales'], size_divisor=64),
            test_cfg=dict(mode='whole', scales=meta['scales'] or [1], size_divisor=128),
        )
    )
    state = gold.state_dict()
    for key in meta.get('negated', ()):
        state[key][1::2] *= -1
    return model.eval(), state


@pytest.mark.parametrize('name', GOLDEN)
def test_golden(name, golden):
    gold = golden(name)
    model, state = released(gold)
    report = load_model(model, dict(state_dict=state), name, inplace_abn=gold.meta.get('abn'))
    assert not report.missing
    assert report.total == len(state)
    meta = gold.meta
    with torch.no_grad():
        x = gold.input()
        feats = model.extract_feat(x)
        for i, level in enumerate(feats):
            gold.check(f'ida_{i}' if i < 4 else 'features', level)
        gold.check('pred', model(x))
        odd = torch.from_numpy(gold.recipe.make_input(meta['odd_shape'], meta['odd_seed']))
        gold.check('pred_odd', model(odd))
        if 'ocr' in meta['outputs']:
            for key, value in zip(
                ('ocr', 'ocr_features', 'ocr_aux'), model.decode_head.forward_all(feats)
            ):
                gold.check(key, value)
        for scale in meta['scales'] or ():
            model.test_cfg.scales = sorted({1.0, scale})
            gold.check(f'pred_only_{scale}', model(x))

        edges = meta['is_edge']
        loss = partial(OneHotBCELoss, (1, meta['pos_weight']) if edges else None)
        model.decode_head.loss_decode = loss()
        if not edges:
            losses = [loss(loss_weight=0.5), RegionMutualInformationLoss(loss_weight=0.5)]
            model.decode_head.loss_decode = nn.ModuleList(losses)
        for head in model.auxiliary_head:
            head.loss_decode = loss(loss_weight=0.05)
        if 'ocr_aux' in meta['outputs']:
            model.decode_head.aux_head.loss_decode = loss(loss_weight=0.4)
        model.loss_scale = loss(loss_weight=0.05)
        x = torch.from_numpy(gold.recipe.make_input(meta['train_shape'], meta['train_seed']))
        labels = block_labels((2, *x.shape[2:]), meta['classes'], meta['label_seed'])
        losses = model.loss(x, samples(labels))
    terms = {
        'ocr_aux_loss': 'decode.regions.loss_bce',
        'scale_0_5': 'scale_0.5.loss_bce',
        'scale_1_0': 'scale_1.loss_bce',
    }
    terms |= {f'dla_aux_loss_{i}': f'aux_{i}.loss_bce' for i in range(4)}
    main = losses['decode.loss_bce'] + losses.get('decode.loss_rmi', 0)
    assert main.item() == pytest.approx(meta['losses']['main_loss'], rel=1e-5)
    wanted = {terms[k]: v for k, v in meta['losses'].items() if k != 'main_loss'}
    assert {k: losses[k].item() for k in wanted} == pytest.approx(wanted, rel=1e-5)


def test_dialects_are_told_apart(golden):
    gold = golden('afa_dla34_edges_abn')
    state = gold.state_dict()
    for key in gold.meta['negated']:
        state[key][1::2] *= -1
    key, name = 'net.backbone.level_sa.conv.1.0.weight', 'neck.fusion.level_sa.conv.1.0.weight'
    plain = convert_released(state, 'mine.ckpt')
    assert plain.format == AUTHORS_AFA
    assert (plain.down_ratio, plain.num_classes, plain.left_out) == (2, 2, ())
    torch.testing.assert_close(plain.state_dict[name], state[key])
    (remark,) = plain.report.remarks
    assert remark.startswith('45 batch norms have negative weights (neck.')
    assert not plain.inplace_abn
    assert remark in plain.report.summary()
    assert not convert_released(state, 'mine.ckpt', inplace_abn=False).report.remarks
    for converted in (
        convert_released(state, 'mine.ckpt', inplace_abn=True),
        convert_released(state, 'a/afa_dla_up_dla34.ckpt'),
        convert_released(state, "checkpoint 'https://hub/afa_dla_up_ocr_ssr_dla102x_cv_3.ckpt'"),
    ):
        assert converted.inplace_abn
        assert not converted.report.remarks
        torch.testing.assert_close(converted.state_dict[name], state[key].abs() + ABN_EPS)
        backbone = 'backbone.level2.tree1.bn1.weight'
        assert torch.equal(converted.state_dict[backbone], state[f'net.backbone.base.{backbone[9:]}'])
    # by its name the one published file with batch norm, in which negative weights are no sign
    published = convert_released(state, 'afa_dla_up_ocr_ssr_dla102x.ckpt')
    torch.testing.assert_close(published.state_dict[name], state[key])
    assert not published.report.remarks


def test_activations_of_the_other_dialect_are_remarked(golden):
    gold = golden('afa_dla34_edges_abn')
    model, _ = released(gold)
    report = load_model(model, gold.state_dict(), 'a/afa_dla_up_dla34.ckpt')
    assert (report.inplace_abn, report.remarks) == (True, [])
    (remark,) = load_model(model, gold.state_dict(), 'mine.ckpt', inplace_abn=False).remarks
    assert 'trained without InPlace-ABN, but' in remark
    assert "act_cfg=dict(type='ReLU')" in remark
    assert not load_model(model, gold.state_dict(), 'mine.ckpt').remarks  # nobody knows
    plain, _ = released(golden('afa_dla34_edges'))
    (remark,) = load_model(plain, gold.state_dict(), 'a/afa_dla_up_dla34.ckpt').remarks
    assert "are ReLU: predictions will be wrong; use act_cfg=dict(type='LeakyReLU', negative" in remark
    converted = convert_released(gold.state_dict(), 'mine.ckpt', inplace_abn=True)
    written = dict(state_dict=converted.state_dict, meta=dict(inplace_abn=True))
    assert load_model(plain, written, 'converted.pth').remarks == [remark]


def test_convert_tool(golden, tmp_path, run_tool):
    gold = golden('afa_dla102x_ocr_ssr')
    torch.save(dict(state_dict=gold.state_dict(), epoch=1), tmp_path / 'a.ckpt')
    for option, act_cfg in (
        ((), ''),
        (('--inplace-abn',), ", act_cfg=dict(type='LeakyReLU', negative_slope=0.01)"),
    ):
        status, text = run_tool(
            'model_converters/convert_released.py',
            tmp_path / 'a.ckpt',
            tmp_path / f'b{len(option)}.pth',
            *option,
        )
        assert status == 0
        assert (
            "This was authors' AFA-DLA, DLA '102x'. What loads the result: MultiScaleSegmentor with "
            "DLA(arch='102x', out_indices=(1, 2, 3, 4, 5)), AFAUp(in_channels=[32, 128, 256, 512, 1024]"
            f'{act_cfg}), ObjectContextHead (in_channels=32, num_classes=19{act_cfg}) and 4 auxiliary '
            f'heads like LinearHead and ScaleSpaceRendering(channels=256{act_cfg}).'
        ) in text
        assert 'a bias that the batch norm after it cancels, folded into its mean: ocr (2)' in text
    model, _ = released(gold)
    model.load_state_dict(torch.load(tmp_path / 'b0.pth')['state_dict'], strict=True)


def test_a_backbone_takes_its_part(golden, tmp_path):
    """By ``init_cfg``; the input of the conversion is left as it is."""
    gold = golden('afa_dla34_ssr')
    state = gold.state_dict()
    before = {k: v.clone() for k, v in state.items()}
    torch.save(dict(state_dict=state, hyper_parameters=dict(lr=0.01)), tmp_path / 'a.ckpt')
    backbone = DLA('34', init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.ckpt')))
    backbone.init_weights()
    key = 'level3.tree1.tree1.conv1.weight'
    assert torch.equal(backbone.state_dict()[key], state[f'net.backbone.base.{key}'])
    convert_released(state, 'a', inplace_abn=True)
    assert all(torch.equal(v, before[k]) for k, v in state.items())


# -- scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['released', 'hierarchical', 'context', 'fcn'])
def test_rendering_is_the_weighted_sum(name):
    model = build(name)
    x = torch.randn(2, 3, 65, 97)
    head, scales = model.decode_head, sorted(model.test_cfg.scales)
    found, features = [], {}
    with torch.no_grad():
        for scale in scales:
            size = (int(65 * scale), int(97 * scale))
            scaled = F.interpolate(x, size, mode='bilinear') if scale != 1 else x
            feats = model.extract_feat(scaled)
            if name == 'context':
                logits, features[scale], _ = head.forward_all(feats)
            else:
                features[scale] = head._forward_feature(feats)
                logits = head.cls_seg(features[scale])
            if isinstance(head, LinearHead):
                logits = head.upsample(logits, size)
            found.append(F.interpolate(logits, (65, 97), mode='bilinear'))
        middle = features[1].shape[2:]
        attention = [
            model.scale_space_attn.attend(F.interpolate(features[s], middle, mode='bilinear'))
            for s in scales
        ]
        weights = model.scale_space_attn.weights(attention)
        weights = [F.interpolate(w, (65, 97), mode='bilinear') for w in weights]
        wanted = sum(w * p for w, p in zip(weights, found))
        torch.testing.assert_close(model(x), wanted)
        torch.testing.assert_close(model.encode_decode(x, [dict()]), wanted)
        by_scale = model.scale_weights(x)
    assert list(by_scale) == scales
    for scale, w in zip(scales, weights):
        torch.testing.assert_close(by_scale[scale], w)


@pytest.mark.parametrize('head', [LINEAR, LINEAR | dict(upsample='deconv'), CONTEXT])
def test_one_scale_is_the_encoder_decoder(head):
    """To the bit, in training and testing."""
    one = dict(settings(head), auxiliary_head=auxiliary(num_classes=3))
    plain = {k: v for k, v in one.items() if k != 'scale_attention'} | dict(type='EncoderDecoder')
    init_default_scope('mmseg')
    ours, theirs = (milder_norms(MODELS.build(ConfigDict(c))) for c in (one, plain))
    theirs.load_state_dict(ours.state_dict())
    x, labels = torch.randn(2, 3, 65, 97), torch.randint(0, 3, (2, 65, 97))
    with torch.no_grad():
        found, wanted = ours.predict(x), theirs.predict(x)
        for a, b in zip(found, wanted):
            assert torch.equal(a.seg_logits.data, b.seg_logits.data)
    assert ours.scale_weights(x) == {}
    found, wanted = ours.loss(x, samples(labels)), theirs.loss(x, samples(labels))
    assert found.keys() == wanted.keys()
    assert {k: v.item() for k, v in found.items()} == pytest.approx(
        {k: v.item() for k, v in wanted.items()}, rel=1e-6
    )


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('size', [(64, 96), (97, 65)])
def test_every_parameter_is_trained(name, size):
    kind = 'mmdla.LinearBoundaryHead' if name == 'boundaries' else 'mmdla.LinearHead'
    classes = 2 if name == 'boundaries' else 3
    model = build(
        name,
        auxiliary_head=auxiliary(kind, num_classes=classes),
        loss_scale=dict(type='CrossEntropyLoss', loss_weight=0.05),
    ).train()
    labels = torch.randint(0, classes, (2, *size))
    losses = model.loss(torch.randn(2, 3, *size), samples(labels))
    scales = [f'scale_{s:g}.loss_ce' for s in sorted(model.train_cfg.scales)]
    assert [k for k in losses if k.startswith('scale_')] == scales
    assert ('decode.regions.loss_ce' in losses) == name.startswith('context')
    total, _ = model.parse_losses(losses)
    total.backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None]
    assert not lacking
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_recomputation_changes_nothing():
    found = []
    for with_cp in (False, True):
        model = build('released', with_cp=with_cp).train()
        torch.manual_seed(1)
        x, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
        model.loss(x, samples(labels))['decode.loss_ce'].backward()
        found.append({n: p.grad for n, p in model.named_parameters()} | dict(model.named_buffers()))
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items())


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (33, 100)])
def test_images_are_enlarged_to_multiples(size):
    model = build('boundaries')
    x = torch.randn(1, 3, *size)
    larger = F.interpolate(x, [-(-side // 32) * 32 for side in size], mode='bilinear')
    with torch.no_grad():
        found = model(x)
        model.test_cfg.pop('size_divisor')
        wanted = F.interpolate(model(larger), size, mode='bilinear')
        unresized = model(x)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(found, unresized) == (size == (64, 96))
    assert found.shape[2:] == unresized.shape[2:] == size


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(test_cfg=dict(mode='whole', scales=(0.5, 1))), r'test_cfg.scales=\(0.5, 1\): several'),
        (dict(train_cfg=dict(scales=(2,))), r'train_cfg.scales=\(2,\): .* need a scale_attention'),
        (dict(train_cfg=dict(scales=(1, 1))), r'train_cfg.scales=\(1, 1\): must be a list of diff'),
        (dict(train_cfg=dict(scales=0.5)), 'train_cfg.scales=0.5: must be a list'),
        (
            dict(train_cfg=dict(scales=(0, 1))),
            r'train_cfg.scales=\(0, 1\): must be a list of different numbers',
        ),
        (dict(test_cfg=dict(size_divisor=0)), 'test_cfg.size_divisor=0: must be a whole number'),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build('plain', **ConfigDict(options))


# -- heads ----------------------------------------------------------------------------------------


def test_object_context_is_mmsegs():
    """The cascade of mmseg's own heads, of the same parameters."""
    from mmseg.models.decode_heads import OCRHead

    init_default_scope('mmseg')
    head = milder_norms(ObjectContextHead(4, 3, channels=6, ocr_channels=5))
    cascade = OCRHead(5, in_channels=4, channels=6, num_classes=3, norm_cfg=dict(type='BN')).eval()
    own = {k: v for k, v in head.state_dict().items() if not k.startswith('aux_head.')}
    cascade.load_state_dict(own)
    feats = [torch.randn(2, 4, 9, 7)]
    with torch.no_grad():
        logits, features, regions = head.forward_all(feats)
        assert torch.equal(logits, cascade(feats, regions))
        assert torch.equal(regions, head.aux_head(feats))
        assert torch.equal(head(feats), logits)
    assert features.shape == (2, 6, 9, 7)
    assert head.aux_head.loss_decode.loss_weight == 0.4


def test_log_probabilities():
    init_default_scope('mmseg')
    torch.manual_seed(0)
    plain, log_prob = (
        LinearHead(4, 3, stride=4, upsample='deconv', log_prob=value) for value in (False, True)
    )
    log_prob.load_state_dict(plain.state_dict())
    feats, meta = [torch.randn(2, 4, 5, 6)], [dict(img_shape=(18, 23))]
    logits = plain.predict(feats, meta, None)
    found = log_prob.predict(feats, meta, None)
    torch.testing.assert_close(found, logits.log_softmax(1))
    labels = samples(torch.randint(0, 3, (2, 18, 23)))
    wanted = plain.loss(feats, labels, None)
    torch.testing.assert_close(log_prob.loss(feats, labels, None), wanted)
    # what a segmentor has rendered is not upsampled again
    torch.testing.assert_close(log_prob.loss_by_feat(found, labels, upsampled=True), wanted)
    with pytest.raises(ValueError, match='stride=4: must be the stride of the level'):
        log_prob.loss_by_feat(found, labels)
    with pytest.raises(ValueError, match='log_prob=True: needs two output channels'):
        LinearHead(4, 2, out_channels=1, log_prob=True)


def test_boundary_head():
    head = LinearBoundaryHead(4, stride=2, out_channels=1, threshold=0.3)
    assert (head.num_classes, head.out_channels, head.threshold) == (2, 1, 0.3)
    losses = head.loss([torch.randn(2, 4, 8, 8)], samples(torch.randint(0, 2, (2, 16, 16))), None)
    assert list(losses) == ['loss_ce']
    with pytest.raises(ValueError, match='num_classes=3: must be 2'):
        LinearBoundaryHead(4, 3)


# -- what mmseg does with a segmentor -------------------------------------------------------------


@pytest.mark.parametrize('name', ['released', 'context', 'boundaries'])
def test_sliding_windows_are_rendered_each(name):
    model = build(name)
    x = torch.randn(1, 3, 65, 97)
    model.test_cfg.update(mode='slide', crop_size=(48, 64), stride=(32, 40))
    meta = dict(img_shape=(65, 97), ori_shape=(65, 97), pad_shape=(65, 97))
    (found,) = model.predict(x, [SegDataSample(metainfo=meta)])
    total, count = torch.zeros(1, found.seg_logits.data.shape[0], 65, 97), torch.zeros(65, 97)
    for top in (0, 17):
        for left in (0, 33):
            window = (..., slice(top, top + 48), slice(left, left + 64))
            total[window] += model(x[window]).detach()
            count[window] += 1
    torch.testing.assert_close(found.seg_logits.data, (total / count)[0])


def test_augmentations_are_merged():
    model = build('released', data_preprocessor=dict(type='SegDataPreProcessor'))
    tta = MODELS.build(dict(type='mmdla.LogProbTTAModel', module=model))
    tta.eval()
    image = torch.randint(0, 255, (3, 65, 97)).float()
    meta = dict(img_shape=(65, 97), ori_shape=(65, 97), pad_shape=(65, 97))
    flipped = dict(meta, flip=True, flip_direction='horizontal')
    data = dict(
        inputs=[[image], [image.flip(-1)]],
        data_samples=[[SegDataSample(metainfo=m)] for m in (meta, flipped)],
    )
    with torch.no_grad():
        (found,) = tta.test_step(data)
        a, b = model(image[None]), model(image.flip(-1)[None]).flip(-1)
    wanted = a.log_softmax(1) + b.log_softmax(1)
    torch.testing.assert_close(found.seg_logits.data, wanted[0])


@pytest.mark.parametrize('name', ['released', 'boundaries'])
def test_inferencers(name, tmp_path):
    from mmdla.apis import BoundaryInferencer, SegInferencer

    boundaries = name == 'boundaries'
    model = build(name)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    base = Config.fromfile(
        ROOT / f'configs/{"boundaries/dla34_bsds500" if boundaries else "dla34_demo"}.py'
    )
    preprocessor = base.model.data_preprocessor
    base.model = ConfigDict(VARIANTS[name], data_preprocessor=preprocessor)
    image = np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)
    kind = BoundaryInferencer if boundaries else SegInferencer
    inferencer = kind(base, str(tmp_path / 'a.pth'), device='cpu')
    found = inferencer(image)['predictions']
    assert found.shape == (61, 83)
    quick = optimize(inferencer.model, torch.randn(1, 3, 61, 83), compile=False)
    inferencer.model = quick
    again = inferencer(image)['predictions']
    if boundaries:
        assert 0 <= found.min() < found.max() <= 1
        np.testing.assert_allclose(again, found, atol=1e-4)
    else:
        assert (again == found).mean() > 0.999


@pytest.mark.parametrize(
    ('name', 'dtype'),
    [*((name, torch.float32) for name in VARIANTS), ('released', torch.bfloat16)],
)
def test_optimized(name, dtype):
    model = build(name)
    x = torch.randn(2, 3, 65, 97)
    quick = optimize(model, x, dtype, compile=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in quick.modules())
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    for size in [(65, 97), (64, 64)]:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            wanted, found = model(x), quick(x)
            (a,), (b,) = model.predict(x), quick.predict(x)
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()
        assert (b.seg_logits.data - a.seg_logits.data).abs().max() <= tolerance * wanted.abs().max()
        assert (a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean() > 0.9


@pytest.mark.parametrize('name', ['released', 'context'])
def test_optimized_for_labels_only(name):
    model = build(name)
    x = torch.randn(2, 3, 65, 97)
    quick = optimize(model, x, compile=False, labels_only=True)
    with torch.no_grad():
        wanted, found = model.predict(x), quick.predict(x)
    for a, b in zip(found, wanted):
        assert 'seg_logits' not in a
        assert (a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean() > 0.999


@pytest.mark.parametrize('name', VARIANTS)
def test_what_is_exported_is_what_is_predicted(name):
    model, x = build(name), torch.randn(2, 3, 33, 50)
    with torch.no_grad():
        found = Graph(model)(x)
        predicted = model.predict(x)
    if name == 'boundaries':
        wanted = dict(probability=torch.stack([boundary_probability(s) for s in predicted]))
    else:
        wanted = dict(logits=torch.stack([s.seg_logits.data for s in predicted]))
    torch.testing.assert_close(found, wanted)


# Several scales take PyTorch minutes to export, and more to read back.
@pytest.mark.parametrize(
    ('name', 'format', 'size'),
    [
        pytest.param('released', 'torch_export', (65, 97), marks=pytest.mark.slow),
        pytest.param('hierarchical', 'onnx', (64, 96), marks=pytest.mark.slow),
        pytest.param('context_alone', 'torch_export', (64, 96), marks=pytest.mark.compile),
        pytest.param('context', 'onnx', (65, 97), marks=pytest.mark.slow),
        pytest.param('boundaries', 'torch_export', (65, 97), marks=pytest.mark.compile),
        pytest.param('boundaries', 'onnx', (65, 97), marks=pytest.mark.compile),
    ],
)
def test_files_compute_what_the_model_does(name, format, size, tmp_path):
    if format == 'onnx':
        pytest.importorskip('onnxruntime')
        pytest.importorskip('onnxscript')
    model = build(name)
    file = tmp_path / f'a.{dict(onnx="onnx", torch_export="pt2")[format]}'
    assert export(model, torch.randn(1, 3, *size), file, format) <= 1e-4
    x = torch.randn(2, 3, 70, 51)
    run, _ = load(file)
    with torch.no_grad():
        wanted = Graph(model).eval()(x)
    for key, value in run(x).items():
        assert (value - wanted[key]).abs().max() <= 1e-4 * wanted[key].abs().max()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['released', 'context'])
def test_compiled(name):
    torch._dynamo.reset()
    model, x = build(name), torch.randn(1, 3, 65, 97)
    quick = optimize(model, x)
    with torch.no_grad():
        wanted = model(x)
    assert (quick(x) - wanted).abs().max() <= 1e-4 * wanted.abs().max()
