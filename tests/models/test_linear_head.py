"""The linear head: the released outputs at every pixel, no shift at odd sizes, losses, windows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('mmseg')

from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmdla.models import LinearHead
from mmdla.models.layers import FrozenUpsample, LearnedUpsample

SMALL = dict(block='basic', depths=(1,) * 8, channels=(4, 4, 8, 8, 8, 8, 8, 8), plain=True)


def segmentor(upsample='bilinear', **test_cfg):
    init_default_scope('mmseg')
    model = MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            backbone=dict(type='DRN', arch=SMALL),
            decode_head=dict(
                type='LinearHead',
                in_channels=8,
                num_classes=3,
                upsample=upsample,
                loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
            ),
            test_cfg=dict(mode='whole') | test_cfg,
        )
    )
    model.init_weights()
    return model.eval()


def sample(size: tuple[int, int]) -> SegDataSample:
    data = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
    data.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, *size)))
    return data


@pytest.mark.parametrize('upsample', ['bilinear', 'deconv'])
@pytest.mark.parametrize('size', [(64, 64), (41, 73)])
def test_predicts_every_pixel(upsample, size):
    model = segmentor(upsample)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        found = model.predict(x, [sample(size)])[0].seg_logits.data
        logits = model.encode_decode(x, [dict(img_shape=size, pad_shape=size)])
    assert found.shape == (3, *size)
    with torch.no_grad():
        coarse = model.decode_head(model.backbone(x))
    assert coarse.shape[2:] == tuple(-(-s // 8) for s in size)
    # the released frozen transposed convolution, kernel written out
    line = 1 - (torch.arange(16) / 8 - 15 / 16).abs()
    kernel = torch.outer(line, line).expand(3, 1, 16, 16)
    released = F.conv_transpose2d(coarse, kernel, stride=8, padding=4, groups=3)[
        ..., : size[0], : size[1]
    ]
    inner = (..., slice(4, -4), slice(4, -4)) if upsample == 'bilinear' else ...
    assert (logits[inner] - released[inner]).abs().max() <= 1e-5 * released.std()
    torch.testing.assert_close(found, logits[0])


def test_rows_stay_where_they_are():
    """A step between two cells is where it belongs at any height; resizing would move it."""
    head = LinearHead(1, num_classes=2, loss_decode=dict(type='CrossEntropyLoss')).eval()
    nn.init.constant_(head.conv_seg.weight, 1.0)
    nn.init.zeros_(head.conv_seg.bias)
    feature = torch.zeros(1, 1, 29, 4)
    feature[:, :, 24:] = 1
    with torch.no_grad():
        full = head.predict_by_feat(head([feature]), [dict(img_shape=(232, 32))])
        cut = head.predict_by_feat(head([feature]), [dict(img_shape=(225, 32))])
    assert torch.equal(full[..., :225, :], cut)
    edge = (cut[0, 0, :, 0] >= 0.5).nonzero()[0].item()
    assert edge == 24 * 8
    squeezed = resize(head([feature]), size=(225, 32), mode='bilinear', align_corners=False)
    assert (squeezed[0, 0, :, 0] >= 0.5).nonzero()[0].item() < edge - 4


def test_trains_and_the_upsampling_does_not():
    model = segmentor('deconv').train()
    size = (41, 50)
    losses = model.loss(torch.randn(2, 3, *size), [sample(size), sample(size)])
    losses['decode.loss_ce'].backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert not [k for k in model.state_dict() if '.up.' in k]


def test_loss_is_that_of_the_upsampled_logits():
    model = segmentor()
    size = (41, 50)
    x, data = torch.randn(1, 3, *size), sample(size)
    with torch.no_grad():
        loss = model.loss(x, [data])['decode.loss_ce']
        logits = model.encode_decode(x, [dict(img_shape=size, pad_shape=size)])
    torch.testing.assert_close(loss, F.cross_entropy(logits, data.gt_sem_seg.data))


def test_sliding_windows():
    model = segmentor(mode='slide', crop_size=(40, 40), stride=(25, 25))
    size = (61, 73)
    with torch.no_grad():
        found = model.predict(torch.randn(1, 3, *size), [sample(size)])[0].seg_logits.data
    assert found.shape == (3, *size)
    assert found.isfinite().all()


@pytest.mark.parametrize('window', [dict(), dict(mode='slide', crop_size=(48, 48), stride=(32, 32))])
def test_padded_images(window):
    model = segmentor(**window)
    model.data_preprocessor = MODELS.build(
        dict(type='SegDataPreProcessor', size_divisor=32, test_cfg=dict(size_divisor=32))
    )
    data = sample((41, 50))
    data.set_metainfo(dict(pad_shape=(41, 50)))
    with torch.no_grad():
        (found,) = model.test_step(dict(inputs=[torch.zeros(3, 41, 50)], data_samples=[data]))
    assert found.pad_shape == (64, 64)
    assert found.seg_logits.data.shape == (3, 41, 50)


@pytest.mark.parametrize('factor', [2, 3, 8])
def test_frozen_is_learned_before_learning(factor):
    x = torch.randn(2, 3, 5, 7)
    frozen = FrozenUpsample(factor)
    torch.testing.assert_close(frozen(x), LearnedUpsample(3, factor)(x))
    assert not frozen.state_dict()
    assert frozen.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_darkened_corner():
    y = FrozenUpsample(8)(torch.ones(1, 1, 4, 4))
    assert y[0, 0, 0, 0].item() == pytest.approx(0.32, abs=0.005)
    assert y[0, 0, 16, 16].item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(in_channels=[8, 8]), r'in_channels=\[8, 8\]'),
        (dict(stride=1), 'stride=1'),
        (dict(align_corners=True), 'align_corners=True'),
        (dict(upsample='nearest'), "upsample='nearest': must be one of"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LinearHead(**dict(dict(in_channels=8, num_classes=3), **kwargs))


def test_wrong_stride_is_named():
    head = LinearHead(8, num_classes=3, loss_decode=dict(type='CrossEntropyLoss'))
    with pytest.raises(
        ValueError,
        match=r'stride=8: .*in_index=-1; its map of 8x8 becomes 64x64, but the image is 32x32',
    ):
        head.predict_by_feat(head([torch.rand(1, 8, 8, 8)]), [dict(img_shape=(32, 32))])
