"""Ten-crop testing: torchvision's ten crops, and their mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmpretrain')

from conftest import ROOT
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmdla.datasets.transforms import CornerCrop


@pytest.mark.parametrize('size', [(300, 400), (301, 333)])
def test_crops_are_torchvisions(size, tmp_path):
    from torchvision.transforms.functional import ten_crop

    cfg = Config.fromfile(ROOT / 'configs/drn/drn_c_26_imagenet.py')
    init_default_scope('mmpretrain')
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'image.png')
    found = Compose(cfg.tta_pipeline)(dict(img_path=str(tmp_path / 'image.png'), gt_label=1))
    load, resize, _ = cfg.tta_pipeline
    resized = Compose([load, resize])(dict(img_path=str(tmp_path / 'image.png')))['img']
    wanted = ten_crop(torch.from_numpy(resized).permute(2, 0, 1), 224)
    assert len(found['inputs']) == 10
    for i, mirrored in enumerate((6, 5, 8, 7)):  # torchvision mirrors the image, then crops
        assert torch.equal(found['inputs'][2 * i], wanted[i])
        assert torch.equal(found['inputs'][2 * i + 1], wanted[mirrored])
    assert torch.equal(found['inputs'][8], wanted[4])
    assert torch.equal(found['inputs'][9], wanted[4].flip(-1))


def test_scores_are_averaged(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/drn/drn_d_22_imagenet.py')
    init_default_scope('mmpretrain')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (260, 280, 3), np.uint8)).save(
        tmp_path / 'image.png'
    )
    cfg.model.backbone.arch = dict(
        block='basic', depths=(1,) * 8, channels=(2,) * 8, degridding_residual=False, plain=True
    )
    cfg.model.head.in_channels = 2
    model = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
    data = Compose(cfg.tta_pipeline)(dict(img_path=str(tmp_path / 'image.png'), gt_label=1))
    batch = dict(
        inputs=[x[None] for x in data['inputs']], data_samples=[[s] for s in data['data_samples']]
    )
    with torch.no_grad():
        (merged,) = model.test_step(batch)
        single = model.module.data_preprocessor(
            dict(inputs=torch.stack(data['inputs']), data_samples=data['data_samples'])
        )
        scores = [s.pred_score for s in model.module.predict(single['inputs'])]
    torch.testing.assert_close(merged.pred_score, torch.stack(scores).mean(0))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(crop_size=0, corner='centre'), 'crop_size=0'),
        (dict(crop_size=(2, 2, 2), corner='centre'), r'crop_size=\(2, 2, 2\)'),
        (dict(crop_size=2, corner='center'), "corner='center': must be one of top_left"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CornerCrop(**kwargs)


def test_small_images_are_refused():
    with pytest.raises(
        ValueError, match=r'crop_size=\(224, 224\): must not exceed the image of 200x300'
    ):
        CornerCrop(224, 'top_left')(dict(img=np.zeros((200, 300, 3), np.uint8)))
