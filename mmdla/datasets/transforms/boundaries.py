"""Loads boundary annotations as labels, and transforms labels without breaking thin lines.

A label is 0 for background, 1 for boundary (or 1 to 100, the percentage of annotators) and 255 for
ignored pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import Resize
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS

from ...io.boundary_files import read_annotations, read_grey_annotations
from ...io.images import read_image
from ...registry import TRANSFORMS
from ...utils.mask_boundaries import mask_boundaries
from .reflect import ReflectRotate

IGNORED = 255
LABELS = ('union', 'consensus', 'soft', 'grey', 'random')


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class LoadBoundaryAnnotations(BaseTransform):
    r"""Make a label from the boundaries of all annotators; it replaces ``LoadAnnotations``.

    If :math:`n` of :math:`A` annotators marked a pixel and :math:`m` are required:

    .. math::
        y_\text{union} = [n \ge 1], \quad y_\text{consensus} = [n \ge m], \quad
        y_\text{soft} = \operatorname{round}(100\, n / A)

    With :math:`g` the grey level of a label from 0 to 1, or :math:`n / A`, and thresholds :math:`t`:

    .. math::
        y_\text{grey} = 1 \text{ if } g > t_1, \quad
        255 \text{ (ignored) if } t_1 \ge g > t_0, \quad 0 \text{ else}

    ``'random'`` is what one annotator marked, drawn anew each time.

    Args:
        label (str): ``'union'``, as in the released code, ``'consensus'``, ``'soft'``, ``'grey'`` or
            ``'random'``. Default: ``'union'``.
        min_annotators (int): The number :math:`m`, for ``'consensus'``, and for ``'soft'`` with
            ``ignore_fewer``. Default: 3.
        ignore_fewer (bool): Whether pixels that some annotators marked, but fewer than
            ``min_annotators``, are 255; for ``'consensus'`` and ``'soft'``. Default: False.
        boundary_above (float): The threshold :math:`t_1` of ``'grey'``. Default: 0.3, as in AFA-DLA.
        ignore_above (float): The threshold :math:`t_0` of ``'grey'``; equal to ``boundary_above`` to
            ignore nothing. Default: 0.
        deviation (bool): Whether ``'soft'`` sets ``gt_edge_map``, too, which ``PackSegInputs`` packs:
            the annotators' standard deviation in percent, :math:`100 \sqrt{p (1 - p)}` of their mean
            :math:`p = n / A`. Default: False.

    Raises:
        ValueError: If an argument is impossible, or if an image has no annotation, one of another size,
            or fewer annotators than ``min_annotators``.

    Source: released ``boundary.py`` (``label > 0``); for ``'grey'``, Xie and Tu, "Holistically-Nested
    Edge Detection", ICCV 2015, and the released code of AFA-DLA.
    """

    def __init__(
        self,
        label: str = 'union',
        min_annotators: int = 3,
        ignore_fewer: bool = False,
        boundary_above: float = 0.3,
        ignore_above: float = 0.0,
        deviation: bool = False,
    ):
        if label not in LABELS:
            raise ValueError(f'label={label!r} must be one of {", ".join(LABELS)}')
        if not isinstance(min_annotators, int) or min_annotators < 1:
            raise ValueError(f'min_annotators={min_annotators!r} must be 1 or more')
        if ignore_fewer and label not in ('consensus', 'soft'):
            raise ValueError("ignore_fewer=True needs label='consensus' or 'soft'")
        if not 0 <= ignore_above <= boundary_above < 1:
            raise ValueError(
                f'ignore_above={ignore_above!r} and boundary_above={boundary_above!r} must be from 0 '
                'to 1 and in this order'
            )
        if deviation and label != 'soft':
            raise ValueError("deviation=True needs label='soft', the mean that it belongs to")
        self.label = label
        self.min_annotators = min_annotators
        self.ignore_fewer = ignore_fewer
        self.boundary_above = boundary_above
        self.ignore_above = ignore_above
        self.deviation = deviation

    def transform(self, results: dict) -> dict:
        """Set ``gt_seg_map``, uint8 of shape (H, W), and name it in ``seg_fields``."""
        path = results.get('seg_map_path')
        if path is None:
            raise ValueError(f'{results.get("img_path")} has no annotation (no seg_map_path) to load')
        marked = read_grey_annotations(path) if self.label == 'grey' else read_annotations(path)
        image = results.get('img')
        if image is not None and image.shape[:2] != marked.shape[1:]:
            raise ValueError(
                f'{path} is of size {marked.shape[1:]}, but its image {results.get("img_path")} of '
                f'size {image.shape[:2]}: must be the same; load the annotation before the image is '
                'resized'
            )
        results['gt_seg_map'] = self._label(marked, path)
        results['seg_fields'].append('gt_seg_map')
        if self.deviation:
            mean = marked.mean(0)
            results['gt_edge_map'] = np.rint(100 * np.sqrt(mean * (1 - mean))).astype(np.uint8)
            results['seg_fields'].append('gt_edge_map')
        return results

    def _label(self, marked: np.ndarray, path: str) -> np.ndarray:
        annotators = len(marked)
        if self.label == 'random':
            return marked[np.random.randint(annotators)].astype(np.uint8)  # noqa: NPY002  as mmseg's
        if self.label == 'grey':
            grey = marked.mean(0)
            label = (grey > self.boundary_above).astype(np.uint8)
            label[(grey > self.ignore_above) & (grey <= self.boundary_above)] = IGNORED
            return label
        count = marked.sum(0)
        if self.label == 'union':
            return (count > 0).astype(np.uint8)
        if annotators < self.min_annotators and (self.label == 'consensus' or self.ignore_fewer):
            raise ValueError(
                f'{path} has {annotators} annotators, but min_annotators={self.min_annotators}: it '
                'would have no boundary; use a smaller number'
            )
        if self.label == 'consensus':
            label = (count >= self.min_annotators).astype(np.uint8)
        else:
            label = np.rint(count * (100 / annotators)).astype(np.uint8)
        if self.ignore_fewer:
            label[(count > 0) & (count < self.min_annotators)] = IGNORED
        return label

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(label={self.label!r}, min_annotators={self.min_annotators}, '
            f'ignore_fewer={self.ignore_fewer}, boundary_above={self.boundary_above}, '
            f'ignore_above={self.ignore_above}, deviation={self.deviation})'
        )


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class SegMapToBoundaries(BaseTransform):
    """Make the boundaries of a segmentation the label: 1 on them, 0 off them, 255 where it was.

    It comes after ``LoadAnnotations``, so that any data set of mmseg trains a boundary detector; see
    :func:`mmdla.utils.mask_boundaries.mask_boundaries`. What moves thin lines comes after it
    (:class:`ThinReflectRotate`, :class:`ThinResize`). mmseg's ``GenerateEdge`` adds an edge map beside
    the label, whose lines are a pixel wider than its ``edge_width``.

    Args:
        width (int): Width of the boundaries in pixels. Default: 2.
        instance_suffix (tuple[str, str], optional): The end of the path of the label map, and that of
            a map of instance numbers in its place, as ``('_labelTrainIds.png', '_instanceIds.png')``
            for Cityscapes: boundaries between instances count, too. Default: None.
        ignore_index (int): The label that is ignored. Default: 255.

    Raises:
        ValueError: If the width is no number of pixels; in a sample, if there is no label map, or the
            map of instances has another size or name.
    """

    def __init__(
        self,
        width: int = 2,
        instance_suffix: tuple[str, str] | None = None,
        ignore_index: int = IGNORED,
    ):
        mask_boundaries(np.zeros((1, 1)), width)
        self.width = width
        self.instance_suffix = instance_suffix
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Replace ``gt_seg_map`` by its boundaries, uint8 of shape (H, W)."""
        labels = results.get('gt_seg_map')
        if labels is None:
            raise ValueError(f'{results.get("img_path")} has no label map yet: load annotations before')
        ignored = labels == self.ignore_index
        boundaries = mask_boundaries(labels, self.width, ignored)
        if self.instance_suffix is not None:
            instances = self._instances(results, labels.shape, *self.instance_suffix)
            boundaries |= mask_boundaries(instances, self.width, ignored)
        label = boundaries.astype(np.uint8)
        label[ignored] = IGNORED
        results['gt_seg_map'] = label
        return results

    @staticmethod
    def _instances(results: dict, size: tuple[int, int], old: str, new: str) -> np.ndarray:
        path = str(results['seg_map_path'])
        if not path.endswith(old):
            raise ValueError(f'{path} does not end in {old!r}, the first of instance_suffix')
        path = path[: -len(old)] + new
        instances = read_image(path, cv2.IMREAD_UNCHANGED)
        if instances.shape != size:
            raise ValueError(
                f'{path} is of shape {instances.shape}, the label map of {size}: must be the same, and '
                'SegMapToBoundaries come before the image is resized'
            )
        return instances

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(width={self.width}, instance_suffix={self.instance_suffix}, '
            f'ignore_index={self.ignore_index})'
        )


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class ThinReflectRotate(ReflectRotate):
    """``ReflectRotate`` for lines one pixel wide: it draws the rotated labels as thin lines again.

    Nearest-neighbour rotation would break such a line into tens of pieces. See :func:`move_lines`.

    Args:
        degree (float | tuple[float, float]): Angles are drawn from +-degree, or from the range.
        prob (float): Probability. Default: 1.
        seg_pad_val (int): Label of what comes in. Default: 255.

    Raises:
        ValueError: If labels are other than 0 to 100 and 255.
    """

    def _rotate_labels(self, labels: np.ndarray, degree: float) -> np.ndarray:
        height, width = labels.shape
        # as mmcv rotates the image: clockwise about the centre of the middle pixel
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degree, 1)
        return move_lines(labels, matrix, (height, width), self.seg_pad_val)


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class ThinResize(Resize):
    """mmseg's ``Resize`` for lines one pixel wide: it draws the resized labels as thin lines again.

    Nearest-neighbour scaling would make such a line thicker or break it. See :func:`move_lines`. For a
    random size: ``dict(type='RandomResize', resize_type='mmdla.ThinResize', ...)``.

    Args:
        **kwargs: Of :class:`mmseg.datasets.transforms.Resize`.

    Raises:
        ValueError: If labels are other than 0 to 100 and 255.
    """

    def _resize_seg(self, results: dict) -> None:
        size = results['img'].shape[:2]
        for key in results.get('seg_fields', []):
            down, right = (new / old for new, old in zip(size, results[key].shape))
            # pixel centres lie at halves, as for cv2.resize
            matrix = np.array([[right, 0, (right - 1) / 2], [0, down, (down - 1) / 2]])
            results[key] = move_lines(results[key], matrix, size, 0)


