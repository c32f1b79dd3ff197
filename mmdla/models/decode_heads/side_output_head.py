"""Boundary detection with side outputs: deep supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor, nn

from ...registry import MODELS
from ..layers import BilinearUpsample, as_tuple, match_size
from .boundary_head import BoundaryOutputs


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class SideOutputHead(BoundaryOutputs, BaseDecodeHead):
    r"""Boundary logits from each of several maps, and from all of them together.

    .. math::
        s_k = U_k(w_k^\top F_k + b_k), \qquad f = \sum_k h_k s_k + b

        L = \lambda_f\, \ell(f, Y) + \sum_k \lambda_k\, \ell(s_k, Y)

    with the maps :math:`F_k`, the side outputs :math:`s_k`, the fusion :math:`f` and the labels
    :math:`Y`. :math:`U_k` interpolates bilinearly to the stride of the finest map, without moving a
    pixel; from there mmseg resizes to the size of the labels or the image, as for
    :class:`BoundaryHead`. The probability of a boundary is :math:`\sigma(f)`, or the average

    .. math:: p = \frac{1}{K + 1} \Big( \sigma(f) + \sum_k \sigma(s_k) \Big)

    whose logit the head then returns, so that all that follows works as with any other head.

    The maps are the levels of a backbone; or what each step of IDA-up ends with, ``IDAUp`` with
    ``all_steps=True``; or those of ``AFAUp`` and its fusion. Losses are logged as ``fuse.`` and
    ``side_0.``, ``side_1.``, ... in the order of ``in_channels``. An exported ``.pt2`` file needs
    images whose coarsest map is larger than one pixel.

    Args:
        in_channels (Sequence[int]): Channels of the maps.
        strides (Sequence[int]): Their strides, in any order, each a multiple of the smallest.
        in_index (Sequence[int], optional): Which of the inputs to use. Default: all.
        prediction (str): ``'fuse'``, or ``'average'`` of it and the side outputs, as in HED. Default:
            ``'fuse'``, as in RCF.
        side_weight (float | Sequence[float]): Weight :math:`\lambda_k` of the losses of all side
            outputs, or of each. Default: 1.
        fuse_weight (float): Weight :math:`\lambda_f` of the fusion's losses. Default: 1.
        num_classes (int): 2: no boundary and boundary. Default: 2.
        threshold (float): Probability above which ``pred_sem_seg`` is 1. Default: 0.5.
        loss_decode (dict | list[dict]): Losses :math:`\ell`. Default: ``BalancedBoundaryLoss``, HED's;
            ``negative_weight=1.1`` is RCF's, whose uncertain band ``LoadBoundaryAnnotations`` with
            ``label='grey'`` marks to be ignored.
        dropout_ratio (float): Dropout of side outputs before the fusion. Default: 0.
        init_cfg (dict | list[dict], optional): Default: None, normal of deviation 0.01 for the side
            outputs, and 1 / K for the fusion, as in RCF.
        **kwargs: Of :class:`mmseg.models.decode_heads.decode_head.BaseDecodeHead`: ``ignore_index``,
            ``sampler``, ``align_corners`` ...

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Source: Xie and Tu, "Holistically-Nested Edge Detection", 2015; Liu et al., "Richer Convolutional
    Features for Edge Detection", 2017.

    Example:
        >>> import torch
        >>> from mmdla.models import SideOutputHead
        >>> head = SideOutputHead([256, 128, 64], strides=[8, 4, 2]).eval()
        >>> maps = [torch.rand(1, c, *s) for c, s in zip(
        ...     (256, 128, 64), ((15, 26), (29, 51), (57, 101)))]
        >>> head(maps).shape
        torch.Size([1, 1, 57, 101])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        in_index: Sequence[int] | None = None,
        prediction: str = 'fuse',
        side_weight: float | Sequence[float] = 1.0,
        fuse_weight: float = 1.0,
        num_classes: int = 2,
        threshold: float = 0.5,
        loss_decode: dict | list[dict] = dict(type='mmdla.BalancedBoundaryLoss'),
        dropout_ratio: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ):
        channels, strides = as_tuple('in_channels', in_channels), as_tuple('strides', strides)
        number, finest = len(channels), min(strides, default=1)
        if len(strides) != number or any(s % finest for s in strides):
            raise ValueError(
                f'strides={strides}: must be {number}, one for each of in_channels, and multiples '
                'of the smallest'
            )
        if prediction not in ('fuse', 'average'):
            raise ValueError(f"prediction={prediction!r}: must be 'fuse' or 'average'")
        sides = [side_weight] * number if isinstance(side_weight, (int, float)) else list(side_weight)
        if len(sides) != number or not min(sides) >= 0:
            raise ValueError(
                f'side_weight={side_weight}: must be a number, 0 or more, or {number}, one for each of '
                'in_channels'
            )
        if not fuse_weight >= 0:
            raise ValueError(f'fuse_weight={fuse_weight}: must be 0 or more')
        super().__init__(
            list(channels),
            num_classes=num_classes,
            out_channels=1,
            threshold=threshold,
            loss_decode=loss_decode,
            channels=number,
            in_index=list(range(number) if in_index is None else in_index),
            input_transform='multiple_select',
            dropout_ratio=dropout_ratio,
            init_cfg=init_cfg
            or [
                dict(type='Normal', std=0.01, override=dict(name='sides')),
                dict(type='Constant', val=1 / number, override=dict(name='conv_seg')),
            ],
            **kwargs,
        )
        self.strides = strides
        self.prediction = prediction
        self.side_weight, self.fuse_weight = sides, fuse_weight
        self.sides = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)
        self.ups = nn.ModuleList(
            BilinearUpsample(s // finest) if s > finest else nn.Identity() for s in strides
        )

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """What the fusion is of: the side outputs at the finest stride, (N, K, H, W)."""
        maps = self._transform_inputs(inputs)
        finest = min(self.strides)
        size = maps[self.strides.index(finest)].shape[2:]
        found = [up(side(x)) for up, side, x in zip(self.ups, self.sides, maps)]
        return torch.cat(
            [match_size(x, size, slack=s // finest - 1) for x, s in zip(found, self.strides)], 1
        )

    def side_outputs(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits of the fusion and of the side outputs at the finest stride, (N, 1 + K, H, W)."""
        sides = self._forward_feature(inputs)
        return torch.cat([self.cls_seg(sides), sides], 1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits of the prediction at the finest stride, (N, 1, H, W)."""
        if self.prediction == 'fuse':
            return self.cls_seg(self._forward_feature(inputs))
        logits = self.side_outputs(inputs)
        # logit(p) = log(p) - log(1 - p), which does not overflow as these means' logarithms.
        p, q = (F.logsigmoid(z).logsumexp(1, keepdim=True) for z in (logits, -logits))
        return p - q

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: SampleList, train_cfg: dict | None = None
    ) -> dict:
        """Losses of the fusion and of each side output, times their weights."""
        return self.loss_by_feat(self.side_outputs(inputs), batch_data_samples)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict:
        """The same, of what :meth:`side_outputs` returns.

        Raises:
            ValueError: If the side outputs are not among the logits.
        """
        if seg_logits.shape[1] != 1 + len(self.sides):
            raise ValueError(
                f'seg_logits of shape {tuple(seg_logits.shape)}: must have 1 + {len(self.sides)} '
                'channels, of the fusion and the side outputs; train this head in an EncoderDecoder'
            )
        names = ['fuse', *(f'side_{k}' for k in range(len(self.sides)))]
        losses: dict[str, Tensor] = {}
        for name, weight, logits in zip(
            names, [self.fuse_weight, *self.side_weight], seg_logits.split(1, dim=1)
        ):
            found = super().loss_by_feat(logits, batch_data_samples)
            losses |= add_prefix({key: weight * value for key, value in found.items()}, name)
        return losses
