"""Inferencers, which load networks by name, without a config."""

from ..registry import lazy_attributes

__all__ = ['BoundaryInferencer', 'SegInferencer']

__getattr__ = lazy_attributes(
    __name__,
    {
        'BoundaryInferencer': ('mmdla.apis.boundary_inferencer', 'mmseg'),
        'SegInferencer': ('mmdla.apis.seg_inferencer', 'mmseg'),
    },
)