@TRANSFORMS.register_module()
@MMSEG_TRANSFORMS.register_module()
class QuarterTurn(BaseTransform):
    """Rotate image and labels counter-clockwise by multiples of 90 degrees, for test-time augmentation.

    ``img_shape``, ``pad_shape``, ``ori_shape`` and ``scale_factor`` change accordingly, since mmseg
    resizes predictions to ``ori_shape`` and undoes flips before the rotation is undone. So this
    transform must come before ``RandomFlip``.

    Args:
        turns (int): Number of quarter turns, 0 to 3. The results have it as ``quarter_turns``, which
            ``PackSegInputs`` packs if it is among its ``meta_keys``.

    Raises:
        ValueError: If ``turns`` is another number, or if the image is flipped already.
    """

    def __init__(self, turns: int):
        if turns not in (0, 1, 2, 3):
            raise ValueError(f'turns={turns!r} must be 0, 1, 2 or 3 quarters')
        self.turns = turns

    def transform(self, results: dict) -> dict:
        """Turn ``img`` and the maps in ``seg_fields``; sets ``quarter_turns``."""
        if results.get('flip'):
            raise ValueError(
                'QuarterTurn must come before RandomFlip: predictions are flipped back first'
            )
        for key in ('img', *results.get('seg_fields', [])):
            results[key] = np.ascontiguousarray(np.rot90(results[key], self.turns))
        if self.turns % 2:
            for key in ('ori_shape', 'pad_shape', 'scale_factor'):
                if results.get(key) is not None:
                    results[key] = tuple(results[key][1::-1])
        results['img_shape'] = results['img'].shape[:2]
        results['quarter_turns'] = self.turns
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(turns={self.turns})'


