"""Measures and draws the grids that dilated convolutions cause in activation maps.

A kernel with dilation d reads cells that are d apart, so the d x d interleaved lattices of a map are
computed independently. Where they differ, the map has a grid of period d. "Dilated Residual Networks",
https://arxiv.org/abs/1705.09914, Section 4, removes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.backbones.levels import LevelBackbone


def gridding_energy(maps: Tensor, dilation: int) -> float:
    r"""Share of the energy of activation maps that is a grid of the dilation's period.

    With :math:`d` the dilation, :math:`w` a Hann window and :math:`\bar x` the mean under it,

    .. math::
        g = \frac{\sum_{f \in B} P(f)}{\sum_f P(f)}, \quad
        P(f) = \sum_c |\mathcal{F}[w (x_c - \bar x_c)](f)|^2, \quad
        B = \{f : |f_i - n_i / d| \le 1 / (4 d), \; n \in \mathbb{Z}^2, n \ne 0 \bmod d\}

    where f is in cycles per cell. A pattern that repeats every d cells has its energy at the multiples
    of 1/d; if it varies from one period to the next, there is energy beside them, since the spectrum of
    its envelope appears around each multiple. The bands reach half-way to the midpoints between
    multiples. If they reached the midpoints, they would cover the plane and count all fine texture as
    grids. Noise and fine texture have as much energy in the bands as the area of the bands. Grids of a
    period that divides d count too, such as period 2, which dilation 2 causes, for d = 4.

    - 1 is a grid of period d with any pattern within the period;
    - :func:`white_noise_energy`, 0.234 for d = 4, is white noise;
    - 0 is a smooth map without details finer than 4/3 d cells and, by definition, a constant map.

    The window suppresses effects of the map's border, where zero padding causes a step, and of sizes
    that are not multiples of d. It blurs frequencies by 2 / size, so that grids reach 1 if the sides
    have 8 d cells or more. Channels are weighted by their energy.

    Args:
        maps (Tensor): (H, W), or (C, H, W) for the energy of all channels; real, H and W at least 4 d.
            Scale and offset do not matter.
        dilation (int): d in cells, at least 2.

    Returns:
        float: g, from 0 to 1.

    Raises:
        ValueError: If the dilation is below 2, or the maps are of another shape, too small or not
            finite.
    """
    _check_dilation(dilation)
    if maps.ndim not in (2, 3) or maps.is_complex() or not maps.numel():
        raise ValueError(
            f'maps: of {maps.dtype} and shape {tuple(maps.shape)}, must be real, (H, W) or (C, H, W)'
        )
    sizes = maps.shape[-2:]
    if min(sizes) < 4 * dilation:
        raise ValueError(
            f'maps: {sizes[0]} x {sizes[1]} cells, must be at least {4 * dilation} x {4 * dilation}, '
            f'four periods, with dilation={dilation}'
        )
    x = maps.detach().double()
    largest = x.abs().max()
    if not largest.isfinite():
        raise ValueError('maps: must be finite, and have infinities or NaN')
    x = x / largest.clamp(min=torch.finfo(torch.float64).tiny)
    window = torch.outer(*(_hann(size, x) for size in sizes))
    varying = window * (x - (window * x).sum((-2, -1), keepdim=True) / window.sum())
    # What is left of a constant is rounding.
    varying = varying * (varying.abs().amax((-2, -1), keepdim=True) > 1e-12)
    # Twice the size and more, so that bins are finer than the window; a multiple of 4 d, so that the
    # bands' edges are on bins.
    bins = [4 * dilation * -(-size // (2 * dilation)) for size in sizes]
    power = torch.fft.fft2(varying, s=bins).abs().square().reshape(-1, *bins).sum(0)
    total = power.sum()
    if not total:
        return 0.0
    every, zero = zip(*(_bands(n, dilation, power) for n in bins))
    return float((power * (torch.outer(*every) - torch.outer(*zero))).sum() / total)


def white_noise_energy(dilation: int) -> float:
    r"""Value of :func:`gridding_energy` for white noise, :math:`(d^2 - 1) / (4 d^2)`: the bands' area.

    Args:
        dilation (int): d, at least 2.

    Raises:
        ValueError: If it is below 2.
    """
    _check_dilation(dilation)
    return (dilation**2 - 1) / (4 * dilation**2)


def _check_dilation(dilation: int) -> None:
    if type(dilation) is not int or dilation < 2:
        raise ValueError(
            f'dilation={dilation!r}: must be an integer of at least 2; without dilation there is no '
            'grid'
        )


def _hann(size: int, like: Tensor) -> Tensor:
    """A Hann window that is zero one cell outside the map."""
    return torch.hann_window(size + 2, periodic=False, dtype=like.dtype, device=like.device)[1:-1]


def _bands(bins: int, dilation: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Part of each bin, along one axis, in the bands about all multiples of 1/d, and about 0 alone."""
    # In bins, as integers: a band's edge halves a bin.
    f = torch.arange(bins, device=like.device)
    half, period = bins // (4 * dilation), bins // dilation
    every = torch.minimum(f % period, -f % period)
    zero = torch.minimum(f, bins - f)

    def share(distance: Tensor) -> Tensor:
        return ((distance < half).to(like) + (distance <= half).to(like)) / 2

    return share(every), share(zero)


def mean_map(level: Tensor) -> Tensor:
    """Mean magnitude over the channels, (C, H, W) to (H, W)."""
    return level.abs().mean(0)


def strongest_channel(level: Tensor) -> Tensor:
    """The channel with the largest mean magnitude, as the paper's figures show: (C, H, W) to (H, W)."""
    level = level.abs()
    return level[level.mean((1, 2)).argmax()]


