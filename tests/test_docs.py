"""The code that the docs print runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

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


def test_links_and_pictures_exist():
    for page in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for target in re.findall(r'\]\(([^)#]+)[^)]*\)', page.read_text()):
            if not target.startswith('http'):
                assert (page.parent / target).exists(), f'{page.name}: {target}'
