"""Backbones."""

from .aggregated_stages import AggregatedStages
from .dla import DLA
from .squeezenet import SqueezeNet

__all__ = ['DLA', 'AggregatedStages', 'SqueezeNet']
