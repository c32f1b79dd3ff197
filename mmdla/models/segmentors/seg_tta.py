"""Test-time augmentation of segmentors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList

from ...registry import MODELS


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class LogProbTTAModel(SegTTAModel):
    r"""Merge augmented predictions by summing log-probabilities, as in the papers.

    .. math:: \hat y = \arg\max_c \sum_a \log p_a(c)

    mmseg's ``SegTTAModel`` averages probabilities instead. The merged log-probabilities become the
    sample's ``seg_logits``. With one output channel the log-odds are summed, and their probability is
    compared with the head's threshold.

    Args:
        module (dict | nn.Module): The segmentor.

    Source: released ``segment.py``, ``test_ms``.
    """

    def merge_preds(self, data_samples_list: list[SampleList]) -> SampleList:
        """Merge the predictions of each image.

        Args:
            data_samples_list (list[list[SegDataSample]]): For each image, one sample an
                augmentation.

        Returns:
            list[SegDataSample]: One sample an image.
        """
        return [self._merge(samples) for samples in data_samples_list]

    def _merge(self, samples: SampleList) -> SegDataSample:
        logits = [s.seg_logits.data.float() for s in samples]
        merged = samples[0]
        if self.module.out_channels == 1:
            # mmseg has applied the sigmoid already; log-odds add up as log-probabilities do.
            total = torch.stack([torch.logit(p, eps=1e-6) for p in logits]).sum(0)
            prediction = (total.sigmoid() > self.module.decode_head.threshold).long()
        else:
            total = torch.stack([F.log_softmax(x, dim=0) for x in logits]).sum(0)
            prediction = total.argmax(dim=0, keepdim=True)
        merged.set_data(dict(seg_logits=PixelData(data=total), pred_sem_seg=PixelData(data=prediction)))
        return merged
