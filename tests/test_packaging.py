"""What is there without the libraries, and what is in the distributions that are built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Run with sets of libraries to hide, each in a process of its own that is forked once the slow imports
# are done; `.ci/matrix imports` runs it where they are truly absent.
WITHOUT = """
import importlib, os, pkgutil, sys, warnings
from importlib.util import find_spec

import mmcv.cnn, mmengine.runner, torch


def refusal(get):
    try:
        return get() and ''
    except ImportError as error:
        return str(error)


def check_without(hidden):
    for name in hidden:
        sys.modules[name] = None  # as Python marks what is not to be imported
    missing = {name for name in ('mmseg', 'mmpretrain') if find_spec(name) is None}
    assert missing >= set(hidden)

    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*(mmseg|mmpretrain)')
        import mmdla
    from mmdla import apis, datasets, models, registry
    from mmdla.datasets import transforms
    from mmengine.registry import MODELS

    sys.modules['torchvision'] = None
    found = refusal(lambda: models.SqueezeNet())
    assert found == 'mmdla.SqueezeNet needs torchvision, which is not installed: pip install torchvision', found
    del sys.modules['torchvision']
    for cfg in (dict(type='mmdla.DLA', arch='46_c'), dict(type='mmdla.DRN', arch='c_26'),
                dict(type='mmdla.SqueezeNet'), dict(type='DLA', arch='46_c', output_stride=8)):
        sum(level.mean() for level in MODELS.build(cfg)(torch.randn(2, 3, 64, 64))).backward()
    neck = MODELS.build(dict(type='mmdla.IDAUp', in_channels=[4, 8], strides=[4, 8], out_channels=4))
    assert neck([torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)])

    def check(library, name, get):
        found = refusal(get)
        if library in missing:
            assert found.startswith(f"mmdla.{name} needs {library}, which is not installed: pip install "), found
            assert len(found.splitlines()) == 1, found
        else:
            assert not found, found

    from mmengine import registry as root

    for attribute, where in dict(MODELS=models, DATASETS=datasets, TRANSFORMS=transforms, METRICS=None,
                                 VISUALIZERS=None).items():
        for name, (module, library) in registry.extensions(attribute).items():
            check(library, name, lambda: getattr(registry, attribute).get(f'mmdla.{name}'))
            plain = getattr(root, attribute).module_dict.get(name)
            if where is not None:
                check(library, name, lambda: getattr(where, name))
            if library in missing and plain is not None:  # found, and says so when it is built
                check(library, name, lambda: getattr(root, attribute).build(dict(type=name)))
    for name in apis.__all__:
        check('mmseg', name, lambda: getattr(apis, name))
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*(mmseg|mmpretrain)')
        mmdla.register_all_modules()

    # Nothing else needs either of them to be imported.
    for module in pkgutil.walk_packages(mmdla.__path__, 'mmdla.', onerror=lambda name: None):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name.partition('.')[0] in missing, f'{module.name}: {error}'


for hidden in sys.argv[1:]:
    child = os.fork()
    if not child:
        check_without(hidden.split(','))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f'without {hidden}: see above')
"""


@pytest.mark.e2e
def test_without_libraries(tmp_path):
    """Networks work without mmseg, mmpretrain, both; all the rest says in one sentence what it needs."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', WITHOUT, 'mmseg', 'mmpretrain', 'mmseg,mmpretrain'],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


BUILD = """
import sys
from setuptools import build_meta

folder = sys.argv[1]  # which setuptools changes
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A folder with a wheel and a source distribution, built of a copy of the tree.

    The setuptools that is installed builds them, so nothing is downloaded.
    """
    pytest.importorskip('setuptools', '77')
    folder = tmp_path_factory.mktemp('built')
    tree = folder / 'tree'
    for part in ('.ci', 'configs', 'docs', 'mmdla', 'tests', 'tools'):
        ignore = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT / part, tree / part, symlinks=True, ignore=ignore)
    for path in ROOT.glob('*[!k]'):  # no uv.lock
        if path.is_file():
            shutil.copy(path, tree)
    (tree / 'tools/__pycache__').mkdir()
    (tree / 'tools/__pycache__/train.cpython-311.pyc').write_bytes(b'left behind')
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', BUILD, folder], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope='module')
def wheel(built):
    """Contents of the wheel's files."""
    with zipfile.ZipFile(*built.glob('*.whl')) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def shipped() -> dict[str, Path]:
    """Every file that a wheel has to have, by its name there."""
    files = {
        f'mmdla/.mim/{part}/{path.relative_to(ROOT / part)}': path
        for part in ('configs', 'tools')
        for path in (ROOT / part).rglob('*')
    }
    files |= {
        str(path.relative_to(ROOT)): path
        for path in (ROOT / 'mmdla').rglob('*')
        if '.mim' not in path.parts
    }
    files['mmdla/.mim/model-index.yml'] = ROOT / 'model-index.yml'
    return {n: p for n, p in files.items() if p.is_file() and '__pycache__' not in p.parts}


def test_wheel_is_whole(wheel):
    """Sources, configs, tools, the C++ of the operator and the licences, and nothing else."""
    wanted = shipped()
    assert {name.rpartition('.')[2] for name in wanted} >= {'py', 'cpp', 'yml', 'sh', 'typed'}
    for name, path in wanted.items():
        assert wheel.get(name) == path.read_bytes(), name
    others = {name.partition('/')[2] for name in wheel.keys() - wanted}
    assert others == {
        'METADATA', 'RECORD', 'WHEEL', 'top_level.txt', 'licenses/LICENSE', 'licenses/NOTICE'
    }  # fmt: skip


def test_wheel_asks_for_no_openmmlab_distribution(wheel):
    """What is installed beside a stack leaves it alone."""
    (metadata,) = (content.decode() for name, content in wheel.items() if name.endswith('/METADATA'))
    needs = [
        line
        for line in metadata.splitlines()
        if line.startswith('Requires-Dist') and 'extra' not in line
    ]
    assert needs
    assert not [line for line in needs if 'mm' in line.lower()]


def test_source_distribution_has_its_tests(built):
    """All that a wheel is made of, and all that the tests read."""
    with tarfile.open(*built.glob('*.tar.gz')) as archive:
        names = {member.name.partition('/')[2] for member in archive if not member.isdir()}
    wanted = {str(p.relative_to(ROOT)) for part in ('.ci', 'configs', 'docs', 'tests', 'tools')
              for p in (ROOT / part).rglob('*') if p.is_file() and '__pycache__' not in p.parts}  # fmt: skip
    wanted |= shipped().keys() | {'pyproject.toml', 'README.md', 'CHANGELOG.md', 'model-index.yml'}
    assert wanted <= names, wanted - names
    assert not [name for name in names if name.endswith('.pyc')]
