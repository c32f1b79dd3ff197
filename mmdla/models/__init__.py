"""Models. Backbones and necks need mmengine and mmcv only; the others are imported on first use."""

from ..registry import extensions, lazy_attributes
from .backbones import DLA, DRN, AggregatedStages, SqueezeNet
from .necks import AFAUp, IDAUp

# `import *` leaves out what needs mmseg or mmpretrain.
__all__ = ['DLA', 'DRN', 'AFAUp', 'AggregatedStages', 'IDAUp', 'SqueezeNet']

__getattr__ = lazy_attributes(__name__, extensions('MODELS'))
