"""The crops of ten-crop testing."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN_TRANSFORMS

from ...registry import TRANSFORMS

CORNERS = ('top_left', 'top_right', 'bottom_left', 'bottom_right', 'centre')


@TRANSFORMS.register_module()
@MMPRETRAIN_TRANSFORMS.register_module()
class CornerCrop(BaseTransform):
    """Crop at a corner or in the centre, for mmcv's ``TestTimeAug``.

    Args:
        crop_size (int | Sequence[int]): Height and width, or one number for both.
        corner (str): ``'top_left'``, ``'top_right'``, ``'bottom_left'``, ``'bottom_right'`` or
            ``'centre'``.

    Raises:
        ValueError: If an argument is impossible or an image is smaller than the crop.
    """

    def __init__(self, crop_size: int | Sequence[int], corner: str):
        size = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
        if len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
            raise ValueError(f'crop_size={crop_size}: must be one positive integer or two')
        if corner not in CORNERS:
            raise ValueError(f'corner={corner!r}: must be one of {", ".join(CORNERS)}')
        self.crop_size = size
        self.corner = corner

    def transform(self, results: dict) -> dict:
        """Crop ``results['img']`` and set ``img_shape``.

        Args:
            results (dict): Results of the transforms before.
        """
        (height, width), (rows, cols) = results['img'].shape[:2], self.crop_size
        if rows > height or cols > width:
            raise ValueError(
                f'crop_size={self.crop_size}: must not exceed the image of {height}x{width}; resize it '
                'first, or use a smaller crop'
            )
        top, left = height - rows, width - cols
        if self.corner == 'centre':
            # like torchvision, which rounds halves to even
            top, left = round(top / 2), round(left / 2)
        else:
            vertical, horizontal = self.corner.split('_')
            top, left = top * (vertical == 'bottom'), left * (horizontal == 'right')
        results['img'] = results['img'][top : top + rows, left : left + cols]
        results['img_shape'] = self.crop_size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(crop_size={self.crop_size}, corner={self.corner!r})'
