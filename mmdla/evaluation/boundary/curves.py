"""Precision-recall curves with lines of equal F."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from .scores import best_point


def draw_precision_recall(
    path: str | os.PathLike,
    curves: Mapping[str, np.ndarray],
    points: Mapping[str, tuple[float, float]] = {},
) -> None:
    """Draw curves with a dot where F is largest, and further points.

    Args:
        path (str | PathLike): Picture to write; its suffix is the format.
        curves (Mapping[str, np.ndarray]): By name, rows of threshold, recall, precision (and more).
        points (Mapping[str, tuple[float, float]]): By name, recall and precision. Default: none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5.5), layout='constrained')
    axes = figure.subplots()
    for f in np.arange(0.1, 1, 0.1):
        recall = np.linspace(f / (2 - f), 1, 200)  # from a precision of 1 on
        axes.plot(recall, f * recall / (2 * recall - f), color='0.85', linewidth=0.8, zorder=0)
        axes.annotate(f'{f:.1f}', (1, f / (2 - f)), (3, 0), textcoords='offset points', color='0.6',
                      fontsize=8, va='center', annotation_clip=False)  # fmt: skip
    for name, curve in curves.items():
        thresholds, recall, precision = curve[:, :3].T
        _, r, p, f = best_point(thresholds, recall, precision)
        # Without predictions there is no precision.
        drawn = (recall > 0) | (precision > 0)
        (line,) = axes.plot(
            recall[drawn], precision[drawn], label=f'{_plain(name)}, F = {f:.3f}', linewidth=1.8
        )
        axes.plot(r, p, 'o', color=line.get_color(), markersize=6)
    for name, (r, p) in points.items():
        axes.plot(r, p, 'D', markersize=6, label=f'{_plain(name)}, F = {2 * r * p / (r + p):.3f}')
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel='recall', ylabel='precision', aspect='equal')
    axes.legend(loc='lower left', framealpha=0.9)
    figure.savefig(path, dpi=120)


def _plain(name: str) -> str:
    """A name that matplotlib does not read as a formula."""
    return name.replace('$', r'\$')
