"""Converts images of any type to pictures to draw on."""

from __future__ import annotations

import numpy as np


def to_bgr8(image: np.ndarray) -> np.ndarray:
    """Convert an image of any type and number of channels to 8-bit BGR.

    One or two channels are shown as grey, by the first. Of more than three channels the first three are
    shown. Values that are not uint8 are rounded if they are on a scale of 0 to 255, and otherwise
    stretched to it from the smallest to the largest.

    Args:
        image (np.ndarray): Of shape (H, W) or (H, W, channels), channels in the order BGR.

    Returns:
        np.ndarray: uint8, (H, W, 3), a copy.
    """
    values = image[..., None] if image.ndim == 2 else image
    values = np.repeat(values[..., :1], 3, 2) if values.shape[2] < 3 else values[..., :3]
    if values.dtype != np.uint8:
        values = np.nan_to_num(values.astype(np.float64))
        low, high = values.min(), values.max()
        if low < 0 or high > 255 or (high <= 1 and image.dtype.kind == 'f'):
            values = (values - low) * (255 / (high - low or 1))
        values = np.rint(values)
    return values.astype(np.uint8)
