"""The pages: their code runs, their links lead somewhere, the site shows all of them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
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
    assert ['GatedNode' in k for k in kinds] == [True, False, False]
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
    index = yaml.safe_load((ROOT / 'configs/metafile_classification.yml').read_text())
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


def test_every_tool_is_in_the_table():
    text = (ROOT / 'tools/README.md').read_text()
    tools = [p.relative_to(ROOT / 'tools').as_posix() for p in (ROOT / 'tools').rglob('*.py')]
    assert set(re.findall(r'\]\(([\w/]+\.py)\)', text)) == set(tools)


def pages() -> list[Path]:
    """All pages in Markdown: the site's, and those of the repository."""
    found = [*ROOT.glob('*.md'), *ROOT.glob('.github/*.md')]
    for folder in ('docs', 'configs', 'tools'):
        found += ROOT.glob(f'{folder}/**/*.md')
    return sorted(found)


def without_code(text: str) -> str:
    return re.sub(r'^```.*?^```|`[^`\n]*`', '', text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What `#...` can name: the headings, written as web pages of the repository and the site write them."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


by_page = pytest.mark.parametrize('page', pages(), ids=lambda page: str(page.relative_to(ROOT)))


@by_page
def test_nothing_is_left_to_fill_in(page):
    assert not re.findall(r'^[A-Z]{4,}$|epoch_N', page.read_text(), re.MULTILINE)


@by_page
def test_links_and_pictures_exist(page):
    for target, anchor in re.findall(
        r'\]\(([^)#\s]*)#?([^)\s]*)[^)]*\)', without_code(page.read_text())
    ):
        if re.match(r'\w+:', target):
            continue
        other = page.parent / target if target else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), f'{target}#{anchor}'


@by_page
def test_python_of_pages_compiles(page):
    for code in re.findall(r'^```python\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL):
        compile(code, str(page), 'exec')


def entries(index: Path) -> list[str]:
    """The pages that the tables of contents of a page name."""
    tables = re.findall(r'^```{toctree}\n(.*?)^```', index.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for table in tables for line in table.splitlines() if line and line[0] != ':']
    return [re.sub(r'^.*<(.+)>$', r'\1', line) + '.md' for line in lines]


@pytest.mark.parametrize('folder', ['', 'api'])
def test_every_page_is_in_the_navigation(folder):
    docs = ROOT / 'docs' / folder
    listed = [name for name in entries(docs / 'index.md') if '/' not in name]
    there = {path.name for path in docs.glob('*.md')} - {'index.md', 'README.md'}
    assert len(listed) == len(set(listed))
    assert set(listed) == there
    linked = (docs / ('index.md' if folder else 'README.md')).read_text()
    assert not [name for name in there if f']({name})' not in linked], 'its index does not name it'


def test_api_reference_has_every_public_name():
    pytest.importorskip('mmseg')
    pytest.importorskip('mmpretrain')
    import mmdla.apis
    import mmdla.datasets
    import mmdla.deploy
    import mmdla.engine
    import mmdla.models.layers
    from mmdla.registry import extensions

    text = '\n'.join(page.read_text() for page in (ROOT / 'docs/api').glob('*.md'))
    names = re.findall(r'^\.\. auto\w+:: (\S+)$', text, re.MULTILINE)
    documented = [pkgutil.resolve_name(name) for name in names]
    assert len(names) == len(set(names))
    assert not [name for name, thing in zip(names, documented) if not inspect.getdoc(thing)]

    packages = (
        mmdla.models,
        mmdla.models.layers,
        mmdla.datasets,
        mmdla.apis,
        mmdla.deploy,
        mmdla.engine,
    )
    public = [getattr(package, name) for package in packages for name in package.__all__]
    public = [thing for thing in public if callable(thing)]  # and not the tables of names
    for attribute in ('MODELS', 'DATASETS', 'TRANSFORMS', 'METRICS', 'VISUALIZERS'):
        public += [
            getattr(importlib.import_module(module), name)
            for name, (module, _) in extensions(attribute).items()
        ]
    assert not [thing for thing in public if thing not in documented]
