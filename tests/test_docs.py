"""The code that the docs print runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def test_docs_on_aggregation():
    pytest.importorskip('mmpretrain')
    text = (ROOT / 'docs/aggregation.md').read_text()
    names: dict = {}
    models = []
    for code in re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
        exec(code, names)
        models.append(names['model'])
    assert models[0]['backbone']['aggregation'] == 'ida'
    for model in models[1:]:
        model.train()
        levels = model(torch.randn(2, 3, 97, 65))
        assert levels[-1].shape == (2, 512, 4, 3)
        sum(x.mean() for x in levels).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None]
    kinds = [{type(m).__name__ for m in model.modules()} for model in models[1:]]
    assert ['AttentiveNode' in k for k in kinds] == [True, False, False]
    assert 'Separable' in kinds[1]


def test_docs_on_classification(server, tmp_path, monkeypatch, capsys):
    """Its commands for Python, with a network of random weights in the published one's place."""
    pytest.importorskip('mmpretrain')
    timm = pytest.importorskip('timm')
    from safetensors.torch import save_file

    import mmdla  # noqa: F401

    save_file(timm.create_model('dla34').state_dict(), server.folder / 'model.safetensors')
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save('cat.jpg')
    text = (ROOT / 'docs/classification.md').read_text()
    code, *_ = re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(code, names)
    # A bar may stand before it.
    assert capsys.readouterr().out.strip().endswith(tuple(names['inferencer'].classes))
    assert names['model'](torch.rand(1, 3, 64, 64), mode='tensor').shape == (1, 1000)


def test_tables_on_classification_are_the_metafiles():
    yaml = pytest.importorskip('yaml')
    index = yaml.safe_load((ROOT / 'configs/metafiles/dla_classification.yml').read_text())
    text = (ROOT / 'docs/classification.md').read_text()
    rows = {row[0]: row[1:] for row in re.findall(
        r'^\| \[(\w+)\]\(\S+\) \| ([\d.]+) M \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$', text, re.MULTILINE
    )}  # fmt: skip
    published = {m['Name']: m for m in index['Models'] if m['Weights']}
    assert rows.keys() == published.keys()
    for name, row in rows.items():
        data, metrics = published[name]['Metadata'], published[name]['Results'][0]['Metrics']
        assert row == (
            f'{data["Parameters"] / 1e6:.2f}', f'{data["FLOPs"] / 1e9:.2f}',
            f'{100 - metrics["Top 1 Accuracy"]:.2f}', f'{100 - metrics["Top 5 Accuracy"]:.2f}',
        ), name  # fmt: skip


def test_nothing_is_left_to_fill_in():
    for page in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        assert not re.findall(r'^[A-Z]{4,}$|epoch_N', page.read_text(), re.MULTILINE), page.name


def test_links_and_pictures_exist():
    for page in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for target in re.findall(r'\]\(([^)#]+)[^)]*\)', page.read_text()):
            if not target.startswith('http'):
                assert (page.parent / target).exists(), f'{page.name}: {target}'
