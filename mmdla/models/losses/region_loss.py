"""Losses of AFA-DLA: binary cross-entropy over one-hot classes, and region mutual information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.losses.utils import weight_reduce_loss
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor

from ...registry import MODELS
from .pixel_loss import PixelLoss


class _OneHotLoss(PixelLoss):
    """A loss that compares the sigmoid of each channel with whether the pixel is of that class."""

    def _one_hot(
        self, cls_score: Tensor, label: Tensor, ignore_index: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and one-hot labels, (N, C, H, W), and 1 where labelled, (N, 1, H, W); 0 where ignored.

        They are float32, or float64 if the logits are. Checking the labels waits once for the device,
        as mmseg's accuracy does, and is a break in a compiled graph.
        """
        if cls_score.ndim != 4:
            raise ValueError(f'cls_score of shape {tuple(cls_score.shape)}: must be (N, C, H, W)')
        channels = cls_score.shape[1]
        known, ignored = self._without_ignored(cls_score, label, ignore_index)
        # one channel is that of class 1
        highest = max(channels, 2) - 1
        if known.numel():
            low, high = torch.stack(known.aminmax()).tolist()
            if low < 0 or high > highest:
                raise ValueError(
                    f'label: from {low:g} to {high:g}, but cls_score has {channels} channels: labels '
                    f'must be from 0 to {highest}, or ignore_index={ignore_index}'
                )
        first = 1 if channels == 1 else 0
        classes = torch.arange(first, first + channels, device=label.device).view(-1, 1, 1)
        ignored = ignored.unsqueeze(1)
        logits = cls_score.to(torch.promote_types(cls_score.dtype, torch.float32))
        one_hot = (known.unsqueeze(1) == classes) & ~ignored
        return logits.masked_fill(ignored, 0), one_hot.to(logits), (~ignored).to(logits)


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class OneHotBCELoss(_OneHotLoss):
    r"""Binary cross-entropy of every class, summed over classes and averaged over pixels.

    .. math:: L = -\frac{1}{|V| + 1} \sum_{i \in V} \sum_c
        w_c t_{ic} \log \sigma(z_{ic}) + (1 - t_{ic}) \log(1 - \sigma(z_{ic}))

    of logits z and one-hot labels t; V are the pixels that are not ignored. The loss of AFA's boundary
    detectors has ``pos_weight=(1, 10)``.

    mmseg's ``CrossEntropyLoss(use_sigmoid=True)`` averages over classes, too, and its ``class_weight``
    is one number for all of them.

    Args:
        pos_weight (Sequence[float], optional): Weight :math:`w_c` of each class's pixels, a number for
            each channel. Default: None, which is 1.
        avg_non_ignore (bool): Divide by :math:`|V| + 1`, as released, or else by the number of all
            pixels, as mmseg's losses do by default. Default: True.
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``. Default: ``'mean'``.
        loss_weight (float): Factor. Default: 1.
        loss_name (str): Name in the log; only what begins with ``loss_`` is learned from. Default:
            ``'loss_bce'``.

    Raises:
        ValueError: If an argument or, when it runs, a shape or a label is impossible.

    Source: released code of AFA-DLA, after Zhao et al., "Region Mutual Information Loss for Semantic
    Segmentation", NeurIPS 2019.

    Example:
        >>> import torch
        >>> from mmdla.models import OneHotBCELoss
        >>> loss = OneHotBCELoss(avg_non_ignore=False)
        >>> loss(torch.zeros(2, 3, 8, 8), torch.ones(2, 8, 8).long())  # 3 log(2)
        tensor(2.0794)
    """

    def __init__(
        self,
        pos_weight: Sequence[float] | None = None,
        avg_non_ignore: bool = True,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        loss_name: str = 'loss_bce',
    ):
        super().__init__(reduction, loss_weight, loss_name)
        if pos_weight is not None and (isinstance(pos_weight, str) or not min(pos_weight) > 0):
            raise ValueError(
                f'pos_weight={pos_weight!r}: must be numbers above 0, one for each channel'
            )
        self.pos_weight = None if pos_weight is None else tuple(map(float, pos_weight))
        self.avg_non_ignore = avg_non_ignore

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = 255,
    ) -> Tensor:
        """The loss, computed in float32 at least.

        Args:
            cls_score (Tensor): Logits, (N, C, H, W); one channel is that of class 1.
            label (Tensor): Class numbers, or ``ignore_index``, (N, H, W).
            weight (Tensor, optional): Of each pixel's loss, (N, H, W). As in mmseg it does not change
                what a mean divides by. Default: 1.
            avg_factor (float, optional): What a mean divides by. Default: by ``avg_non_ignore``.
            reduction_override (str, optional): In place of ``reduction``.
            ignore_index (int, optional): Label to ignore. Default: 255.

        Returns:
            Tensor: A number, 0 where nothing is labelled; (N, H, W) with reduction ``'none'``.

        Raises:
            ValueError: If a shape or a label is impossible, or the reduction is unknown.
        """
        reduction = self._reduction(reduction_override)
        logits, target, labelled = self._one_hot(cls_score, label, ignore_index)
        pos_weight = None
        if self.pos_weight is not None:
            if len(self.pos_weight) != logits.shape[1]:
                raise ValueError(
                    f'pos_weight={self.pos_weight}: must have a number for each of the '
                    f'{logits.shape[1]} channels of cls_score'
                )
            pos_weight = logits.new_tensor(self.pos_weight).view(-1, 1, 1)
        loss = F.binary_cross_entropy_with_logits(
            logits, target, labelled, pos_weight=pos_weight, reduction='none'
        ).sum(1)
        factor: Any = avg_factor
        if factor is None and reduction == 'mean':
            factor = labelled.sum() + 1 if self.avg_non_ignore else labelled.numel()
        return self.loss_weight * weight_reduce_loss(loss, weight, reduction, factor)

    def extra_repr(self) -> str:
        return f'pos_weight={self.pos_weight}, avg_non_ignore={self.avg_non_ignore}'


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class RegionMutualInformationLoss(_OneHotLoss):
    r"""Minus a lower bound of the mutual information of regions of labels and of predictions.

    Every pixel with its neighbours, :math:`d = 3 \cdot 3` values, is a sample of a random vector: Y of
    one-hot labels, P of sigmoid probabilities, which both are pooled before. For each class,

    .. math:: \Sigma_{Y|P} = \Sigma_Y - \Sigma_{YP} (\Sigma_P + \alpha I)^{-1} \Sigma_{YP}^T, \quad
        L = \frac{1}{2 d} \log \det (\Sigma_{Y|P} + \alpha I)

    with :math:`\Sigma` the sums of products of what is centred, as released (covariances times the
    number of samples); the loss is the sum over classes, averaged over images. It can be negative, and
    it is learned from beside a cross-entropy:

    .. code-block:: python

        loss_decode=[
            dict(type='mmdla.OneHotBCELoss', loss_weight=0.5),
            dict(type='mmdla.RegionMutualInformationLoss', loss_weight=0.5),
        ]

    Covariances are computed in float64 whatever the logits are. Where the determinant cannot be
    computed (NaN or infinite logits) the loss is NaN, so that a gradient scaler skips the step.

    Args:
        radius (int): Side of the neighbourhood in pixels. Default: 3.
        pool_size (int): Kernel and stride of the average pooling, padded with zeros by half; 1 for
            none. Default: 4.
        alpha (float): :math:`\alpha`. Default: 5e-4.
        reduction (str): ``'mean'`` or ``'sum'`` over images, or ``'none'``. Default: ``'mean'``.
        loss_weight (float): Factor. Default: 1.
        loss_name (str): Name in the log; only what begins with ``loss_`` is learned from. Default:
            ``'loss_rmi'``.

    Raises:
        ValueError: If an argument or, when it runs, a shape or a label is impossible.

    Source: Zhao et al., "Region Mutual Information Loss for Semantic Segmentation", NeurIPS 2019,
    Equations 12 to 14, with the settings of the released code of AFA-DLA.

    Example:
        >>> import torch
        >>> from mmdla.models import RegionMutualInformationLoss
        >>> loss = RegionMutualInformationLoss()
        >>> labels = torch.zeros(1, 32, 32).long()
        >>> labels[:, :, 16:] = 1
        >>> right = 9 * torch.stack([1 - 2 * labels, 2 * labels - 1], 1).float()
        >>> bool(loss(right, labels) < loss(torch.rand(1, 2, 32, 32), labels))
        True
    """

    FLOOR = 1e-6  # added to probabilities, as released; the zeros around an image are below it

    def __init__(
        self,
        radius: int = 3,
        pool_size: int = 4,
        alpha: float = 5e-4,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        loss_name: str = 'loss_rmi',
    ):
        super().__init__(reduction, loss_weight, loss_name)
        for name, value in (('radius', radius), ('pool_size', pool_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name}={value!r}: must be a number of pixels, 1 or more')
        if not alpha > 0:
            raise ValueError(f'alpha={alpha!r}: must be above 0')
        self.radius = radius
        self.pool_size = pool_size
        self.alpha = alpha

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = 255,
    ) -> Tensor:
        """The loss, computed in float32 at least, its covariances in float64.

        Args:
            cls_score (Tensor): Logits, (N, C, H, W); one channel is that of class 1.
            label (Tensor): Class numbers, or ``ignore_index``, (N, H, W).
            weight (Tensor, optional): What labels and probabilities of a pixel are multiplied by,
                (N, H, W), as they are by 0 where it is ignored. Default: 1.
            avg_factor (float, optional): What a mean divides by. Default: the number of images.
            reduction_override (str, optional): In place of ``reduction``.
            ignore_index (int, optional): Label to ignore. Default: 255.

        Returns:
            Tensor: A number; (N,) with reduction ``'none'``.

        Raises:
            ValueError: If a shape or a label is impossible, or the reduction is unknown.
        """
        reduction = self._reduction(reduction_override)
        logits, target, labelled = self._one_hot(cls_score, label, ignore_index)
        if weight is not None:
            labelled = labelled * weight.unsqueeze(1).to(logits)
        # autocast leaves float64 alone, but would pool in half precision
        with torch.autocast(logits.device.type, enabled=False):
            labels = self._regions(target * labelled)
            probabilities = self._regions(logits.sigmoid() * labelled + self.FLOOR)
            loss = self._bound(labels, probabilities).sum(1).to(logits.dtype)
        return self.loss_weight * weight_reduce_loss(loss, None, reduction, avg_factor)

    def _regions(self, maps: Tensor) -> Tensor:
        """Centred neighbourhoods of pooled maps, float64 of shape (N, C, d, samples)."""
        size, radius = self.pool_size, self.radius
        if size > 1:
            maps = F.avg_pool2d(maps, size, size, size // 2)
        height, width = (n - radius + 1 for n in maps.shape[2:])
        if height < 1 or width < 1:
            raise ValueError(
                f'cls_score: pooled by {size} it is {maps.shape[2]}x{maps.shape[3]} pixels, but '
                f'neighbourhoods have {radius}x{radius}: the crop must be larger, or pool_size smaller'
            )
        maps = maps.double()
        regions = torch.stack(
            [
                maps[:, :, y : y + height, x : x + width].flatten(2)
                for y in range(radius)
                for x in range(radius)
            ],
            2,
        )
        return regions - regions.mean(3, keepdim=True)

    def _bound(self, labels: Tensor, probabilities: Tensor) -> Tensor:
        r""":math:`\frac{1}{2d} \log \det (\Sigma_{Y|P} + \alpha I)` of each image and class, (N, C)."""
        dimensions = labels.shape[2]
        ridge = self.alpha * torch.eye(dimensions, dtype=labels.dtype, device=labels.device)
        cross = labels @ probabilities.mT
        # Without errors: these would wait for the device, and end a run where a scaler skips a step.
        factor, failed = torch.linalg.cholesky_ex(probabilities @ probabilities.mT + ridge)
        explained = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
        conditional = labels @ labels.mT - explained.mT @ explained
        factor, failed_too = torch.linalg.cholesky_ex(conditional + ridge)
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        failed = (failed != 0) | (failed_too != 0)
        # a factor, so that the gradient is NaN, too
        return half_log_det * torch.where(failed, torch.nan, 1 / dimensions)

    def extra_repr(self) -> str:
        return f'radius={self.radius}, pool_size={self.pool_size}, alpha={self.alpha}'
