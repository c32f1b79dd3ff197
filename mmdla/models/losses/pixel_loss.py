"""What the losses over labelled pixels have in common: reductions, and pixels that are ignored."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTIONS = ('none', 'mean', 'sum')


class PixelLoss(nn.Module):
    """Base class of losses of logits (N, C, H, W) against labels (N, H, W).

    Args:
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``.
        loss_weight (float): Factor.
        loss_name (str): Name in the log.

    Raises:
        ValueError: If the reduction is unknown.
    """

    def __init__(self, reduction: str, loss_weight: float, loss_name: str):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f'reduction={reduction!r}: must be one of {REDUCTIONS}')
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def _reduction(self, override: str | None) -> str:
        """The reduction of a call."""
        reduction = self.reduction if override is None else override
        if reduction not in REDUCTIONS:
            raise ValueError(f'reduction_override={reduction!r}: must be one of {REDUCTIONS}')
        return reduction

    @staticmethod
    def _without_ignored(
        cls_score: Tensor, label: Tensor, ignore_index: int | None
    ) -> tuple[Tensor, Tensor]:
        """Labels, 0 where they are ignored, and where that is.

        Raises:
            ValueError: If labels and logits differ in shape.
        """
        if label.shape != (cls_score.shape[0], *cls_score.shape[2:]):
            raise ValueError(
                f'label of shape {tuple(label.shape)} for cls_score of {tuple(cls_score.shape)}: must '
                'be (N, H, W)'
            )
        ignored = torch.zeros_like(label, dtype=torch.bool)
        if ignore_index is not None:
            ignored = label == ignore_index
        return label.masked_fill(ignored, 0), ignored
