"""Timing of networks that are to be compared: in one process, with interleaved runs."""

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
    """A forward and a backward pass; the loss is the mean square of each output tensor."""

    def run() -> None:
        model.train()
        _mean_square(model(x)).backward()
        model.zero_grad()  # gradients would take memory from the other models

    return run


def _mean_square(out: Tensor | Sequence) -> Tensor:
    if isinstance(out, Tensor):
        return out.square().mean()
    losses = [_mean_square(part) for part in out]
    return sum(losses[1:], losses[0])


def time_interleaved(runs: Sequence[Callable[[], object]], rounds: Iterable[int]) -> list[list[float]]:
    """Time functions with interleaved calls, so that other load on the machine affects all alike.

    Each function is called once to warm up. A round then calls each once, in the given order if the
    round's number is even, in reverse if it is odd.

    Args:
        runs (Sequence[Callable]): The functions to time.
        rounds (Iterable[int]): Numbers of the rounds, e.g. ``range(9)``.

    Returns:
        list[list[float]]: Seconds of each function, by round.
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
    """Median and quartiles of ``times / reference`` over the rounds: (median, lower, upper)."""
    ratios = sorted(a / b for a, b in zip(times, reference))
    quarter = len(ratios) // 4
    return statistics.median(ratios), ratios[quarter], ratios[-1 - quarter]
