"""Draws class maps and boxes of localization; needs only NumPy and OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

FOUND = (40, 200, 255)  # BGR
TRUE = (255, 255, 255)
LEAST = 160  # smaller pictures are enlarged to this many pixels, so that boxes and captions can be read


def heat_map(image: np.ndarray, class_map: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """Draw a class map over its image, from blue (lowest value) to red (highest value).

    Args:
        image (ndarray): uint8, (H, W, 3), BGR.
        class_map (ndarray): Responses of a class, (h, w); a constant one is all blue.
        weight (float): Share of the colours, 0 to 1. Default: 0.5.

    Returns:
        ndarray: uint8, (H, W, 3), BGR.
    """
    height, width = image.shape[:2]
    scores = cv2.resize(np.asarray(class_map, np.float64), (width, height))
    span = scores.max() - scores.min()
    scores = (scores - scores.min()) / (span if span > 0 else 1)
    colours = cv2.applyColorMap((255 * scores).astype(np.uint8), cv2.COLORMAP_JET)
    return cv2.addWeighted(colours, weight, image, 1 - weight, 0)


def localization_picture(
    image: np.ndarray,
    class_map: np.ndarray,
    found: np.ndarray,
    true: np.ndarray | None = None,
    caption: str = '',
) -> np.ndarray:
    """Draw the predicted box (yellow) and the true ones (white) on an image and its heat map.

    Args:
        image (ndarray): uint8, (H, W, 3), BGR.
        class_map (ndarray): Responses of the class, (h, w).
        found (ndarray): x0, y0, x1, y1 in pixels; all zeros if no box was found.
        true (ndarray, optional): The true boxes, (n, 4). Default: None.
        caption (str): Text below the picture. Default: ``''``, no text.

    Returns:
        ndarray: uint8, BGR.
    """
    factor = max(1, -(-LEAST // min(image.shape[:2])))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    large = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    parts = [large.copy(), heat_map(large, class_map)]
    for part in parts:
        boxes = [(box, TRUE) for box in ([] if true is None else true)] + [(found, FOUND)]
        for box, colour in boxes:
            x0, y0, x1, y1 = (round(float(v) * factor) for v in box)
            if x1 > x0 and y1 > y0:
                cv2.rectangle(part, (x0, y0), (x1 - 1, y1 - 1), (0, 0, 0), 3)
                cv2.rectangle(part, (x0, y0), (x1 - 1, y1 - 1), colour, 2 if colour == FOUND else 1)
    picture = cv2.hconcat(parts)
    if caption:
        bar = np.full((22, picture.shape[1], 3), 255, np.uint8)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(bar, caption, (4, 15), font, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        picture = cv2.vconcat([picture, bar])
    return picture


def grid(pictures: Sequence[np.ndarray], columns: int = 4, gap: int = 6) -> np.ndarray:
    """Pictures in rows, each in a white cell of the size of the largest.

    Args:
        pictures (Sequence[ndarray]): uint8, BGR, one at least.
        columns (int): Pictures in a row. Default: 4.
        gap (int): Pixels between them. Default: 6.

    Returns:
        ndarray: uint8, BGR.

    Raises:
        ValueError: If there is no picture, or ``columns`` is below 1.
    """
    if not pictures or columns < 1:
        raise ValueError(f'{len(pictures)} pictures in columns={columns}: must be 1 or more of each')
    height, width = (max(p.shape[i] for p in pictures) + gap for i in (0, 1))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet
