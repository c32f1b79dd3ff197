"""Boundary detection heads of dense-prediction DLA and AFA-DLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.registry import MODELS as MMSEG_MODELS

from ...registry import MODELS
from .ida_up_head import IDAUpHead
from .linear_head import LinearHead


class BoundaryOutputs:
    """What boundary heads have beside another head: two classes or one channel, and their loss."""

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int = 2,
        out_channels: int = 2,
        threshold: float = 0.5,
        loss_decode: dict | list[dict] = dict(type='mmdla.BoundaryCrossEntropyLoss'),
        **kwargs: Any,
    ):
        if num_classes != 2:
            raise ValueError(f'num_classes={num_classes}: must be 2, no boundary and boundary')
        if out_channels not in (1, 2):
            raise ValueError(f'out_channels={out_channels}: must be 2, or 1 for the boundary alone')
        if out_channels == 2 and threshold != 0.5:
            raise ValueError(
                f'threshold={threshold}: must be 0.5 with out_channels=2, where the larger logit '
                'decides; set out_channels=1 for another threshold'
            )
        super().__init__(
            in_channels,  # type: ignore[call-arg]
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold,
            loss_decode=loss_decode,
            **kwargs,
        )

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict:
        """Losses of the logits at the size of the labels, with the arguments of the other head."""
        losses = super().loss_by_feat(*args, **kwargs)  # type: ignore[misc]
        # It is wrong with one channel and with percentages as labels.
        del losses['acc_seg']
        return losses


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class BoundaryHead(BoundaryOutputs, IDAUpHead):
    """IDA-up with a classifier of boundary pixels, and a loss that balances the two classes.

    As everywhere in mmseg, the segmentor's ``seg_logits`` are logits with two channels and
    probabilities with one; :func:`mmdla.utils.predictions.boundary_probability` reads both. Pixel
    accuracy is not logged, since it is above 90 % even without any detection.

    Args:
        in_channels (Sequence[int]): Channels of the backbone's levels, shallowest first.
        num_classes (int): 2: no boundary and boundary. Default: 2.
        out_channels (int): 2, one logit for each class, as released; or 1, the logit of the boundary,
            as in HED. Default: 2.
        threshold (float): Probability above which ``pred_sem_seg`` is 1. With two channels it must be
            0.5, since mmseg takes the larger logit. Default: 0.5.
        loss_decode (dict | list[dict]): Losses. Default: ``BoundaryCrossEntropyLoss``, as released.
        **kwargs: Of :class:`IDAUpHead`.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Source: released ``segment.py`` with ``--edge-weight``.

    Example:
        >>> import torch
        >>> from mmdla.models import BoundaryHead
        >>> head = BoundaryHead([64, 128], out_channels=1).eval()
        >>> head([torch.rand(1, 64, 57, 101), torch.rand(1, 128, 29, 51)]).shape
        torch.Size([1, 1, 57, 101])
    """


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class LinearBoundaryHead(BoundaryOutputs, LinearHead):
    """:class:`LinearHead` of boundaries: AFA-DLA's, on the map that its up-network fuses.

    Args:
        in_channels (int): Channels of the level.
        num_classes (int): 2: no boundary and boundary. Default: 2.
        out_channels (int): 2, a logit of each class, as released, or 1. Default: 2.
        threshold (float): As in :class:`BoundaryHead`. Default: 0.5.
        loss_decode (dict | list[dict]): Losses. Default: ``BoundaryCrossEntropyLoss``.
        **kwargs: Of :class:`LinearHead`.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Source: "Dense Prediction with Attentive Feature Aggregation", Section 4.2.

    Example:
        >>> import torch
        >>> from mmdla.models import LinearBoundaryHead
        >>> head = LinearBoundaryHead(64, stride=2).eval()
        >>> head([torch.rand(1, 64, 57, 101)]).shape
        torch.Size([1, 2, 57, 101])
    """
