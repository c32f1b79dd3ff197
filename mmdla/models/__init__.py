"""Models. Backbones and necks need mmengine and mmcv only; the others are imported on first use."""

from ..registry import extensions, lazy_attributes
from .backbones import DLA, DRN, AggregatedStages, SqueezeNet
from .necks import IDAUp

# `import *` leaves out what needs mmseg or mmpretrain.
__all__ = ['DLA', 'DRN', 'AggregatedStages', 'IDAUp', 'SqueezeNet']

__getattr__ = lazy_attributes(__name__, extensions('MODELS'))
