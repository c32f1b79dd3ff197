"""Boundaries by Sobel's or Canny's operator, baselines: `operator_boundaries.py IMAGES --out-dir DIR`.

Sobel: the magnitude of the gradient of the smoothed image, of the channel of Lab where it is largest,
on one scale for all images. To be scored by eval_boundaries.py with --nms.

Canny: of the same gradients, at 99 thresholds. A pixel's value is the highest upper threshold at which
it is an edge; the lower one is 0.4 of it. As edges at a threshold are among those at a lower one, the
map binarized at one of the benchmark's thresholds is Canny's result for it. It is thin: to be scored
without --nms.

Both are written as NAME.png of 16 bit, in the same folders below DIR as the images below IMAGES.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.io.boundary_files import write_boundary_map
from mmdla.io.files import is_nonempty, list_files
from mmdla.io.images import read_image

LOWER = 0.4  # Canny's lower threshold as a fraction of the upper one
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--operator', choices=OPERATORS, default='sobel', help='which one (sobel)')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder to write to, new or empty')
    parser.add_argument('--sigma', type=float, default=2.0, help='of the Gaussian, in pixels (2)')
    return parser.parse_args()


def gradients(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's derivatives of the smoothed channels of Lab.

    Args:
        image (np.ndarray): BGR, of shape (H, W, 3), 0 to 255.
        sigma (float): Of the Gaussian that smooths it, in pixels.

    Returns:
        tuple[np.ndarray, np.ndarray]: Along x and y, of shape (H, W, 3), as fractions of the steepest
        that lightness can have.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    smooth = cv2.GaussianBlur(lab, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    # From black to white, across an edge that only the Gaussian blurs: the most there can be.
    steepest = 100 / (sigma * np.sqrt(2 * np.pi))
    x, y = (
        cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, scale=1 / (8 * steepest))
        for order in ((1, 0), (0, 1))
    )
    return x, y


def sobel(image: np.ndarray, sigma: float) -> np.ndarray:
    """The root of the gradient's magnitude, from 0 to 1; arguments as of :func:`gradients`.

    Weak edges matter most: the square root spreads them over more thresholds.
    """
    return np.sqrt(np.clip(np.hypot(*gradients(image, sigma)).max(2), 0, 1))


def canny(image: np.ndarray, sigma: float) -> np.ndarray:
    """The highest of the upper thresholds k / 100 at which a pixel is an edge, plus half a step.

    The thresholds are of the root of the magnitude, as in :func:`sobel`; half a step more, so that
    rounding to 16 bit keeps a value above its threshold.
    """
    scale = 16000  # OpenCV computes in whole numbers, and its squares must fit 31 bits
    x, y = (np.rint(np.clip(d, -1.5, 1.5) * scale).astype(np.int16) for d in gradients(image, sigma))
    found = np.zeros(image.shape[:2])
    for k in range(1, 100):
        upper = scale * (k / 100) ** 2
        edges = cv2.Canny(x, y, LOWER * upper, upper, L2gradient=True)
        if not edges.any():
            break
        found[edges > 0] = (k + 0.5) / 100
    return found


OPERATORS = {'sobel': sobel, 'canny': canny}


def main() -> None:
    args = parse_args()
    if args.sigma <= 0:
        sys.exit(f'operator_boundaries: --sigma {args.sigma} must be positive')
    if not args.images.is_dir():
        sys.exit(f'operator_boundaries: {args.images} is no folder')
    if is_nonempty(args.out_dir):
        sys.exit(
            f'operator_boundaries: {args.out_dir} holds something already; choose another --out-dir'
        )
    paths = list_files(args.images, SUFFIXES)
    if not paths:
        sys.exit(f'operator_boundaries: {args.images} holds no image ({", ".join(SUFFIXES)})')
    targets = {
        path: (args.out_dir / path.relative_to(args.images)).with_suffix('.png') for path in paths
    }
    if len(set(targets.values())) < len(paths):
        sys.exit(f'operator_boundaries: {args.images} holds images that differ in suffix only')
    for path, target in track_iter_progress(list(targets.items())):
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            sys.exit(f'\noperator_boundaries: {error}')
        target.parent.mkdir(parents=True, exist_ok=True)
        write_boundary_map(target, OPERATORS[args.operator](image, args.sigma))
    print(f'\nWritten: {args.out_dir}')


if __name__ == '__main__':
    main()
