"""Testing with thresholds that are chosen on validation data."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS
from mmengine.runner import Runner, TestLoop
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader


@LOOPS.register_module()
class ValThenTestLoop(TestLoop):
    """Test loop that first evaluates the validation data, where it chooses localization thresholds.

    Use it with ``test_cfg = dict(type='mmdla.ValThenTestLoop')``. Each :class:`LocalizationMetric` of
    ``test_evaluator`` needs one with the same prefix and rule in ``val_evaluator``, both without a
    ``threshold``. Hooks run for the test data only.

    Args:
        **kwargs: Of :class:`mmengine.runner.TestLoop`.

    Raises:
        ValueError: If the config has no validation data, or the metrics do not match.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        **kwargs: Any,
    ):
        self.val_loop = runner.val_loop
        if self.val_loop is None:
            raise ValueError(
                'ValThenTestLoop needs val_cfg, val_dataloader and val_evaluator, to choose the '
                'thresholds of LocalizationMetric; the config has none'
            )
        super().__init__(runner, dataloader, evaluator, **kwargs)
        self.pairs = self._pair(self.val_loop.evaluator, self.evaluator)

    @staticmethod
    def _pair(val: Evaluator, test: Evaluator) -> list[tuple]:
        """Pairs of localization metrics, of validation and of testing."""
        from ..evaluation.localization import LocalizationMetric

        found = []
        for name, evaluator in (('val_evaluator', val), ('test_evaluator', test)):
            metrics = [m for m in evaluator.metrics if isinstance(m, LocalizationMetric)]
            if not metrics:
                kinds = [type(m).__name__ for m in evaluator.metrics]
                raise ValueError(f'ValThenTestLoop: {name} needs a LocalizationMetric; it has {kinds}')
            for metric in metrics:
                if metric.given:
                    raise ValueError(
                        f'ValThenTestLoop: threshold={metric.given} of {name} must be left out, it is '
                        'chosen on the validation data'
                    )
            found.append({m.prefix: m for m in metrics})
        settings = [{p: (m.rule, m.iou_thrs) for p, m in metrics.items()} for metrics in found]
        if settings[0] != settings[1]:
            raise ValueError(
                'ValThenTestLoop: the LocalizationMetrics of val_evaluator and test_evaluator must '
                f'have the same prefixes, rules and iou_thrs; they have {settings[0]} and {settings[1]}'
            )
        return [(found[0][prefix], metric) for prefix, metric in found[1].items()]

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Test a batch; before the first one, choose the thresholds."""
        if idx == 0:
            # Not in `run`, since averaged weights and evaluation mode are set after it has begun.
            self.choose_thresholds()
        super().run_iter(idx, data_batch)

    @torch.no_grad()
    def choose_thresholds(self) -> None:
        """Evaluate the validation data, and set the best thresholds in the test metrics."""
        evaluator, loader = self.val_loop.evaluator, self.val_loop.dataloader
        for data_batch in loader:
            with autocast(enabled=self.fp16):
                outputs = self.runner.model.val_step(data_batch)
            evaluator.process(data_samples=outputs, data_batch=data_batch)
        # The same on every rank: the evaluator broadcasts its results.
        metrics = evaluator.evaluate(len(loader.dataset))
        for val_metric, test_metric in self.pairs:
            chosen = val_metric.chosen(metrics)
            test_metric.use_thresholds(chosen)
            values = ', '.join(f'{name} {value:g}' for name, value in chosen.items())
            self.runner.logger.info(
                f'{test_metric.prefix}: chosen on {len(loader.dataset)} validation images: {values} '
                f'(gt_known {metrics[f"{val_metric.prefix}/gt_known"]:.2f} there)'
            )
