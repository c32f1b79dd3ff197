"""SqueezeNet: torchvision's, and the sums of simple bypass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmdla.models import SqueezeNet

ROOT = Path(__file__).resolve().parents[2]
models = pytest.importorskip('torchvision.models')


def like(network: torch.nn.Module, **kwargs) -> SqueezeNet:
    """Ours, with torchvision's weights as they are, in evaluation mode."""
    ours = SqueezeNet(**kwargs).eval()
    ours.load_state_dict(network.state_dict())
    return ours


def scores(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """torchvision's map of scores, from its own layers."""
    return network.classifier[2](network.classifier[1](network.features(x)))


@pytest.mark.parametrize('version', ['1_0', '1_1'])
@pytest.mark.parametrize('size', [(224, 224), (97, 131)])
def test_is_torchvisions(version, size):
    theirs = getattr(models, f'squeezenet{version}')(num_classes=7).eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        (out,) = like(theirs, version=version, num_classes=7)(x)
        assert torch.equal(out, scores(theirs, x))
        torch.testing.assert_close(out.mean((2, 3)), theirs(x))


def test_bypass_is_the_sum_over_every_second_fire_module():
    theirs = models.squeezenet1_0().eval()
    x = torch.randn(2, 3, 96, 96)
    conv, relu, pool1, fire2, fire3, fire4, pool4, fire5, fire6, fire7, fire8, pool8, fire9 = (
        theirs.features
    )
    with torch.no_grad():
        f2 = fire2(pool1(relu(conv(x))))
        f4 = pool4(fire4(f2 + fire3(f2)))
        f6 = fire6(f4 + fire5(f4))
        f8 = pool8(fire8(f6 + fire7(f6)))
        wanted = theirs.classifier[1](f8 + fire9(f8)).relu()
        (out,) = like(theirs, bypass=True)(x)
    torch.testing.assert_close(out, wanted)
    assert not torch.allclose(out, scores(theirs, x))


@pytest.mark.parametrize(
    ('version', 'bypass', 'parameters'),
    [('1_0', False, 1_248_424), ('1_0', True, 1_248_424), ('1_1', True, 1_235_496)],
)
def test_trains(version, bypass, parameters):
    model = SqueezeNet(version, bypass).train()
    assert sum(p.numel() for p in model.parameters()) == parameters
    (out,) = model(torch.randn(2, 3, 65, 64))
    out.mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_version_is_checked():
    with pytest.raises(ValueError, match=r"version='1\.0': must be one of 1_0, 1_1"):
        SqueezeNet('1.0')


@pytest.mark.parametrize('name', ['squeezenet', 'squeezenet-bypass'])
def test_classifier_has_torchvisions_logits(name):
    pytest.importorskip('mmpretrain')
    cfg = Config.fromfile(ROOT / f'configs/comparators/{name}_imagenet.py').model
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    model.eval()  # mmpretrain's networks return nothing from it
    theirs = models.squeezenet1_0().eval()
    model.backbone.load_state_dict(theirs.state_dict())
    assert model.backbone.bypassed == (set() if name == 'squeezenet' else {4, 7, 9, 12})
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        wanted = model.backbone(x)[0].mean((2, 3)) if model.backbone.bypassed else theirs(x)
        torch.testing.assert_close(model(x), wanted)
