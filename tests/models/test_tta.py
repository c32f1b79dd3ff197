"""Test-time augmentation sums log-probabilities."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmseg')
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmdla.models import LogProbTTAModel


class Segmentor(nn.Module):
    def __init__(self, out_channels, threshold=None):
        super().__init__()
        self.out_channels = out_channels
        self.decode_head = nn.Module()
        self.decode_head.threshold = threshold


def sample(logits: torch.Tensor) -> SegDataSample:
    return SegDataSample(
        seg_logits=PixelData(data=logits),
        gt_sem_seg=PixelData(data=torch.zeros(1, *logits.shape[1:], dtype=torch.long)),
        metainfo=dict(img_path='a.png'),
    )


def merge(model, logits):
    tta = LogProbTTAModel.__new__(LogProbTTAModel)
    nn.Module.__init__(tta)
    tta.module = model
    return tta.merge_preds([[sample(x) for x in logits]])[0]


def test_log_probabilities_are_summed():
    logits = torch.randn(3, 4, 5, 6) * 4
    merged = merge(Segmentor(4), logits)
    probabilities = logits.softmax(1)
    total = probabilities.log().sum(0)
    assert torch.equal(merged.pred_sem_seg.data[0], total.argmax(0))
    torch.testing.assert_close(merged.seg_logits.data, total)
    # On these it differs from the mean of probabilities, which mmseg takes.
    assert not torch.equal(total.argmax(0), probabilities.mean(0).argmax(0))
    assert merged.img_path == 'a.png'
    assert 'gt_sem_seg' in merged


def test_one_channel():
    p = (torch.randn(3, 1, 5, 6) * 3).sigmoid()  # mmseg's segmentors have applied it already
    merged = merge(Segmentor(1, threshold=0.7), p)
    product = p.prod(0) / (p.prod(0) + (1 - p).prod(0))
    assert torch.equal(merged.pred_sem_seg.data.bool(), product > 0.7)


def test_one_view_twice_changes_no_prediction():
    """Through a real segmentor: what it calls seg_logits is what is merged."""
    from mmseg.models import EncoderDecoder

    model = EncoderDecoder(
        backbone=dict(type='mmdla.DLA', arch='46_c', out_indices=(2, 3)),
        decode_head=dict(
            type='mmdla.IDAUpHead', in_channels=[64, 64], num_classes=2, out_channels=1, threshold=0.5
        ),
        test_cfg=ConfigDict(mode='whole'),
    ).eval()
    meta = dict(img_shape=(32, 32), ori_shape=(32, 32), img_path='a.png')
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        # Half of the pixels on either side.
        model.decode_head.conv_seg.bias -= model(x, mode='tensor').median()
        (single,) = model(x, [SegDataSample(metainfo=meta)], mode='predict')
    tta = LogProbTTAModel.__new__(LogProbTTAModel)
    nn.Module.__init__(tta)
    tta.module = model
    wanted = single.pred_sem_seg.data.clone()
    (merged,) = tta.merge_preds([[single, single]])
    assert torch.equal(merged.pred_sem_seg.data, wanted)
    assert 0 < wanted.float().mean() < 1
