"""Backbones."""

from .aggregated_stages import AggregatedStages
from .dla import DLA

__all__ = ['DLA', 'AggregatedStages']
