"""Backbones."""

from .aggregated_stages import AggregatedStages
from .dla import DLA
from .drn import DRN
from .squeezenet import SqueezeNet

__all__ = ['DLA', 'DRN', 'AggregatedStages', 'SqueezeNet']
