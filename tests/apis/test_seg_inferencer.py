"""Inference by name and by path, mmseg's way and this project's."""

from __future__ import annotations

import os
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')

from mmengine.config import Config
from mmseg.apis import MMSegInferencer

from mmdla.apis import SegInferencer
from mmdla.checkpoints import CheckpointError
from mmdla.engine.config import build_model

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs/dla34-8s_camvid.py')


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> str:
    """A checkpoint of the CamVid network, without meta information."""
    model = build_model(Config.fromfile(CONFIG))
    path = tmp_path_factory.mktemp('weights') / 'a.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)


def test_by_name_and_by_path_alike(weights, image):
    ours = SegInferencer('dla34-8s_camvid', weights, device='cpu')
    theirs = MMSegInferencer(CONFIG, weights=weights, device='cpu')
    labels = ours(image)['predictions']
    assert labels.shape == (61, 83)
    assert labels.max() < 11
    np.testing.assert_array_equal(labels, theirs(image)['predictions'])
    assert ours.model.dataset_meta['classes'][10] == 'bicyclist'


def test_pictures_are_written(weights, image, tmp_path):
    mmcv.imwrite(image, str(tmp_path / 'street.png'))
    inferencer = SegInferencer('dla34-8s_camvid', weights, device='cpu')
    inferencer(str(tmp_path / 'street.png'), out_dir=str(tmp_path / 'out'))
    assert mmcv.imread(str(tmp_path / 'out/vis/street.png')).shape == (61, 2 * 83, 3)
    (labels,) = (tmp_path / 'out/pred').glob('*.png')
    assert mmcv.imread(str(labels), 'grayscale').max() < 11


def test_images_of_one_name_keep_their_own_pictures(weights, image, tmp_path):
    for folder, shown in dict(a=image, b=255 - image).items():
        mmcv.imwrite(shown, str(tmp_path / folder / 'street.png'))
    paths = [str(tmp_path / folder / 'street.png') for folder in 'ab']
    inferencer = SegInferencer('dla34-8s_camvid', weights, device='cpu')
    both = inferencer(paths, out_dir=str(tmp_path / 'out'), return_vis=True)['visualization']
    inferencer(paths[0], out_dir=str(tmp_path / 'out'))
    found = [mmcv.imread(str(tmp_path / 'out/vis' / name)) for name in ('street.png', '2/street.png')]
    for picture, wanted in zip(found, both):
        np.testing.assert_array_equal(picture[..., ::-1], wanted)


def test_released_segmentation_network(golden, tmp_path):
    """The authors' DLASeg as it was released, into the config of its name."""
    gold = golden('dla60up_s8')
    cfg = Config.fromfile(ROOT / 'configs/dla60_cityscapes.py')
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(out_indices=(3, 4, 5)),
                decode_head=dict(in_channels=[256, 512, 1024], num_classes=gold.meta['classes']),
            )
        )
    )
    torch.save(gold.state_dict(), tmp_path / 'dla60up.pth')
    inferencer = SegInferencer(cfg, str(tmp_path / 'dla60up.pth'), device='cpu')
    with torch.no_grad():
        logits = inferencer.model(gold.input(), mode='tensor')
    gold.check('logits_before_upsampling', logits)
    assert inferencer.model.dataset_meta['classes'][0] == 'road'


def test_classes_and_colours_of_ones_own(weights):
    inferencer = SegInferencer('DLA34-8s_CamVid', weights, classes=['a'] * 11, device='cpu')
    assert inferencer.model.dataset_meta['classes'] == ['a'] * 11
    assert inferencer.model.dataset_meta['palette'][0] == [128, 128, 128], "CamVid's sky"
    inferencer = SegInferencer('dla34-8s_camvid', weights, dataset_name='ade', device='cpu')
    assert inferencer.model.dataset_meta['classes'][0] == 'wall'


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_is_wrong_is_said(weights, tmp_path):
    def wrong(weights) -> str:
        with pytest.raises(CheckpointError) as caught:
            SegInferencer('dla34-8s_camvid', str(weights), device='cpu')
        return str(caught.value)

    with pytest.raises(ValueError, match='no weights are published for this model; give a path'):
        SegInferencer('dla34_cityscapes', device='cpu')
    for name in ('dla35', 'dla34_imagenet'):
        with pytest.raises(ValueError, match=rf"model='{name}': neither a file, .* dla34_cityscapes"):
            SegInferencer(name, weights, device='cpu')
    (tmp_path / 'page.pth').write_text('<html>gone</html>')
    assert 'this is a web page' in wrong(tmp_path / 'page.pth')
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / 'other.pth')
    assert 'none of its parameters is one of the model, EncoderDecoder with DLA' in wrong(
        tmp_path / 'other.pth'
    )
    Bomb.path = tmp_path / 'exploded'
    torch.save(dict(state_dict=dict(x=torch.zeros(1)), config=Bomb()), tmp_path / 'bomb.pth')
    assert 'none of its parameters' in wrong(tmp_path / 'bomb.pth')
    assert not (tmp_path / 'exploded').exists()
