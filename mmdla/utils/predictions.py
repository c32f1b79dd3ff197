"""Predictions of segmentors in the form that boundary detection needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def boundary_probability(sample: Mapping) -> Tensor:
    r"""The probability of a boundary at each pixel, from a prediction of mmseg.

    .. math:: p = \mathrm{softmax}(z)_1

    Args:
        sample (Mapping): A ``SegDataSample`` or its dict, with ``seg_logits``: logits of two classes,
            the second of them the boundary, or one channel of probabilities after mmseg's sigmoid.

    Returns:
        Tensor: Of shape (H, W), float32.

    Raises:
        ValueError: If there are no ``seg_logits`` or they have other channels.
    """
    logits = sample.get('seg_logits')
    if logits is None:
        raise ValueError('a data sample lacks seg_logits: they come from a segmentor of mmseg')
    data: Tensor = logits['data'] if isinstance(logits, Mapping) else logits.data
    data = data.detach().float()
    if data.ndim != 3 or data.shape[0] not in (1, 2):
        raise ValueError(
            f'seg_logits of shape {tuple(data.shape)}: a boundary detector has two classes (none '
            'and boundary) or one output channel'
        )
    return data[0] if data.shape[0] == 1 else torch.softmax(data, 0)[1]
