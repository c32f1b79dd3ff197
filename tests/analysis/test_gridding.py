"""The measure of gridding on maps made by hand, on small networks, and the tool that draws it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmdla.analysis.gridding import (
    first_dilated,
    gridding_energy,
    image_maps,
    impulse_maps,
    largest_dilation,
    level_maps,
    mean_map,
    strongest_channel,
    white_noise_energy,
)
from mmdla.models import DLA, DRN

TOOL = 'visualization/draw_gridding.py'
WIDTHS = (8, 8, 8, 16, 32, 64, 64, 64)
ARCHS = {
    'A': dict(block='basic', depths=(1, 1, 2, 2), channels=(8, 16, 32, 64), stem=8, max_pooling=True),
    'B': dict(block='basic', depths=(1, 1, 1, 1, 2, 2, 1, 1), channels=WIDTHS),
    'C': dict(
        block='basic', depths=(1, 1, 1, 1, 2, 2, 1, 1), channels=WIDTHS, degridding_residual=False
    ),
}


def lattice(period: int, *size: int) -> Tensor:
    x = torch.zeros(size)
    x[::period, ::period] = 1
    return x


def blob(sigma: float, *size: int) -> Tensor:
    y, x = (torch.arange(s) - s / 2 for s in size)
    return torch.exp(-(y[:, None] ** 2 + x**2) / (2 * sigma**2))


@pytest.mark.parametrize('size', [(32, 32), (41, 37), (50, 33)])
def test_lattices_are_all_grid(size):
    assert gridding_energy(lattice(4, *size), 4) > 0.99
    assert gridding_energy(lattice(2, *size), 2) > 0.99
    assert gridding_energy(lattice(2, *size), 4) > 0.99, 'the period divides the dilation'
    pattern = torch.rand(4, 4).repeat(13, 13)[: size[0], : size[1]]
    assert gridding_energy(pattern, 4) > 0.99, 'whatever is repeated'
    # 15 lines but that at zero, of which 3 are multiples of 1/2.
    assert gridding_energy(lattice(4, *size), 2) == pytest.approx(3 / 15, abs=0.01)
    assert gridding_energy(lattice(5, *size), 4) < 0.5
    assert gridding_energy(lattice(4, *size) * blob(6, *size), 4) > 0.9, 'under an envelope'


def test_smooth_maps_are_none():
    assert gridding_energy(blob(4, 40, 40), 4) < 0.001
    ramp = torch.arange(40.0)[:, None] + 3 * torch.arange(33.0)
    assert gridding_energy(ramp, 4) < 0.001
    stripes = torch.cos(torch.arange(48.0) * 2 * torch.pi / 6).expand(48, 48)
    assert gridding_energy(stripes, 4) < 0.3, 'between 0 and 1/4'
    for constant in (torch.zeros(20, 20), torch.full((3, 20, 23), 0.1), torch.full((16, 16), -1e30)):
        assert gridding_energy(constant, 4) == 0


@pytest.mark.parametrize('dilation', [2, 3, 4])
def test_white_noise_is_what_the_bands_cover(dilation):
    covered = gridding_energy(torch.randn(300, 29, 34), dilation)
    assert covered == pytest.approx(white_noise_energy(dilation), rel=0.03)
    assert white_noise_energy(4) == 15 / 64


def test_parts_add_up_by_their_energy():
    grid, smooth = lattice(4, 40, 40), blob(5, 40, 40)
    alone = gridding_energy(torch.stack([grid, 0 * grid]), 4)
    assert alone == pytest.approx(gridding_energy(grid, 4))
    both = [gridding_energy(torch.stack([a * grid, smooth]), 4) for a in (0.1, 0.5, 2.0)]
    assert 0 < both[0] < both[1] < both[2] < alone


def test_scale_offset_sign_and_orientation_do_not_matter():
    x = torch.randn(5, 30, 41, dtype=torch.float64) + lattice(4, 30, 41)
    wanted = gridding_energy(x, 4)
    for y in (1e-20 * x, 1e25 * x, -x, x + 100, x.mT, x.flip(-1), x.flip(0)):
        assert gridding_energy(y, 4) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ('maps', 'dilation', 'message'),
    [
        (torch.rand(20, 20), 1, 'dilation=1: must be an integer of at least 2'),
        (torch.rand(20, 20), 4.0, 'dilation=4.0: must be an integer'),
        (torch.rand(15, 40), 4, '15 x 40 cells, must be at least 16 x 16'),
        (torch.rand(1, 1, 20, 20), 4, r'shape \(1, 1, 20, 20\), must be real, \(H, W\) or'),
        (torch.zeros(0, 20, 20), 4, 'must be real'),
        (torch.zeros(20, 20, dtype=torch.complex64), 4, 'must be real'),
        (torch.full((20, 20), torch.nan), 4, 'must be finite'),
        (torch.full((20, 20), torch.inf), 4, 'must be finite'),
    ],
)
def test_what_has_no_gridding_is_refused(maps, dilation, message):
    with pytest.raises(ValueError, match=message):
        gridding_energy(maps, dilation)


def test_maps_of_a_level():
    level = torch.stack([torch.full((2, 3), v) for v in (1.0, -5.0, 3.0)])
    assert torch.equal(mean_map(level), torch.full((2, 3), 3.0))
    assert torch.equal(strongest_channel(level), torch.full((2, 3), 5.0))


def drn(family: str, seed: int = 0, **kwargs) -> DRN:
    arch = ARCHS[family]
    torch.manual_seed(seed)
    settings = dict(out_indices=(len(arch['depths']),), dilation_scheme='paper')
    model = DRN(arch, **settings | kwargs)
    model.init_weights()
    return model.eval()


def test_which_levels_are_dilated():
    assert [first_dilated(drn(family)) for family in 'ABC'] == [3, 5, 5]
    assert first_dilated(DLA('46_c', output_stride=8)) == 4
    assert largest_dilation(drn('C')) == 4
    assert largest_dilation(torch.nn.Linear(2, 2)) == 1
    blank = torch.zeros(1, 3, 64, 64)
    for function in (impulse_maps, image_maps):
        with pytest.raises(ValueError, match='DRN: no level of it is dilated; with output_stride=8'):
            function(drn('C', output_stride=32), blank)


def test_an_impulse_stays_on_its_lattice():
    """Through convolutions with dilation 2 or 4 a cell reaches every second one."""
    model = drn('B', dilation_scheme='released')
    maps = impulse_maps(model, torch.zeros(1, 3, 320, 320), dilated=True)
    assert list(maps) == [5, 6, 7, 8]
    assert maps[5].shape == (32, 40, 40)
    for i in (5, 6, 7):
        on = maps[i][:, ::2, ::2]
        assert on.abs().sum() > 0
        assert on.abs().gt(0).sum() == maps[i].abs().gt(0).sum()
    assert maps[8][:, 1::2, 1::2].abs().sum() > 0


def test_responses_are_the_networks():
    model = drn('C')
    blank = torch.randn(1, 3, 64, 72)
    torch.testing.assert_close(image_maps(model, blank)[8], model(blank)[0][0])
    assert list(level_maps(model, blank)) == list(range(1, 9))
    raised = blank.clone()
    raised[:, :, 32, 36] += 1
    change = model(raised)[0] - model(blank)[0]
    torch.testing.assert_close(impulse_maps(model, blank)[8], change[0])


def test_levels_7_and_8_remove_grids_where_no_shortcut_carries_them():
    """Section 4: A has grids; B's shortcuts carry them past what C removes them with."""
    blank = torch.zeros(1, 3, 320, 320)
    mean = {}
    for family in ARCHS:
        runs = [impulse_maps(drn(family, seed), blank, dilated=True).values() for seed in range(3)]
        found = torch.tensor([[gridding_energy(mean_map(y), 4) for y in run] for run in runs])
        mean[family] = found.mean(0).tolist()
    assert mean['A'][-1] > 0.1
    assert mean['A'][-1] > 3 * mean['C'][-1]
    assert mean['B'][-1] > 3 * mean['C'][-1]
    assert mean['B'][2] > mean['B'][3]


