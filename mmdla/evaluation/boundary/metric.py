"""Boundary detection as a metric of mmseg."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from numbers import Real
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.utils import deprecated_api_warning
from mmseg.registry import METRICS as MMSEG_METRICS

from ...registry import METRICS
from ...utils.predictions import boundary_probability
from .nms import average_crispness, crispness, edge_nms
from .scores import (
    BoundaryScores,
    count_image,
    counting_pool,
    map_hints,
    map_values,
    prepare_solver,
    threshold_values,
)
from .solvers import solver_name

WAITING = 4  # images per process that may wait


@METRICS.register_module()
@MMSEG_METRICS.register_module()
class BoundaryMetric(BaseMetric):
    """ODS, OIS, AP and R50 of the BSDS benchmark, from 0 to 1.

    At each threshold the map is binarized and thinned. Its pixels are matched exactly to the pixels of
    each annotator (:mod:`mmdla.evaluation.boundary.matching`), up to a distance that is a fraction of
    the image's diagonal. Recall counts the annotated pixels of all annotators. A predicted pixel is
    correct if it is matched to any annotator.

    ===========  ====================================================================================
    ODS          F at the one threshold that is best for the data set
    OIS          F of the counts at each image's own best threshold
    AP           area under the precision-recall curve
    R50          recall at a precision of 50 %
    threshold    that of ODS, with its ``recall`` and ``precision``; thresholds are interpolated
    AC           average crispness of the maps as predicted, with ``crispness=True``
    ===========  ====================================================================================

    Every data sample needs ``seg_logits`` (see :func:`mmdla.utils.predictions.boundary_probability`),
    ``img_path``, and ``seg_map_path``, annotations of the image's own size for
    :func:`mmdla.io.boundary_files.read_annotations`. The log warns if the values of all maps look
    empty, inverted or of another scale.

    Args:
        thresholds (int): Number n of the thresholds k / (n + 1). The benchmark has 99; fewer, such as 9
            during training, are faster but less accurate, which the log mentions. Default: 99.
        max_dist (float): Largest distance of a match, as a fraction of the diagonal. Default: 0.0075.
        thin (bool): Thin the binary maps. Default: True.
        nms (bool | dict): Apply non-maximum suppression first,
            :func:`mmdla.evaluation.boundary.nms.edge_nms`; a dict has its arguments. Default: False.
        num_workers (int): Processes that count matches. Default: 0, this process counts.
        solver (str, optional): ``'numba'``, ``'scipy'``, or None for Numba where it is installed
            (``pip install 'mmdla[scoring]'``). Both count the same; the log names the one in use.
            Default: None.
        crispness (bool): Also AC, the mean of :func:`mmdla.evaluation.boundary.nms.crispness` over
            the images whose map is not 0 everywhere. Default: False.
        **kwargs: Of :class:`mmengine.evaluator.BaseMetric`. The default prefix is ``'boundary'``.

    Raises:
        ValueError: If an argument is impossible, or a data sample lacks a field.
        ImportError: If ``solver='numba'`` and Numba is not installed.
        FileNotFoundError, BoundaryFileError: If annotations are missing or cannot be read.

    Source: the benchmark of Arbelaez et al., Contour Detection and Hierarchical Image Segmentation,
    2011.
    """

    default_prefix = 'boundary'

    @deprecated_api_warning(dict(jobs='num_workers'), 'BoundaryMetric')
    def __init__(
        self,
        thresholds: int = 99,
        max_dist: float = 0.0075,
        thin: bool = True,
        nms: bool | Mapping[str, Any] = False,
        num_workers: int = 0,
        solver: str | None = None,
        crispness: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        threshold_values(thresholds)
        if not isinstance(max_dist, Real) or not 0 < max_dist < 1:
            raise ValueError(f'max_dist={max_dist!r} must be a fraction of the diagonal, from 0 to 1')
        if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
            raise ValueError(f'num_workers={num_workers!r} must be a number of processes, 0 or more')
        if isinstance(nms, Mapping):
            edge_nms(
                np.zeros((2, 2)), **nms
            )  # which raises an error for arguments that it does not take
        self.solver: str = solver_name(solver)
        self.settings: dict[str, Any] = dict(
            thresholds=thresholds, max_dist=max_dist, thin=thin, nms=nms, solver=self.solver
        )
        self.num_workers: int = num_workers
        self.crispness: bool = crispness
        self._pool: ProcessPoolExecutor | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the matches of each image, in this process or in the others."""
        for sample in data_samples:
            path = sample.get('img_path')
            annotations = sample.get('seg_map_path')
            if path is None or annotations is None:
                raise ValueError(
                    f'a data sample lacks img_path ({path}) or seg_map_path ({annotations}): the data '
                    'set must provide both, and PackSegInputs must have them in its meta_keys'
                )
            probability = boundary_probability(sample).cpu().numpy()
            arguments = (probability, annotations, path, self.settings)
            values = map_values(probability)
            crisp = crispness(probability) if self.crispness else math.nan
            self._count(count_image, arguments, path, values, crisp)

    def _count(self, count: Callable, arguments: tuple, name: str, *others: Any) -> None:
        """Count an image, in this process or in another one, and keep the counts with its name."""
        if not self.num_workers:
            self.results.append((name, count(*arguments), *others))
            return
        if self._pool is None:
            prepare_solver(self.solver)  # here, so that not every process compiles
            self._pool = counting_pool(self.num_workers)
        self.results.append((name, self._pool.submit(count, *arguments), *others))
        # Limit the number of waiting images; this also raises errors early.
        waiting = len(self.results) - WAITING * self.num_workers
        if waiting > 0:
            self._result(waiting - 1)

    def _result(self, index: int) -> None:
        path, counts, *others = self.results[index]
        try:
            counts = counts.result() if isinstance(counts, Future) else counts
            self.results[index] = (path, counts, *others)
        except Exception:
            self._close()
            raise

    def _close(self) -> None:
        """Clear all results and stop the processes."""
        self.results.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def evaluate(self, size: int) -> dict[str, float]:
        """The metrics of a data set, once every image is counted."""
        for index in range(len(self.results)):
            self._result(index)
        results = list(self.results)
        self._close()
        self.results.extend(results)
        return super().evaluate(size)

    def compute_metrics(self, results: list[tuple[str, np.ndarray, tuple, float]]) -> dict[str, float]:
        """Compute the metrics from the counts, and warn about suspicious values."""
        counts = {path: count for path, count, *_ in results}
        if len(counts) < len(results):
            raise ValueError(f'{len(results)} results for {len(counts)} images: some occur twice')
        print_log(f'Boundaries were matched by {self.solver}.', 'current')
        if self.settings['thresholds'] != 99:
            number = self.settings['thresholds']
            print_log(f'Boundaries at {number} thresholds; the benchmark has 99.', 'current')
        scores = BoundaryScores.of(counts)
        values = {path: values for path, _, values, _ in results}
        for hint in map_hints(values, scores.thresholds[0]):
            print_log(f'Boundary maps: {hint}', 'current', logging.WARNING)
        summary = scores.summary()
        if self.crispness:
            crisp = average_crispness(crisp for *_, crisp in results)
            summary |= {} if math.isnan(crisp) else dict(AC=crisp)
        return {name: value for name, value in summary.items() if not name.startswith('OIS_')}
