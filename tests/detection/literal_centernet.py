"""CenterNet's network written out as its authors describe it, with the names of their files."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdla.models import DLA


class Deformable(nn.Conv2d):
    """3x3 deformable convolution by torchvision, its offsets and weights found by a convolution."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 3, padding=1)
        self.conv_offset_mask = nn.Conv2d(channels, 27, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d

        found = self.conv_offset_mask(x)
        offsets, weights = found[:, :18], found[:, 18:].sigmoid()
        return deform_conv2d(x, offsets, self.weight, self.bias, padding=1, mask=weights)


class Layer(nn.Module):
    """Convolution, batch norm, ReLU: of projections and of nodes."""

    def __init__(self, channels: int, out_channels: int, deformable: bool):
        super().__init__()
        self.conv = (
            Deformable(channels, out_channels)
            if deformable
            else nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.actf = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.actf(self.conv(x))


class Step(nn.Module):
    """One IDA-up: every map but the first is projected, upsampled and added to the one before."""

    def __init__(self, widths: list[int], factors: list[int], width: int, deformable: bool):
        super().__init__()
        for j in range(1, len(widths)):
            f = factors[j]
            up = nn.ConvTranspose2d(width, width, 2 * f, f, f // 2, groups=width, bias=False)
            self.add_module(f'proj_{j}', Layer(widths[j], width, deformable))
            self.add_module(f'up_{j}', up)
            self.add_module(f'node_{j}', Layer(width, width, deformable))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        done = [maps[0]]
        for j, x in enumerate(maps[1:], 1):
            x = self.get_submodule(f'up_{j}')(self.get_submodule(f'proj_{j}')(x))
            done.append(self.get_submodule(f'node_{j}')(x + done[-1]))
        return done


class Network(nn.Module):
    """DLA-34 and its decoder at stride 4, written for four levels; image sides divide by 32.

    Weights are random everywhere: the upsampling, the running statistics and the offsets too.

    Args:
        deformable (bool): Deformable convolutions in the decoder.
        heads (dict[str, int]): Maps that each head predicts. Default: those of CenterNet on COCO.
    """

    def __init__(self, deformable: bool, heads: dict[str, int] = dict(hm=80, wh=2, reg=2)):
        super().__init__()
        self.base = DLA('34')
        self.dla_up = nn.Module()
        self.dla_up.ida_0 = Step([256, 512], [1, 2], 256, deformable)
        self.dla_up.ida_1 = Step([128, 256, 256], [1, 2, 2], 128, deformable)
        self.dla_up.ida_2 = Step([64, 128, 128, 128], [1, 2, 2, 2], 64, deformable)
        self.ida_up = Step([64, 128, 256], [1, 2, 4], 64, deformable)
        self.heads = heads
        for name, maps in heads.items():
            layers = nn.Conv2d(64, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, maps, 1)
            self.add_module(name, nn.Sequential(*layers))
        for key, value in self.state_dict().items():
            if key.endswith('running_var') or (value.dim() == 1 and key.endswith('weight')):
                nn.init.uniform_(value, 0.5, 1.5)
            elif value.dim() == 1:
                nn.init.normal_(value, std=0.1)
            elif value.dim() > 1:
                nn.init.kaiming_normal_(value)
        self.eval()
        # The sigmoid of a heatmap must not be 1 everywhere.
        for name, found in self(torch.randn(1, 3, 64, 64)).items():
            self.get_submodule(name)[2].weight.data /= found.std()

    def decode(self, levels: list[Tensor]) -> Tensor:
        """What the heads see, from levels of strides 4, 8, 16 and 32."""
        s4, s8, s16, s32 = levels
        _, s16_32 = self.dla_up.ida_0([s16, s32])
        _, a, b = self.dla_up.ida_1([s8, s16, s16_32])
        *_, c = self.dla_up.ida_2([s4, s8, a, b])
        return self.ida_up([c, b, s16_32])[-1]

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.decode(self.base(image))
        return {name: self.get_submodule(name)(x) for name in self.heads}
