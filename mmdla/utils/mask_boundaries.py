"""Boundaries between the regions of a label map."""

from __future__ import annotations

import cv2
import numpy as np


def mask_boundaries(
    labels: np.ndarray, width: int = 2, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Boundaries between regions of different labels, of a given width.

    A boundary runs between two pixels that touch at a side and have different labels. Two pixels wide,
    it is these two; one pixel wide, the upper or left one of them. Each two pixels more widen it by one
    to either side, by Euclidean distance.

    Args:
        labels (np.ndarray): Of classes or instances, of shape (H, W).
        width (int): Width in pixels. Default: 2.
        ignored (np.ndarray, optional): Booleans of shape (H, W), pixels whose label is not known: there
            is no boundary with them. Default: None.

    Returns:
        np.ndarray: Booleans of shape (H, W).

    Raises:
        ValueError: If the width is no number of pixels.
    """
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(f'width={width!r} must be a number of pixels, 1 or more')
    boundary = np.zeros(labels.shape, bool)
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differs = labels[first] != labels[second]
        if ignored is not None:
            differs &= ~(ignored[first] | ignored[second])
        boundary[first] |= differs
        if width % 2 == 0:
            boundary[second] |= differs
    radius = (width - 1) // 2
    if radius and boundary.any():
        distance = cv2.distanceTransform(
            (~boundary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        boundary = distance < radius + 0.5
    return boundary
