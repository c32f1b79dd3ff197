"""Classifiers by name: mmpretrain's get_model, list_models and inferencer, and the published files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

pytest.importorskip('mmpretrain')

import yaml
from conftest import random_norms
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpretrain import ImageClassificationInferencer, get_model, list_models

import mmdla
from mmdla.analysis.complexity import count
from mmdla.engine.config import build_model
from mmdla.models import DLA

mmdla.register_all_modules()
ROOT = Path(__file__).resolve().parents[2]


def metafile(path: str) -> dict[str, dict]:
    """The models of one metafile below configs/, by name."""
    return {m['Name']: m for m in yaml.safe_load((ROOT / 'configs' / path).read_text())['Models']}


CONFIGS = [p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts]
META = metafile('metafile_classification.yml')
# Parameters in use, and GMACs at 224x224 as the reference counts them; Res2Net variants are timm's.
COUNTS = {
    '34': (15_742_104, 3.07),
    '46_c': (1_301_400, 0.58),
    '60': (22_036_632, 4.26),
    '102': (33_268_888, 7.19),
    '169': (53_389_720, 11.6),
    '46x_c': (1_068_440, 0.54),
    '60x_c': (1_319_832, 0.59),
    '60x': (17_352_344, 3.54),
    '102x': (26_309_272, 5.89),
    '102x2': (41_282_200, 9.34),
    '60_res2net': (20_848_072, 4.15),
    '60_res2next': (17_032_984, 3.49),
}


@pytest.mark.parametrize('arch', DLA.arch_settings)
def test_parameters_and_macs(arch):
    name = f'dla{arch}_imagenet'
    with torch.device('meta'):
        model = build_model(Config.fromfile(ROOT / f'configs/{name}.py'))
    model.to_empty(device='cpu')
    params, macs = count(model, torch.zeros(1, 3, 224, 224))
    wanted, gmacs = COUNTS[arch]
    assert params == wanted
    assert macs / 1e9 == pytest.approx(gmacs, abs=0.05 if gmacs > 10 else 0.006)
    assert META[name]['Metadata'] == dict(Parameters=params, FLOPs=macs)


DRN = [f'drn_{arch}_imagenet' for arch in ('a_18', 'a_50', 'c_26', 'c_58', 'd_22', 'd_105')]


@pytest.mark.parametrize('name', ['squeezenet_imagenet', 'squeezenet-bypass_imagenet', *DRN])
def test_counts_of_the_others(name):
    entry = metafile(f'{"drn" if name in DRN else "comparators"}/metafile_classification.yml')[name]
    params, macs = count(get_model(name), torch.zeros(1, 3, 224, 224))
    assert entry['Metadata'] == dict(Parameters=params, FLOPs=macs)


def test_index():
    """Every entry has a config of its name; the published ones point where DLA's own table does."""
    published = {f'dla{arch}_imagenet': url for arch, url in DLA.pretrained_urls.items()}
    for name, entry in META.items():
        assert entry['Config'] == f'configs/{name}.py'
        assert (ROOT / entry['Config']).is_file()
        assert entry['Weights'] == published.get(name)
        assert bool(entry['Results'][0]['Metrics']) == (name in published)
    assert published.keys() <= META.keys()
    assert META['dla102x2_imagenet']['Results'][0]['Metrics']['Top 1 Accuracy'] == 79.45
    assert set(list_models('*dla*')) == {*META, *metafile('small_compute/metafile_classification.yml')}


def test_every_config_is_in_its_folders_metafile_and_table():
    imported = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert {ROOT / p for p in imported} == set((ROOT / 'configs').rglob('metafile_*.yml'))
    for folder in {path.parent for path in CONFIGS}:
        configs = {path.stem for path in CONFIGS if path.parent == folder}
        entries = [
            m for f in folder.glob('metafile_*.yml') for m in yaml.safe_load(f.read_text())['Models']
        ]
        assert sorted(m['Name'] for m in entries) == sorted(configs)
        for entry in entries:
            assert ROOT / entry['Config'] == folder / f'{entry["Name"]}.py'
        table = (folder / 'README.md').read_text()
        rows = re.findall(r'^\| \[(\S+)\]\(\1\.py\) \| (.+) \| (.*) \|$', table, re.MULTILINE)
        assert sorted(row[0] for row in rows) == sorted(configs)
        for name, what, note in rows:
            first = (folder / f'{name}.py').read_text().split('\n')[0]
            assert first.lower() == f'# {what}{note and ": "}{note}'.lower()


