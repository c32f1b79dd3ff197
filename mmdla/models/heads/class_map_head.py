"""A linear classifier that also predicts class maps, without gradients."""

from __future__ import annotations

import copy

import torch.nn.functional as F
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
@MMPRETRAIN_MODELS.register_module()
class ClassMapHead(LinearClsHead):
    r"""Average pooling and a linear classifier, which also returns the maps before pooling.

    At location :math:`p` of the last level :math:`f`, the response of class :math:`c` is

    .. math:: M_c(p) = w_c \cdot f(p) + b_c

    This is the classifier as a 1x1 convolution on the unpooled level. Its mean over the map is the
    score of the class. The maps are those of class activation mapping and cost one convolution.

    The head replaces ``GlobalAveragePooling`` and ``LinearClsHead`` and has the parameters of the
    latter, so the weights of such a classifier load unchanged. Predictions have ``class_maps``,
    (num_classes, h, w). In a config, write ``neck=None, head=dict(type='mmdla.ClassMapHead', ...)``;
    for a model in memory, use :func:`with_class_maps`.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the last level.
        **kwargs: Of :class:`mmpretrain.models.heads.LinearClsHead`.

    Raises:
        ValueError: If the features have been pooled already.

    Source: "Dilated Residual Networks", Section 3; Zhou et al., "Learning Deep Features for
    Discriminative Localization", 2016.
    """

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The last level, averaged: (N, in_channels)."""
        return self._level(feats).mean((2, 3))

    def class_maps(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Responses of the classes at each location, (N, num_classes, h, w)."""
        return F.conv2d(self._level(feats), self.fc.weight[..., None, None], self.fc.bias)

    def predict(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample | None] | None = None
    ) -> list[DataSample]:
        """Predict scores and labels as mmpretrain's head does, and ``class_maps``.

        Args:
            feats (tuple[Tensor]): The backbone's levels.
            data_samples (list[DataSample], optional): Samples to write to. Default: None, new ones.
        """
        samples = super().predict(feats, data_samples)
        for sample, maps in zip(samples, self.class_maps(feats)):
            sample.set_field(maps, 'class_maps')
        return samples

    @staticmethod
    def _level(feats: tuple[Tensor, ...]) -> Tensor:
        if feats[-1].ndim != 4:
            raise ValueError(
                f'ClassMapHead got features of shape {tuple(feats[-1].shape)}, which have been pooled; '
                "it takes the backbone's map (N, in_channels, h, w): set neck=None"
            )
        return feats[-1]


def with_class_maps(classifier: ImageClassifier) -> ImageClassifier:
    """Return a classifier whose pooling and linear head are replaced by a :class:`ClassMapHead`.

    It shares backbone and weights with the given one, which does not change.

    Args:
        classifier (ImageClassifier): With ``GlobalAveragePooling`` and ``LinearClsHead``, or with a
            :class:`ClassMapHead` already.

    Returns:
        ImageClassifier: Its predictions are those of ``classifier`` and ``class_maps``.

    Raises:
        ValueError: If neck or head are of other types, whose scores are not averages of maps.

    Example:
        >>> from mmpretrain import get_model
        >>> import mmdla
        >>> mmdla.register_all_modules()
        >>> from mmdla.models.heads import with_class_maps
        >>> model = with_class_maps(get_model('drn_c_26_imagenet').eval())
    """
    neck, head = classifier.neck if classifier.with_neck else None, classifier.head
    if isinstance(head, ClassMapHead) and neck is None:
        return classifier
    if not isinstance(neck, GlobalAveragePooling) or type(head) is not LinearClsHead:
        raise ValueError(
            'class maps need a classifier of GlobalAveragePooling and LinearClsHead, whose scores are '
            f'averages of maps; this one has {type(neck).__name__} and {type(head).__name__}'
        )
    new_head = ClassMapHead(head.num_classes, head.in_channels, topk=head.topk, cal_acc=head.cal_acc)
    new_head.fc, new_head.loss_module = head.fc, head.loss_module
    new_head.train(head.training)
    new = copy.copy(classifier)
    new._modules = dict(classifier._modules, head=new_head, neck=None)
    return new
