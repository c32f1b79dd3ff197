"""Losses for boundary detection, where few pixels are boundary pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.losses.utils import weight_reduce_loss
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor

from ...registry import MODELS
from .pixel_loss import PixelLoss


class _BoundaryLoss(PixelLoss):
    r"""Binary cross-entropy with a weight for boundary pixels and one for the others.

    .. math:: \ell_i = -w^+ t_i \log \sigma(z_i) - w^- (1 - t_i) \log(1 - \sigma(z_i))

    of labels t and logits z, which are :math:`z_1 - z_0` for two classes. Ignored pixels do not count.
    """

    def __init__(self, label_scale: int, reduction: str, loss_weight: float, loss_name: str):
        super().__init__(reduction, loss_weight, loss_name)
        if not label_scale >= 1:
            raise ValueError(
                f'label_scale={label_scale}: must be the label of a certain boundary: 1, or 100 where '
                'labels are percentages'
            )
        self.label_scale = label_scale

    def weights(self, target: Tensor, labelled: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Weights of boundary pixels and of the others.

        Args:
            target (Tensor): From 0 to 1, 0 where not labelled, (N, H, W).
            labelled (Tensor): 1 where labelled, else 0, (N, H, W).

        Returns:
            tuple: Two numbers, or tensors of shape (N, 1, 1).
        """
        raise NotImplementedError

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = 255,
    ) -> Tensor:
        """The loss, computed in float32 at least.

        Args:
            cls_score (Tensor): Logits, (N, 2, H, W) or (N, 1, H, W).
            label (Tensor): From 0 to ``label_scale``, or ``ignore_index``, (N, H, W).
            weight (Tensor, optional): Of each pixel's loss, (N, H, W). As in mmseg it does not change
                what a mean divides by. Default: 1.
            avg_factor (float | Tensor, optional): What a mean divides by. Default: the sum of the
                weights :math:`w^+ t + w^- (1 - t)` of labelled pixels.
            reduction_override (str, optional): In place of ``reduction``.
            ignore_index (int, optional): Label to ignore. Default: 255.

        Returns:
            Tensor: A number, 0 where nothing is labelled; (N, H, W) with reduction ``'none'``.

        Raises:
            ValueError: If a shape or a label is impossible, or the reduction is unknown.
        """
        reduction = self._reduction(reduction_override)
        if cls_score.ndim != 4 or cls_score.shape[1] not in (1, 2):
            raise ValueError(
                f'cls_score of shape {tuple(cls_score.shape)}: must be (N, 2, H, W), or (N, 1, H, W)'
            )
        label, ignored = self._without_ignored(cls_score, label, ignore_index)
        self._check(label)
        scores = cls_score.to(torch.promote_types(cls_score.dtype, torch.float32))
        # Two classes: softmax(z)_1 = sigmoid(z_1 - z_0).
        logits = scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]
        logits = logits.masked_fill(ignored, 0)
        target, labelled = label.to(logits) / self.label_scale, (~ignored).to(logits)
        positive, negative = self.weights(target, labelled)
        positive, negative = positive * target, negative * (labelled - target)
        loss = -positive * F.logsigmoid(logits) - negative * F.logsigmoid(-logits)
        if avg_factor is None and reduction == 'mean':
            avg_factor = (positive + negative).sum()
        return self.loss_weight * weight_reduce_loss(loss, weight, reduction, avg_factor)

    def _check(self, label: Tensor) -> None:
        """Raise ValueError for labels out of range or of the other scale.

        This waits for the device once, as mmseg's accuracy does, and breaks a compiled graph.
        """
        if not label.numel():
            return
        low, high = torch.stack(label.aminmax()).tolist()
        if low < 0 or high > self.label_scale:
            raise ValueError(
                f'label: from {low:g} to {high:g}, but label_scale={self.label_scale}: labels must be '
                f'from 0 to {self.label_scale}, or ignore_index'
                + (', percentages need label_scale=100' if 1 == self.label_scale < high <= 100 else '')
            )
        if high == 1 < self.label_scale:
            raise ValueError(
                f'label: none above 1, but label_scale={self.label_scale}: labels of 0 and 1 need '
                'label_scale=1'
            )


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class BoundaryCrossEntropyLoss(_BoundaryLoss):
    r"""Cross-entropy with a larger weight for boundary pixels.

    .. math:: L = \frac{\sum_i -w_1 t_i \log p_i - w_0 (1 - t_i) \log(1 - p_i)}
        {\sum_i w_1 t_i + w_0 (1 - t_i)}

    over the labelled pixels i of the batch; p is the probability of a boundary. With hard labels and
    two classes it equals :func:`torch.nn.functional.cross_entropy` with ``weight`` and
    ``ignore_index``, except that it is 0, not NaN, if no pixel is labelled.

    mmseg's ``CrossEntropyLoss(class_weight=...)`` raises an IndexError if pixels are ignored, because
    it looks up their weight too (upstream always, OneDL's with ``avg_non_ignore=True``).

    Args:
        class_weight (Sequence[float]): Weights of no boundary and boundary. Default: ``(1, 10)``.
        label_scale (int): Label of a certain boundary: 1, or 100 where labels are percentages.
            Default: 1.
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``. Default: ``'mean'``.
        loss_weight (float): Factor. Default: 1.
        loss_name (str): Name in the log; mmengine adds up values whose names have ``loss``. Default:
            ``'loss_ce'``.

    Raises:
        ValueError: If an argument or a label is impossible.

    Source: released ``segment.py``, ``NLLLoss2d`` with ``edge_weight`` 10.

    Example:
        >>> import torch
        >>> from mmdla.models import BoundaryCrossEntropyLoss
        >>> loss = BoundaryCrossEntropyLoss()
        >>> loss(torch.zeros(2, 2, 8, 8), torch.ones(2, 8, 8).long())
        tensor(0.6931)
    """

    def __init__(
        self,
        class_weight: Sequence[float] = (1, 10),
        label_scale: int = 1,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
    ):
        super().__init__(label_scale, reduction, loss_weight, loss_name)
        if isinstance(class_weight, str) or len(class_weight) != 2 or not min(class_weight) > 0:
            raise ValueError(
                f'class_weight={class_weight!r}: must be two numbers above 0, the weights of no '
                'boundary and of boundary'
            )
        self.class_weight = tuple(map(float, class_weight))

    def weights(self, target: Tensor, labelled: Tensor) -> tuple[float, float]:
        negative, positive = self.class_weight
        return positive, negative

    def extra_repr(self) -> str:
        return f'class_weight={self.class_weight}, label_scale={self.label_scale}'


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class BalancedBoundaryLoss(_BoundaryLoss):
    r"""Cross-entropy in which boundary pixels and other pixels of an image have equal total weight.

    .. math:: L = -\sum_i \beta t_i \log p_i + \lambda (1 - \beta) (1 - t_i) \log(1 - p_i),
        \quad \beta = |Y^-| / |Y|

    over labelled pixels, where :math:`\beta` is the share of non-boundary pixels in each image. An
    image without boundary pixels, or with boundary pixels only, does not contribute.

    ``reduction='sum'`` is this sum, as published, for learning rates about 1e-6. ``'mean'`` divides by
    the sum of the weights, as the mean of a weighted cross-entropy does, so that the usual learning
    rates work: for one image, and with :math:`\lambda = 1`, it is half the mean over boundary pixels
    plus half the mean over the others.

    Args:
        negative_weight (float): :math:`\lambda`: 1 as in HED, 1.1 as in RCF. Default: 1.
        label_scale (int): Label of a certain boundary: 1, or 100 where labels are percentages; these
            count as fractions of a boundary pixel. Default: 1.
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``. Default: ``'mean'``.
        loss_weight (float): Factor. Default: 1.
        loss_name (str): Name in the log; mmengine adds up values whose names have ``loss``. Default:
            ``'loss_balanced'``.

    Raises:
        ValueError: If an argument or a label is impossible.

    Source: "Holistically-Nested Edge Detection", Equation 2; "Richer Convolutional Features for Edge
    Detection", Equation 1.

    Example:
        >>> import torch
        >>> from mmdla.models import BalancedBoundaryLoss
        >>> labels = torch.zeros(1, 4, 4).long()
        >>> labels[:, 0] = 1
        >>> loss = BalancedBoundaryLoss(reduction='sum')
        >>> loss(torch.zeros(1, 1, 4, 4), labels)  # log(2) * (4 * 3/4 + 12 * 1/4)
        tensor(4.1589)
    """

    def __init__(
        self,
        negative_weight: float = 1.0,
        label_scale: int = 1,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        loss_name: str = 'loss_balanced',
    ):
        super().__init__(label_scale, reduction, loss_weight, loss_name)
        if not negative_weight > 0:
            raise ValueError(f'negative_weight={negative_weight}: must be above 0')
        self.negative_weight = negative_weight

    def weights(self, target: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
        share = target.sum((1, 2), keepdim=True) / labelled.sum((1, 2), keepdim=True).clamp(min=1)
        return 1 - share, self.negative_weight * share

    def extra_repr(self) -> str:
        return f'negative_weight={self.negative_weight}, label_scale={self.label_scale}'