def as_the_authors(model: torch.nn.Module, arch: str) -> dict[str, torch.Tensor]:
    """timm's state dict in the authors' form: dead projections, no counts of batches."""
    state = {k: v for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
    for name, module in DLA(arch).named_modules():
        if getattr(module, 'depth', 1) > 1:
            state[f'{name}.project.0.weight'] = torch.randn(8, 8, 1, 1)
            state[f'{name}.project.1.weight'] = torch.randn(8)
    return {f'module.{k}': v for k, v in state.items()}


LARGE = ('102', '102x', '102x2', '169')


@pytest.mark.parametrize(
    'arch', [pytest.param(a, marks=[pytest.mark.e2e] if a in LARGE else []) for a in DLA.arch_settings]
)
def test_released_files_give_the_reference_logits(arch, tmp_path):
    """Both formats of both publishers, by name and into an ImageClassifier, to float32's rounding."""
    theirs = random_norms(timm.create_model(f'dla{arch}'))
    image = torch.randn(1, 3, 96, 64)  # what timm's network takes
    with torch.no_grad():
        wanted = theirs(image)
    files = {
        'timm.safetensors': theirs.state_dict(),
        'timm.pth': theirs.state_dict(),
        'authors.pth': as_the_authors(theirs, arch),
        'authors.safetensors': as_the_authors(theirs, arch),
    }
    for name, state in files.items():
        path = tmp_path / name
        if name.endswith('safetensors'):
            save_file({k: v.contiguous() for k, v in state.items()}, path)
        else:
            torch.save(dict(state_dict=state, epoch=1), path)
        if name.startswith('timm'):
            model = get_model(f'dla{arch}_imagenet', pretrained=str(path))
        else:
            model = build_model(Config.fromfile(ROOT / f'configs/dla{arch}_imagenet.py'))
            load_checkpoint(model, str(path), strict=True)
            model.eval()
        with torch.no_grad():
            logits = model(image, mode='tensor')
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4 * wanted.std().item())


@pytest.mark.parametrize('arch', ['34', '60', '102', '46x_c', '60x_c'])
def test_golden_logits_by_name(golden, arch, tmp_path):
    gold = golden(f'dla{arch}')
    torch.save(gold.state_dict(), tmp_path / 'released.pth')
    model = get_model(f'dla{arch}_imagenet', pretrained=str(tmp_path / 'released.pth'))
    with torch.no_grad():
        logits = model(gold.input(), mode='tensor')
    gold.check('logits', logits.view(gold.meta['outputs']['logits']))


def test_published_by_name(server):
    """`pretrained=True` fetches the published file once; the inferencer names the class."""
    theirs = random_norms(timm.create_model('dla46_c'))
    save_file(theirs.state_dict(), server.folder / 'model.safetensors')
    get_model('dla46_c_imagenet', pretrained=True)
    (server.folder / 'model.safetensors').unlink()

    inferencer = ImageClassificationInferencer('dla46_c_imagenet')
    image = np.random.default_rng(0).integers(0, 255, (256, 300, 3), np.uint8)
    (result,) = inferencer(image)
    crop = torch.from_numpy(image[16:240, 38:262, ::-1].copy()).permute(2, 0, 1)[None]
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    with torch.no_grad():
        scores = theirs((crop - mean.view(3, 1, 1)) / std.view(3, 1, 1)).softmax(1)[0]
    np.testing.assert_allclose(result['pred_scores'], scores.numpy(), rtol=1e-4, atol=1e-7)
    assert result['pred_label'] == int(scores.argmax())
    assert result['pred_class'] == inferencer.classes[result['pred_label']]


def test_unpublished_weights_are_not_promised(recwarn):
    get_model('dla34_cub200', pretrained=True)
    assert any('Unable to find pre-defined checkpoint' in str(w.message) for w in recwarn)


def test_another_number_of_classes(tmp_path):
    """`load_from` of a released file into a classifier of other classes: the backbone is taken over."""
    theirs = timm.create_model('dla46_c')
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    model = get_model('dla46_c_imagenet', pretrained=str(tmp_path / 'a.pth'), head=dict(num_classes=7))
    assert torch.equal(model.backbone.base_layer[0].weight, theirs.base_layer[0].weight)
    assert model.head.fc.weight.shape == (7, 256)