@pytest.fixture
def trained(tmp_path) -> tuple[Path, Path]:
    """Config and checkpoint of a small classifier."""
    pytest.importorskip('mmpretrain')
    config, checkpoint = tmp_path / 'small.py', tmp_path / 'small.pth'
    config.write_text(
        f"""
default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[120, 115, 100], std=[60, 60, 60], to_rgb=True, num_classes=5)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdla.DRN', arch={ARCHS['C']}, out_indices=(8,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=64))
"""
    )
    state_dict = {f'backbone.{k}': v for k, v in drn('C').state_dict().items()}
    torch.save(dict(state_dict=state_dict), checkpoint)
    return config, checkpoint


def rows(text: str) -> dict[tuple[str, str], list[str]]:
    """Levels' numbers, by input and network."""
    lines = [
        [c.strip() for c in line[1:-1].split('|')] for line in text.splitlines() if line[:2] == '| '
    ]
    return {(cells[0], cells[1]): cells[2:] for cells in lines}


def test_the_tool_draws_trained_and_random_networks(run_tool, trained, tmp_path):
    picture = tmp_path / 'new/gridding.png'
    args = ('--networks', 'a_18', '--model', 'Small', *trained, '--size', 136, '--seeds', 1)
    status, said = run_tool(TOOL, '--out', picture, *args)
    assert status == 0, said
    assert picture.read_bytes().startswith(b'\x89PNG')
    found = rows(said)
    assert found['Input', 'Network'] == [f'Level {i}' for i in range(3, 9)]
    inputs = ('impulse, dilated levels', 'impulse, image', 'picture')
    assert list(found)[1:] == [(i, n) for i in inputs for n in ('DRN-A-18', 'Small')]
    small = [float(cell) for cell in found[inputs[0], 'Small'][2:]]
    # The config's first dilations are the released ones.
    maps = impulse_maps(drn('C', dilation_scheme='released'), torch.zeros(1, 3, 136, 136), dilated=True)
    wanted = [gridding_energy(mean_map(y), 4) for y in maps.values()]
    # The blank image is the mean, whatever the preprocessor.
    assert small == pytest.approx(wanted, abs=6e-4)
    assert 'grids of period 4 (white noise: 0.234), mean map of each level, image 136 x 136' in said
    status, said = run_tool(TOOL, '--out', picture, *args)
    assert status
    assert 'exists already; --force overwrites it' in said