def move_lines(
    label: np.ndarray, matrix: np.ndarray, size: tuple[int, int], outside: int
) -> np.ndarray:
    """Apply an affine map to a label of thin lines, and draw the result with thin lines again.

    Marked pixels are points, and lines join neighbouring points. Points and lines are mapped exactly
    and then rounded to pixels. So connected pixels stay connected, and lines stay one pixel wide at any
    scale. A line n pixels wide becomes about (n - 1) s + 1 pixels wide; it has no holes up to s = 3.
    Each level of a soft label (the pixels of this value or more) is drawn separately, higher levels
    over lower ones. Thin ignored pixels are drawn below all levels, and below these ignored areas
    (three pixels wide and more), which are mapped as areas.

    Args:
        label (np.ndarray): 0, 1 to 100, or 255 for ignored, uint8 of shape (h, w).
        matrix (np.ndarray): Maps (x, y, 1) to (x, y), shape (2, 3); pixel centres have integer
            coordinates.
        size (tuple[int, int]): Height and width of the result.
        outside (int): Label of pixels that come from outside the image.

    Returns:
        np.ndarray: uint8 of shape ``size``. It is exact if the map takes pixels to pixels (quarter
        turns, identity).

    Raises:
        ValueError: If the label has other values.
    """
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    wrong = values[(values > 100) & (values != IGNORED)]
    if len(wrong):
        raise ValueError(f'labels of boundaries must be 0 to 100, or 255 for ignored, but are {wrong}')

    def warp(image: np.ndarray, border: int) -> np.ndarray:
        return cv2.warpAffine(
            image,
            matrix,
            size[::-1],
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border,
        )

    linear = np.abs(matrix[:, :2])
    if np.allclose(linear, np.rint(linear)) and (linear.sum(0).round() == 1).all():
        return warp(label, int(outside))

    ignored = label == IGNORED
    areas = cv2.morphologyEx(ignored.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    reached = warp(np.ones_like(areas), 0)
    moved = np.where(reached, np.uint8(0), np.uint8(outside))
    moved[warp(areas, 0) > 0] = IGNORED

    positive = np.where(ignored, np.uint8(0), label)
    thin = ignored & (areas == 0)
    if thin.any():
        # together with the positive pixels, so that lines of both stay connected
        moved[_draw_lines(thin | (positive > 0), matrix, size)] = IGNORED
    for value in values[(values > 0) & (values <= 100)]:
        moved[_draw_lines(positive >= value, matrix, size)] = value
    return moved


def _draw_lines(marked: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Map marked pixels and the lines between them, and draw them: booleans of shape ``size``."""
    linear, shift = matrix[:, :2], matrix[:, 2] + 0.5  # rounds halves up everywhere
    points = [np.argwhere(marked)[:, ::-1] @ linear.T + shift]
    for starts, step in _neighbour_pairs(marked):
        along = linear @ step
        # No step is longer than a pixel on either axis, so that there are no gaps.
        parts = int(np.ceil(np.abs(along).max() - 1e-6))
        starts = starts @ linear.T + shift
        points += [starts + along * (i / parts) for i in range(1, parts)]
    pixels = np.floor(np.concatenate(points)).astype(np.intp)
    pixels = pixels[((pixels >= 0) & (pixels < size[::-1])).all(1)]
    drawn = np.zeros((size[0] + 2, size[1] + 2), bool)
    drawn[pixels[:, 1] + 1, pixels[:, 0] + 1] = True
    _cut_corners(drawn)
    return drawn[1:-1, 1:-1]


def _neighbour_pairs(marked: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of neighbours to join: the positions (n, 2) of the first, in x and y, and the step to the
    other.

    Diagonal neighbours are joined if nothing else joins them; in full squares of four both diagonals
    are, which fills the square.
    """
    a, b, c, d = marked[:-1, :-1], marked[:-1, 1:], marked[1:, :-1], marked[1:, 1:]
    full = a & b & c & d
    for which, start, step in (
        (marked[:, :-1] & marked[:, 1:], (0, 0), (1, 0)),
        (marked[:-1] & marked[1:], (0, 0), (0, 1)),
        ((a & d & ~(b | c)) | full, (0, 0), (1, 1)),
        ((b & c & ~(a | d)) | full, (1, 0), (-1, 1)),
    ):
        yield np.argwhere(which)[:, ::-1] + start, np.array(step)


def _cut_corners(drawn: np.ndarray) -> None:
    """Remove, in place, the pixel in the bend of a line whose neighbours touch diagonally anyway.

    Rounding makes such pixels. ``drawn`` has a border of one empty pixel.
    """
    inner = drawn[1:-1, 1:-1]
    up, down, left, right = drawn[:-2, 1:-1], drawn[2:, 1:-1], drawn[1:-1, :-2], drawn[1:-1, 2:]
    corners = {
        (y, x): drawn[1 + y : drawn.shape[0] - 1 + y, 1 + x : drawn.shape[1] - 1 + x]
        for y in (-1, 1)
        for x in (-1, 1)
    }
    # One kind of bend after the other: the views reflect earlier removals, so lines stay connected.
    for y, one, opposite in ((-1, up, down), (1, down, up)):
        for x, other, across in ((-1, left, right), (1, right, left)):
            # corners (y, -x) and (-y, x) may be marked, since the line continues there
            inner &= ~(one & other & ~(opposite | across | corners[-y, -x] | corners[y, x]))
