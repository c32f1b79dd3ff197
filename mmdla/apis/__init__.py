"""Networks by name, for those who write no config."""

from ..registry import lazy_attributes

__all__ = ['BoundaryInferencer', 'SegInferencer']

__getattr__ = lazy_attributes(
    __name__,
    {
        'BoundaryInferencer': ('mmdla.apis.boundary_inferencer', 'mmseg'),
        'SegInferencer': ('mmdla.apis.seg_inferencer', 'mmseg'),
    },
)