def test_the_tool_refuses_what_it_cannot_draw(run_tool, trained, tmp_path):
    config, checkpoint = trained
    out = tmp_path / 'out.png'

    def refused(*args) -> str:
        status, said = run_tool(TOOL, '--out', *args)
        assert status
        assert not out.exists()
        return said

    assert 'must end in .svg, .png or .pdf' in refused(tmp_path / 'out.jpg')
    assert '--networks resnet18: must be of a_18,' in refused(out, '--networks', 'resnet18')
    assert 'DRN-A-18: given twice' in refused(out, '--networks', 'a_18', 'a_18')
    assert '--dilation 1: must be at least 2' in refused(out, '--dilation', 1)
    assert '--seeds 0: must be at least 1' in refused(out, '--seeds', 0)
    assert 'no.pth: there is no such file' in refused(out, '--model', 'x', config, 'no.pth')
    model = ('--model', 'x', config, checkpoint)
    assert '--image no.jpg: there is no such file' in refused(out, *model, '--image', 'no.jpg')
    assert 'cannot read this file as an image' in refused(out, *model, '--image', config)
    assert '--size 96: maps: 12 x 12 cells, must be at least 16 x 16' in refused(
        out, *model, '--size', 96
    )
    state_dict = torch.load(checkpoint, weights_only=True)['state_dict']
    del state_dict['backbone.layer8.0.conv1.weight']
    torch.save(state_dict, tmp_path / 'part.pth')
    said = refused(out, '--model', 'x', config, tmp_path / 'part.pth')
    assert 'lacks 1 of the' in said
    assert 'layer8.0.conv1.weight (missing)' in said
    flat = tmp_path / 'flat.py'
    flat.write_text(
        f"_base_ = ['{config}']\nmodel = dict(backbone=dict(output_stride=32, dilation_scheme='paper'))\n"
    )
    said = refused(out, '--model', 'x', flat, checkpoint)
    assert 'x: DRN: no level of it is dilated; with output_stride=8 they are' in said
    other = tmp_path / 'other.py'
    other.write_text(
        f"_base_ = ['{config}']\nmodel = dict(backbone=dict(_delete_=True, type='ResNet', depth=18))\n"
    )
    assert 'must be a DLA or DRN, not ResNet' in refused(out, '--model', 'x', other, checkpoint)
