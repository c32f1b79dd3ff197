"""Boundaries by Sobel's operator, a baseline: `sobel_boundaries.py IMAGES --out-dir DIR`.

The magnitude of the gradient of the smoothed image, of the channel of Lab where it is largest, on one
scale for all images; written as NAME.png of 16 bit, for eval_boundaries.py --nms, in the same folders
below DIR as the images below IMAGES.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.datasets.folders import is_nonempty
from mmdla.io.boundary_files import write_boundary_map
from mmdla.io.files import list_files
from mmdla.io.images import read_image

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder to write to, new or empty')
    parser.add_argument('--sigma', type=float, default=2.0, help='of the Gaussian, in pixels (2)')
    return parser.parse_args()


def sobel(image: np.ndarray, sigma: float) -> np.ndarray:
    """The gradient's magnitude, of values from 0 to 1.

    Args:
        image (np.ndarray): BGR, of shape (H, W, 3), 0 to 255.
        sigma (float): Of the Gaussian that smooths it, in pixels.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    smooth = cv2.GaussianBlur(lab, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    # From black to white, across an edge that only the Gaussian blurs: the most there can be.
    steepest = 100 / (sigma * np.sqrt(2 * np.pi))
    return np.clip(np.hypot(x, y).max(2) / steepest, 0, 1)


def main() -> None:
    args = parse_args()
    if args.sigma <= 0:
        sys.exit(f'sobel_boundaries: --sigma {args.sigma} must be positive')
    if not args.images.is_dir():
        sys.exit(f'sobel_boundaries: {args.images} is no folder')
    if is_nonempty(args.out_dir):
        sys.exit(f'sobel_boundaries: {args.out_dir} holds something already; choose another --out-dir')
    paths = list_files(args.images, SUFFIXES)
    if not paths:
        sys.exit(f'sobel_boundaries: {args.images} holds no image ({", ".join(SUFFIXES)})')
    targets = {
        path: (args.out_dir / path.relative_to(args.images)).with_suffix('.png') for path in paths
    }
    if len(set(targets.values())) < len(paths):
        sys.exit(f'sobel_boundaries: {args.images} holds images that differ in suffix only')
    for path, target in track_iter_progress(list(targets.items())):
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            sys.exit(f'\nsobel_boundaries: {error}')
        target.parent.mkdir(parents=True, exist_ok=True)
        # weak edges matter most: the square root spreads them over more thresholds
        write_boundary_map(target, np.sqrt(sobel(image, args.sigma)))
    print(f'\nWritten: {args.out_dir}')


if __name__ == '__main__':
    main()