MAPS = dict(mean=mean_map, strongest=strongest_channel)


def largest_dilation(module: nn.Module) -> int:
    """The largest dilation of its convolutions; 1 if it has none."""
    dilations = (getattr(m, 'dilation', 1) for m in module.modules())
    # Only convolutions and poolings have one: a number, or one for each axis.
    return max((max(d) if isinstance(d, tuple) else d for d in dilations), default=1)


def first_dilated(backbone: LevelBackbone) -> int:
    """Number of the first level with a dilated convolution.

    Raises:
        ValueError: If there is none, or nothing before it.
    """
    numbers = [i for i, level in backbone.levels() if largest_dilation(level) > 1]
    if not numbers:
        raise ValueError(
            f'{type(backbone).__name__}: no level of it is dilated; with output_stride=8 they are'
        )
    if numbers[0] == backbone.numbers[0]:
        raise ValueError(f'{type(backbone).__name__}: its first level is dilated already')
    return numbers[0]


@torch.no_grad()
def level_maps(backbone: LevelBackbone, x: Tensor, start: int | None = None) -> dict[int, Tensor]:
    """Outputs of the levels.

    Args:
        backbone (LevelBackbone): DLA or DRN, in evaluation mode.
        x (Tensor): Images, (N, in_channels, H, W), or the input of level ``start``.
        start (int, optional): Level to begin with. Default: the stem.

    Returns:
        dict[int, Tensor]: By the level's number, (N, C, H, W).
    """
    maps = {}
    if start is None:
        x = backbone.stem(x)
    for i, level in backbone.levels():
        if start is None or i >= start:
            maps[i] = x = level(x)
    return maps


def impulse_maps(backbone: LevelBackbone, blank: Tensor, dilated: bool = False) -> dict[int, Tensor]:
    """Change of each level's activations in response to an impulse.

    The impulse adds 1 to all channels of the pixel in the middle. With ``dilated`` it adds 1 to a cell
    of the input of the first dilated level, which shows the effect of dilation alone: an impulse in the
    image is several cells wide at that level, and so reaches all lattices.

    Args:
        backbone (LevelBackbone): DLA or DRN, in evaluation mode.
        blank (Tensor): The image without it, (1, in_channels, H, W), as the network takes it.
        dilated (bool): Apply it to the input of the first dilated level. Default: False.

    Returns:
        dict[int, Tensor]: By the level's number, (C, H, W), signed, from the first dilated level on.

    Raises:
        ValueError: If no level is dilated.
    """
    start = first_dilated(backbone)
    if dilated:
        with torch.no_grad():
            blank = backbone.stem(blank)
            for i, level in backbone.levels():
                if i < start:
                    blank = level(blank)
    raised = blank.clone()
    raised[..., blank.shape[-2] // 2, blank.shape[-1] // 2] += 1
    maps = level_maps(backbone, torch.cat([blank, raised]), start if dilated else None)
    return {i: y[1] - y[0] for i, y in maps.items() if i >= start}


def image_maps(backbone: LevelBackbone, image: Tensor) -> dict[int, Tensor]:
    """The activations from the first dilated level on.

    Args:
        backbone (LevelBackbone): DLA or DRN, in evaluation mode.
        image (Tensor): (1, in_channels, H, W), as the network takes it.

    Returns:
        dict[int, Tensor]: By the level's number, (C, H, W).

    Raises:
        ValueError: If no level is dilated.
    """
    start = first_dilated(backbone)
    return {i: y[0] for i, y in level_maps(backbone, image).items() if i >= start}


def draw(
    maps: Mapping[str, Mapping[str, Tensor]],
    captions: Mapping[str, Mapping[str, str]],
    lines: Mapping[str, Sequence[float]],
    line_title: str,
    path: Path,
    title: str = '',
) -> None:
    """Draw maps side by side, and below them the gridding energy of each level.

    Args:
        maps (Mapping): Of each row, by its name, and in it of each network, by its name: (H, W), not
            negative. Drawn from black, 0, to its own largest value, by square roots.
        captions (Mapping): The text below each, in the same order.
        lines (Mapping): Of each network, gridding energies from the first dilated level on.
        line_title (str): Title of their plot.
        path (Path): Picture to write; an existing file is overwritten.
        title (str): Title of the picture. Default: ``''``, no title.
    """
    from matplotlib.figure import Figure

    columns = list(next(iter(maps.values())))
    figure = Figure(figsize=(2.3 * len(columns) + 0.6, 2.6 * len(maps) + 2.6), layout='constrained')
    grid = figure.add_gridspec(len(maps) + 1, len(columns), height_ratios=[*[1] * len(maps), 0.85])
    for r, (row, cells) in enumerate(maps.items()):
        for c, name in enumerate(columns):
            axis = figure.add_subplot(grid[r, c])
            picture = cells[name].double().cpu().sqrt()
            axis.imshow(picture, cmap='magma', vmin=0, vmax=float(picture.max()) or 1)
            axis.set(xticks=[], yticks=[], xlabel=captions[row][name])
            if r == 0:
                axis.set_title(name)
            if c == 0:
                axis.set_ylabel(row)
    axis = figure.add_subplot(grid[-1, :])
    for marker, (name, values) in zip('osD^vP*X' * len(lines), lines.items()):
        axis.plot(range(1, len(values) + 1), values, f'{marker}-', label=name)
    longest = max(map(len, lines.values()))
    axis.set(xticks=range(1, longest + 1), ylim=(0, None), ylabel='gridding', title=line_title)
    axis.set_xlabel('level, counted from the first dilated one')
    axis.grid(alpha=0.3)
    axis.legend(fontsize='small')
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
