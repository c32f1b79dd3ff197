"""A segmentor that predicts at several scales and combines what it predicts by attention."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from ...registry import MODELS
from ..decode_heads.linear_head import LinearHead
from ..layers import recompute
from ..layers.upsampling import resize


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class MultiScaleSegmentor(EncoderDecoder):
    r"""mmseg's ``EncoderDecoder`` over several scales of the image, in training and testing.

    .. math:: P = \sum_i w_i P_i

    with the predictions :math:`P_i` at scale :math:`i`, interpolated to the image's size, and weights
    from an attention to the features that the decode head classifies, interpolated to their size at
    scale 1: :class:`mmdla.models.layers.ScaleSpaceRendering` (SSR) or
    :class:`mmdla.models.layers.HierarchicalAttention` (HMA).

    What differs between training and testing is in ``train_cfg`` and ``test_cfg``:

    - ``scales`` (Sequence[float]): the scales. Default: ``(1,)``;
    - ``size_divisor`` (int): enlarge images, bilinearly, to the next multiple of it, and resize the
      predictions back. The released code does it, with 64 in training and 128 in testing. Default: 1,
      images as they are.

    Each prediction is rendered with the same weights and has the losses of its head: the decode
    head's, the regions' of an :class:`ObjectContextHead`, the auxiliary heads'. Testing works as in
    ``EncoderDecoder``: sliding windows render each window, and test-time augmentation each augmented
    image. In mode ``'tensor'`` the model returns the rendered logits at the image's size.

    Args:
        backbone (dict): Backbone.
        decode_head (dict): Decode head; with ``scale_attention`` one that has mmseg's
            ``_forward_feature``, such as :class:`LinearHead` or ``FCNHead``, or
            :class:`ObjectContextHead`.
        scale_attention (dict, optional): ``dict(type='ScaleSpaceRendering', channels=...)``, the
            channels of what the head classifies. Default: None, for one scale.
        loss_scale (dict, optional): Loss of each scale's own prediction, logged as ``scale_0.5.``;
            released with weight 0.05. Default: none.
        with_cp (bool): Recompute the attention to scales in backward. Default: False.
        **kwargs: Of ``EncoderDecoder``: ``neck``, ``auxiliary_head``, ``train_cfg``, ``test_cfg``,
            ``data_preprocessor``, ...

    Raises:
        ValueError: If scales or divisors are impossible, or there are several scales and no
            ``scale_attention``.

    Source: "Dense Prediction with Attentive Feature Aggregation", Section 3.3.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        scale_attention: dict | None = None,
        loss_scale: dict | None = None,
        with_cp: bool = False,
        **kwargs: Any,
    ):
        super().__init__(backbone, decode_head, **kwargs)
        self.with_cp = with_cp
        self.scale_space_attn: Any = None
        if scale_attention is not None:
            self.scale_space_attn = MODELS.build(scale_attention)
        self.loss_scale = None if loss_scale is None else MODELS.build(loss_scale)
        for name in ('train_cfg', 'test_cfg'):
            scales, _ = self._settings(name)
            if scales != (1,) and self.scale_space_attn is None:
                raise ValueError(
                    f'{name}.scales={scales}: several scales, or another than 1, need a scale_attention'
                )
        trained, tested = (self._settings(name)[0] for name in ('train_cfg', 'test_cfg'))
        if len(trained) == 1 < len(tested) and self.train_cfg is not None:
            print_log(
                f'train_cfg.scales={trained} is one scale, which trains no attention to scales, but '
                f'test_cfg.scales={tested} uses it: the weights of a checkpoint have to be trained',
                'current',
                logging.WARNING,
            )

    def _settings(self, name: str) -> tuple[tuple[float, ...], int]:
        """Scales, ascending, and size divisor of ``train_cfg`` or ``test_cfg``."""
        settings: Mapping = getattr(self, name) or {}
        scales, divisor = settings.get('scales', (1,)), settings.get('size_divisor', 1)
        listed = isinstance(scales, Sequence) and scales and len(set(scales)) == len(scales)
        if not listed or not all(isinstance(s, int | float) and s > 0 for s in scales):
            raise ValueError(f'{name}.scales={scales!r}: must be a list of different numbers above 0')
        if type(divisor) is not int or divisor < 1:
            raise ValueError(f'{name}.size_divisor={divisor!r}: must be a whole number, 1 or more')
        return tuple(sorted(scales)), divisor

    def _heads(self) -> dict[str, Any]:
        """The heads that are trained, by the names under which their losses are logged."""
        heads = {'decode': self.decode_head}
        if hasattr(self.decode_head, 'forward_all'):
            heads['decode.regions'] = self.decode_head.aux_head
        if self.with_auxiliary_head:
            several = isinstance(self.auxiliary_head, nn.ModuleList)
            found = self.auxiliary_head if several else [self.auxiliary_head]
            names = [f'aux_{i}' for i in range(len(found))] if several else ['aux']
            heads |= dict(zip(names, found))
        return heads

    def _decode(self, feats: Sequence[Tensor], train: bool) -> tuple[Any, list[Tensor]]:
        """The features to attend to, and the logits of each of :meth:`_heads`, or of the first."""
        head = self.decode_head
        if hasattr(head, 'forward_all'):
            logits, features, regions = head.forward_all(feats)
            found = [logits, regions]
        elif self.scale_space_attn is None:
            features, found = None, [head(feats)]
        else:
            features = head._forward_feature(feats)
            found = [head.cls_seg(features)]
        if not train:
            return features, found[:1]
        others = list(self._heads().values())[len(found) :]
        return features, found + [other(feats) for other in others]

    def _attend(self, features: Tensor) -> Tensor:
        attention = self.scale_space_attn
        if self.with_cp:
            return recompute(attention.attend, features, [attention])
        return attention.attend(features)

    def _predict_scales(
        self, inputs: Tensor, name: str
    ) -> tuple[dict[float, list[Tensor]], dict[float, Tensor]]:
        """Each scale's predictions, by head, and its weight, of the images' size."""
        scales, divisor = self._settings(name)
        train = name == 'train_cfg'
        size = inputs.shape[2:]
        if divisor > 1:
            # Rounded up without negative numbers, whose division ONNX rounds the other way.
            inputs = resize(inputs, [(side + divisor - 1) // divisor * divisor for side in size])
        heads = list(self._heads().values()) if train else [self.decode_head]
        predictions, features = {}, {}
        for scale in scales:
            x = inputs if scale == 1 else resize(inputs, _scaled(inputs.shape[2:], scale))
            features[scale], logits = self._decode(self.extract_feat(x), train)
            predictions[scale] = [
                self._upsample(head, z, x.shape[2:], size) for head, z in zip(heads, logits)
            ]
        if self.scale_space_attn is None:
            return predictions, {}
        middle = features[min(scales, key=lambda s: abs(s - 1))].shape[2:]
        attention = [self._attend(resize(features[s], middle)) for s in scales]
        weights = self.scale_space_attn.weights(attention)
        return predictions, {s: resize(w, size) for s, w in zip(scales, weights)}

    @staticmethod
    def _upsample(head: Any, logits: Tensor, scaled: torch.Size, size: torch.Size) -> Tensor:
        """A head's logits at every pixel, from those of the image at a scale."""
        if type(head).predict_by_feat is BaseDecodeHead.predict_by_feat:
            return head.predict_by_feat(logits, [dict(img_shape=size)])
        # A head that upsamples by its stride gives the scaled image's size first.
        return resize(head.predict_by_feat(logits, [dict(img_shape=scaled)]), size)

    @staticmethod
    def _render(predictions: dict[float, list[Tensor]], weights: dict[float, Tensor]) -> list[Tensor]:
        """``P``, by head."""
        if not weights:
            (found,) = predictions.values()
            return found
        columns = zip(*predictions.values())
        return [sum(w * p for w, p in zip(weights.values(), column)) for column in columns]

    def scale_weights(self, inputs: Tensor) -> dict[float, Tensor]:
        """What each scale of ``test_cfg`` counts at each pixel, for figures.

        Args:
            inputs (Tensor): Normalized images, (N, C, H, W).

        Returns:
            dict[float, Tensor]: By scale, (N, 1, H, W); empty without ``scale_attention``.
        """
        return self._predict_scales(inputs, 'test_cfg')[1]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Rendered logits, (N, out_channels, H, W) of the images' size."""
        return self._forward(inputs)

    def _forward(self, inputs: Tensor, data_samples: OptSampleList = None) -> Tensor:
        """Rendered logits, (N, out_channels, H, W) of the images' size."""
        return self._render(*self._predict_scales(inputs, 'test_cfg'))[0]

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict:
        """Losses of the rendered predictions, and of each scale's.

        Args:
            inputs (Tensor): Normalized images, (N, C, H, W).
            data_samples (list[SegDataSample]): Their labels.

        Returns:
            dict[str, Tensor]: The losses by name, as ``EncoderDecoder`` names them.
        """
        predictions, weights = self._predict_scales(inputs, 'train_cfg')
        losses: dict[str, Tensor] = {}
        rendered = self._render(predictions, weights)
        for (name, head), p in zip(self._heads().items(), rendered):
            known = dict(upsampled=True) if isinstance(head, LinearHead) else {}
            losses |= add_prefix(head.loss_by_feat(p, data_samples, **known), name)
        if self.loss_scale is not None:
            head = self.decode_head
            labels = head._stack_batch_gt(data_samples).squeeze(1)
            for scale, (p, *_) in predictions.items():
                value = self.loss_scale(p, labels, ignore_index=head.ignore_index)
                losses[f'scale_{scale:g}.{self.loss_scale.loss_name}'] = value
        return losses


def _scaled(size: Sequence[int], scale: float) -> list[int]:
    """Height and width at a scale, rounded down, in whole numbers, for the exporter."""
    ratio = Fraction(scale).limit_denominator(1000)
    return [side * ratio.numerator // ratio.denominator for side in size]
