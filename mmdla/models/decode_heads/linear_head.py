"""Segmentation head of dilated residual networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS
from ..layers import BilinearUpsample, FrozenUpsample, match_size
from ..layers.recompute import exporting

UPSAMPLE = dict(bilinear=BilinearUpsample, deconv=FrozenUpsample)


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """A 1x1 classifier on one level, and fixed upsampling by the level's stride.

    The upsampled map is cut to the size of the image. For example, an image of 225 rows has 29 rows at
    stride 8, which become 232. (mmseg's own resizing would squeeze them into 225 and shift them.)

    Args:
        in_channels (int): Channels of the level.
        num_classes (int): Number of classes.
        in_index (int): Which of the backbone's outputs to use. Default: -1, the last.
        stride (int): Stride of the level, 2 or more. Default: 8.
        upsample (str): ``'bilinear'``, interpolation; or ``'deconv'``, the released frozen transposed
            convolution, which differs at the border, where its values are smaller: by a factor of 0.32
            in a corner at stride 8. Default: ``'bilinear'``.
        dropout_ratio (float): Dropout before the classifier. Default: 0, as released.
        init_cfg (dict | list[dict], optional): Initialization of the classifier. Default: as released,
            normal with variance 2 / out_channels.
        log_prob (bool): Return log-probabilities, the log-softmax of the upsampled logits, as AFA-DLA's
            released code does: its losses are of these, and its multi-scale predictions sums of these.
            Labels and probabilities are the same. Default: False.
        **kwargs: Of :class:`mmseg.models.decode_heads.decode_head.BaseDecodeHead`: losses,
            ``ignore_index``, ``sampler``, ``out_channels`` ...

    Raises:
        ValueError: If an argument is impossible, or if a map does not have this stride.

    Source: "Dilated Residual Networks", Section 5.3; released ``segment.py``, ``DRNSeg``. The released
    ``seg`` is mmseg's ``conv_seg``.

    Example:
        >>> import torch
        >>> from mmdla.models import LinearHead
        >>> head = LinearHead(512, num_classes=19).eval()
        >>> head([torch.rand(1, 512, 29, 51)]).shape
        torch.Size([1, 19, 29, 51])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        in_index: int = -1,
        stride: int = 8,
        upsample: str = 'bilinear',
        dropout_ratio: float = 0.0,
        init_cfg: dict | list[dict] | None = dict(
            type='Kaiming',
            mode='fan_out',
            nonlinearity='relu',
            override=dict(name='conv_seg'),
        ),
        log_prob: bool = False,
        **kwargs: Any,
    ):
        if type(in_channels) is not int:
            raise ValueError(f'in_channels={in_channels}: must be one number, of the level in in_index')
        if type(stride) is not int or stride < 2:
            raise ValueError(f'stride={stride}: must be an integer, 2 or more')
        if upsample not in UPSAMPLE:
            raise ValueError(f'upsample={upsample!r}: must be one of {sorted(UPSAMPLE)}')
        if kwargs.get('align_corners'):
            raise ValueError('align_corners=True: upsampling is by an integer factor; leave it out')
        super().__init__(
            in_channels,
            in_channels,
            num_classes=num_classes,
            in_index=in_index,
            dropout_ratio=dropout_ratio,
            init_cfg=init_cfg,
            **kwargs,
        )
        if log_prob and self.out_channels == 1:
            raise ValueError('log_prob=True: needs two output channels or more, and out_channels=1')
        self.stride = stride
        self.log_prob = log_prob
        self.up = UPSAMPLE[upsample](stride)

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """What is classified: the level."""
        return self._transform_inputs(inputs)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits at the level's stride, (N, out_channels, h, w)."""
        return self.cls_seg(self._forward_feature(inputs))

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits of every pixel, or log-probabilities with ``log_prob``, (N, out_channels, *size)."""
        full = self.up(logits)
        off = 0 if exporting() else max(abs(a - b) for a, b in zip(full.shape[2:], size))
        if off >= self.stride:
            raise ValueError(
                f'stride={self.stride}: must be the stride of the level in_index={self.in_index}; its '
                f'map of {logits.shape[2]}x{logits.shape[3]} becomes {full.shape[2]}x{full.shape[3]}, '
                f'but the image is {size[0]}x{size[1]}'
            )
        full = match_size(full, tuple(size), slack=self.stride - 1)
        return full.log_softmax(1) if self.log_prob else full

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: SampleList, upsampled: bool = False
    ) -> dict:
        """Losses of the logits at the size of the labels.

        Args:
            seg_logits (Tensor): Of :meth:`forward`, or with ``upsampled`` of :meth:`upsample`.
            batch_data_samples (list[SegDataSample]): The labels.
            upsampled (bool): Whether the logits are those of every pixel. Default: False.
        """
        if not upsampled:
            seg_logits = self.upsample(seg_logits, batch_data_samples[0].gt_sem_seg.shape)
        return super().loss_by_feat(seg_logits, batch_data_samples)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits of every pixel of the images, or of a sliding window."""
        meta = batch_img_metas[0]
        size = meta['img_shape']
        if not isinstance(size, torch.Size):  # which is mmseg's sign of a window
            size = meta.get('pad_shape', size)[:2]
        return self.upsample(seg_logits, size)
