"""Times of networks that are to be compared: all in one process, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def inference(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """A forward pass in evaluation mode."""

    def run() -> object:
        model.eval()
        with torch.inference_mode():
            return model(x)

    return run


def training_step(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward, and backward from the mean square of what the model returns: a tensor, or tensors."""

    def run() -> None:
        model.train()
        _mean_square(model(x)).backward()
        model.zero_grad()  # many models take turns: each leaves its weights only

    return run


def _mean_square(out: Tensor | Sequence) -> Tensor:
    if isinstance(out, Tensor):
        return out.square().mean()
    losses = [_mean_square(part) for part in out]
    return sum(losses[1:], losses[0])


def in_turn(runs: Sequence[Callable[[], object]], rounds: Iterable[int]) -> list[list[float]]:
    """Seconds of each run in each round, after one call of each that does not count.

    What else the machine does meets all of them: a round calls each once, in the order given if its
    number is even, from last to first if it is odd.

    Args:
        runs (Sequence[Callable]): What to time.
        rounds (Iterable[int]): Numbers of the rounds, e.g. ``range(9)``.

    Returns:
        list[list[float]]: For each run its seconds, by round.
    """
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    for i in rounds:
        order = range(len(runs))
        for j in reversed(order) if i % 2 else order:
            times[j].append(timed(runs[j]))
    return times


def ratio(times: Sequence[float], reference: Sequence[float]) -> tuple[float, float, float]:
    """Median, and lowest and highest of the middle half, of the rounds' ``times / reference``."""
    ratios = sorted(a / b for a, b in zip(times, reference))
    quarter = len(ratios) // 4
    return statistics.median(ratios), ratios[quarter], ratios[-1 - quarter]
