"""Test-time augmentation of boundary detectors."""

from __future__ import annotations

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList

from ...registry import MODELS
from ...utils.predictions import boundary_probability


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class BoundaryTTAModel(SegTTAModel):
    r"""Merge augmented predictions of boundaries by averaging their probabilities.

    .. math:: p = \frac{1}{n} \sum_a R_a^{-1} p_a

    The segmentor has undone scales and flips. This model also undoes the quarter turns R of
    ``mmdla.QuarterTurn``, which it reads from the samples' ``quarter_turns`` (which must be among the
    ``meta_keys`` of ``PackSegInputs``). The mean becomes the sample's ``seg_logits``: one channel of
    probabilities, as for any one-channel segmentor. mmseg's ``SegTTAModel`` would apply the sigmoid
    again and keep the metadata of another augmentation.

    Args:
        module (dict | nn.Module): The segmentor, with two classes or one output channel. The threshold
            of ``pred_sem_seg`` is its head's, or 0.5 if it has none.

    Raises:
        ValueError: If no augmentation is unturned, or if the predictions of an image differ in size
            after turning back.
    """

    def merge_preds(self, data_samples_list: list[SampleList]) -> SampleList:
        """Merge the predictions of each image.

        Args:
            data_samples_list (list[list[SegDataSample]]): For each image, one sample an
                augmentation.

        Returns:
            list[SegDataSample]: One sample an image, with the metadata of the unturned image.
        """
        return [self._merge(samples) for samples in data_samples_list]

    def _merge(self, samples: SampleList) -> SegDataSample:
        turns = [sample.get('quarter_turns', 0) % 4 for sample in samples]
        if 0 not in turns:
            raise ValueError(
                f'quarter_turns={sorted(set(turns))}: one augmentation must be of the unturned image'
            )
        maps = [torch.rot90(boundary_probability(s), -k) for s, k in zip(samples, turns)]
        sizes = sorted({tuple(p.shape) for p in maps})
        if len(sizes) > 1:
            raise ValueError(
                f'predictions of one image are of sizes {sizes}: a transform that turns it must set '
                "ori_shape and quarter_turns, and PackSegInputs needs 'quarter_turns' in its meta_keys"
            )
        mean = torch.stack(maps).mean(0, keepdim=True)
        threshold = getattr(self.module.decode_head, 'threshold', None)
        prediction = (mean > (0.5 if threshold is None else threshold)).long()
        merged = samples[turns.index(0)]
        merged.set_data(dict(seg_logits=PixelData(data=mean), pred_sem_seg=PixelData(data=prediction)))
        return merged
