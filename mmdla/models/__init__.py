"""Models. Backbones and necks need mmengine and mmcv only; the others are imported when asked for."""

from ..registry import extensions, lazy_attributes
from .backbones import DLA, DRN, AggregatedStages, SqueezeNet
from .necks import AFAUp, IDAUp

# What needs mmseg or mmpretrain is not for `import *`.
__all__ = ['DLA', 'DRN', 'AFAUp', 'AggregatedStages', 'IDAUp', 'SqueezeNet']

__getattr__ = lazy_attributes(__name__, extensions('MODELS'))
