"""Boundary detection as a metric of mmseg."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from numbers import Real

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS as MMSEG_METRICS

from ...registry import METRICS
from ...utils.predictions import boundary_probability
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

WAITING = 4  # images a process that may wait to be counted


@METRICS.register_module()
@MMSEG_METRICS.register_module()
class BoundaryMetric(BaseMetric):
    """ODS, OIS, AP and R50 of the BSDS benchmark, from 0 to 1.

    At each threshold the map is made binary and thin, and its pixels are matched to each annotator's,
    exactly (:mod:`mmdla.evaluation.boundary.matching`), within a share of the image's diagonal. Recall
    counts annotated pixels of all annotators; a predicted pixel is right if any annotator's matching
    uses it.

    ===========  ====================================================================================
    ODS          F at the one threshold that is best for the data set
    OIS          F of the counts at each image's own best threshold
    AP           area under the precision-recall curve
    R50          recall at a precision of 50 %
    threshold    that of ODS, with its ``recall`` and ``precision``; thresholds are interpolated
    ===========  ====================================================================================

    Every data sample has ``seg_logits`` (see :func:`mmdla.utils.predictions.boundary_probability`),
    ``img_path``, and ``seg_map_path``: annotations as :func:`mmdla.io.boundary_files.read_annotations`
    reads them, of the image's own size. Where the values of all maps look empty, inverted or of another
    scale, the log warns of it.

    Args:
        thresholds (int): n for k / (n + 1). 99 is the benchmark's; fewer, as 9 while training, are
            faster and a little off, and the log says so. Default: 99.
        max_dist (float): How far a match may be, as a share of the diagonal. Default: 0.0075.
        thin (bool): Thin the binary maps. Default: True.
        nms (bool | dict): Suppress non-maxima before, with
            :func:`mmdla.evaluation.boundary.nms.edge_nms`; a dict holds its arguments. Default: False.
        num_workers (int): Processes that count, beside this one; 0 to count in this one. Default: 0.
        solver (str, optional): ``'numba'``, ``'scipy'``, or None for Numba where it is installed
            (``pip install 'mmdla[scoring]'``). Both count the same; the log names the one that is used.
            Default: None.
        **kwargs: Of :class:`mmengine.evaluator.BaseMetric`. The default prefix is ``'boundary'``.

    Raises:
        ValueError: For an argument or a data sample that is not as said here.
        ImportError: For ``solver='numba'`` without Numba.
        FileNotFoundError, BoundaryFileError: For annotations that are missing or no annotations.

    Source: the benchmark of Arbelaez et al., Contour Detection and Hierarchical Image Segmentation,
    2011.
    """

    default_prefix = 'boundary'

    def __init__(
        self,
        thresholds: int = 99,
        max_dist: float = 0.0075,
        thin: bool = True,
        nms: bool | dict = False,
        num_workers: int = 0,
        solver: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        threshold_values(thresholds)
        if not isinstance(max_dist, Real) or not 0 < max_dist < 1:
            raise ValueError(f'max_dist={max_dist!r} must be a share of the diagonal, from 0 to 1')
        if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
            raise ValueError(f'num_workers={num_workers!r} must be a number of processes, 0 or more')
        self.solver = solver_name(solver)
        self.settings = dict(
            thresholds=thresholds, max_dist=max_dist, thin=thin, nms=nms, solver=self.solver
        )
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Count each image, or have it counted."""
        for sample in data_samples:
            path = sample.get('img_path')
            annotations = sample.get('seg_map_path')
            if path is None or annotations is None:
                raise ValueError(
                    f'a data sample lacks img_path ({path}) or seg_map_path ({annotations}): the data '
                    "set must tell where an image's annotations are, and PackSegInputs pass it on"
                )
            probability = boundary_probability(sample).cpu().numpy()
            arguments = (probability, annotations, path, self.settings)
            values = map_values(probability)
            if self.num_workers:
                if self._pool is None:
                    prepare_solver(self.solver)  # here, so that not every process compiles
                    self._pool = counting_pool(self.num_workers)
                self.results.append((path, self._pool.submit(count_image, *arguments), values))
                # No more maps wait than the processes need, and what fails fails soon.
                waiting = len(self.results) - WAITING * self.num_workers
                if waiting > 0:
                    self._result(waiting - 1)
            else:
                self.results.append((path, count_image(*arguments), values))

    def _result(self, index: int) -> None:
        path, counts, values = self.results[index]
        try:
            counts = counts.result() if isinstance(counts, Future) else counts
            self.results[index] = (path, counts, values)
        except Exception:
            self._close()
            raise

    def _close(self) -> None:
        """Forget all results and stop the processes."""
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

    def compute_metrics(self, results: list[tuple[str, np.ndarray, tuple]]) -> dict[str, float]:
        """The metrics of counts, and warnings about values."""
        counts = {path: count for path, count, _ in results}
        if len(counts) < len(results):
            raise ValueError(f'{len(results)} results are of {len(counts)} images: some came twice')
        print_log(f'Boundaries were matched by {self.solver}.', 'current')
        if self.settings['thresholds'] != 99:
            number = self.settings['thresholds']
            print_log(f'Boundaries at {number} thresholds; the benchmark has 99.', 'current')
        scores = BoundaryScores.of(counts)
        for hint in map_hints({path: values for path, _, values in results}, scores.thresholds[0]):
            print_log(f'Boundary maps: {hint}', 'current', logging.WARNING)
        summary = scores.summary()
        return {name: value for name, value in summary.items() if not name.startswith('OIS_')}
