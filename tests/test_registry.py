"""How the classes are found: with and without `import mmdla`, with libraries missing or broken."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')
import mmpretrain.registry
import mmseg.registry
from mmengine import registry as root
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.utils import get_installed_path

import mmdla
from mmdla import registry

ROOT = Path(__file__).resolve().parents[1]
NAMES = [
    (library, attribute, name, module)
    for library, registries in registry.EXTENSIONS.items()
    for attribute, modules in registries.items()
    for module, names in modules.items()
    for name in names
]


def python(code: str, cwd: Path | None = None, *args: str, **env: str) -> str:
    """Run code in a fresh interpreter, away from the repository; its output."""
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code), *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# -- the table ------------------------------------------------------------------------------------


def decorated() -> dict[tuple[str, str], tuple[str, set[str]]]:
    """Registries that the sources' decorators name, by registry and name: module, and whose."""
    found = {}
    for path in (ROOT / 'mmdla').rglob('*.py'):
        tree = ast.parse(path.read_text())
        whose = {}  # MODELS of which library, by its name in the module
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or '').endswith('registry'):
                owner = 'mmdla' if node.level else node.module.split('.')[0]
                whose |= {a.asname or a.name: (owner, a.name) for a in node.names}
        for node in tree.body:
            for decorator in getattr(node, 'decorator_list', ()):
                call = getattr(decorator, 'func', None)
                if isinstance(call, ast.Attribute) and call.attr == 'register_module':
                    owner, attribute = whose[call.value.id]
                    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
                    found.setdefault((attribute, node.name), (module, set()))[1].add(owner)
    return found


def test_the_table_and_the_decorators_agree():
    """Whatever extends a library is registered there and in mmdla's own registry, and is in the table."""
    extending = {}
    for (attribute, name), (module, owners) in decorated().items():
        if owners != {'mmengine'}:
            (library,) = owners - {'mmdla'} or {None}
            assert 'mmdla' in owners, name
            extending[library, attribute, name] = module
    for library, attribute, name, module in NAMES:
        where = extending.pop((library, attribute, name))
        assert where == module or where.startswith(f'{module}.'), name
    users = {name for table in registry.USERS.values() for m in table['MODELS'].values() for name in m}
    # What needs mmengine alone is in its registries, or in mmdla's.
    left = {key: module for key, module in extending.items() if key[2] not in users}
    assert all(library is None for library, *_ in left), left


# -- plain names ----------------------------------------------------------------------------------

STEPS = """
import importlib, sys, warnings
from pathlib import Path

import numpy as np
from PIL import Image

first, *others = sys.argv[1].split(',')
importlib.import_module(first)
if first == 'mmdla':
    assert not {'mmseg', 'mmpretrain'} & sys.modules.keys()
for other in others:
    importlib.import_module(other)

from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

def build(library, attribute, **cfg):
    registry = getattr(importlib.import_module(f'{library}.registry'), attribute)
    assert registry.get(cfg['type']).__name__ == cfg['type']
    with DefaultScope.overwrite_default_scope(library):
        return registry.build(cfg)

def kind(built):
    assert type(built).__module__.startswith('mmdla.'), built
    return type(built).__name__

# what stands in a config of mmseg, with parts of its own
loss = dict(type='BoundaryCrossEntropyLoss')
head = dict(type='IDAUpHead', in_channels=[64, 64, 128, 256], num_classes=3, loss_decode=loss)
model = dict(type='EncoderDecoder', backbone=dict(type='DLA', arch='46_c'), decode_head=head)
tta = build('mmseg', 'MODELS', type='LogProbTTAModel', module=model)
assert kind(tta) == 'LogProbTTAModel'
assert kind(tta.module.decode_head) == 'IDAUpHead'
assert kind(tta.module.decode_head.loss_decode) == 'BoundaryCrossEntropyLoss'
assert kind(build('mmseg', 'VISUALIZERS', type='SegStripVisualizer', name='strip')) == 'SegStripVisualizer'
from mmdla.visualization.strip import SegStripVisualizer
strip = build('mmseg', 'VISUALIZERS', type='SegStripVisualizer', name='strip')
assert strip is SegStripVisualizer.get_instance('strip'), 'one, as all of mmengine.s visualizers'
assert kind(build('mmseg', 'METRICS', type='BoundaryMetric')) == 'BoundaryMetric'
with DefaultScope.overwrite_default_scope('mmseg'):
    assert kind(Evaluator(dict(type='BoundaryMetric')).metrics[0]) == 'BoundaryMetric'
for part, channels in (('train', (3,)), ('trainannot', ())):
    Path(part).mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8, *channels), np.uint8)).save(f'{part}/a.png')
apply = dict(type='RandomApply', prob=1.0, transforms=[dict(type='ReflectPad', size=(12, 9))])
data = dict(type='CamVidDataset', data_prefix=dict(img_path='train', seg_map_path='trainannot'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), apply])
repeated = build('mmseg', 'DATASETS', type='RepeatDataset', times=2, dataset=data)
assert kind(repeated.dataset) == 'CamVidDataset'
assert repeated[1]['gt_seg_map'].shape == (12, 9)

# and of mmpretrain
classifier = build('mmpretrain', 'MODELS', type='ImageClassifier', backbone=dict(type='DRN', arch='c_26'),
                   head=dict(type='ClassMapHead', num_classes=3, in_channels=512))
assert kind(classifier.head) == 'ClassMapHead'
assert kind(build('mmpretrain', 'METRICS', type='LocalizationMetric')) == 'LocalizationMetric'
crops = [dict(type='CornerCrop', crop_size=4, corner=c) for c in ('top_left', 'centre')]
crop = build('mmpretrain', 'TRANSFORMS', type='TestTimeAug', transforms=[crops])
assert len(crop(dict(img=np.zeros((8, 8, 3))))['img']) == 2
objects = build('mmpretrain', 'DATASETS', type='DemoObjectsDataset', data_root='objects', image_size=32,
                sizes=dict(train=8), pipeline=[])
assert kind(objects) == 'DemoObjectsDataset' and len(objects) == 8
"""


@pytest.mark.e2e
@pytest.mark.parametrize('order', ['mmdla', 'mmseg,mmpretrain,mmdla'])
def test_plain_names_in_configs_of_the_libraries(tmp_path, order):
    """In wrappers and as parts, whichever is imported first; nothing is imported before it is used."""
    python(STEPS, tmp_path, order, PYTHONPATH=str(ROOT))


@pytest.mark.parametrize(('library', 'attribute', 'name', 'module'), NAMES)
def test_every_name(library, attribute, name, module):
    plain = getattr(root, attribute).get(name)
    assert plain.__name__ == name
    cls = registry.import_extension(name, module, library)
    theirs = getattr(dict(mmseg=mmseg, mmpretrain=mmpretrain)[library].registry, attribute)
    assert cls.__name__ == name
    assert theirs.get(name) is theirs.get(f'mmdla.{name}') is cls
    assert (
        getattr(registry, attribute).get(name)
        is getattr(registry, attribute).get(f'mmdla.{name}')
        is cls
    )
    with DefaultScope.overwrite_default_scope('mmdla'):
        assert getattr(root, attribute).get(f'mmdla.{name}') is cls


@pytest.mark.e2e
def test_scoped_names_need_no_import(tmp_path):
    python(
        """
        from mmengine.registry import HOOKS, LOOPS, OPTIM_WRAPPERS, RUNNERS, init_default_scope
        from mmseg.registry import DATASETS, MODELS, TRANSFORMS, VISUALIZERS
        init_default_scope('mmseg')
        model = MODELS.build(dict(
            type='EncoderDecoder',
            backbone=dict(type='mmdla.DLA', arch='46_c'),
            decode_head=dict(type='mmdla.IDAUpHead', in_channels=[64, 64, 128, 256], num_classes=3)))
        assert type(model.decode_head).__module__ == 'mmdla.models.decode_heads.ida_up_head'
        for registry, name in ((MODELS, 'IDAUp'), (MODELS, 'LogProbTTAModel'), (MODELS, 'ResNetBasicBlock'),
                               (DATASETS, 'CamVidDataset'), (DATASETS, 'DemoStreetsDataset'),
                               (TRANSFORMS, 'ReflectRotate'), (TRANSFORMS, 'ReflectPad'),
                               (VISUALIZERS, 'SegStripVisualizer'),
                               (OPTIM_WRAPPERS, 'CPUAmpOptimWrapper'), (RUNNERS, 'Runner')):
            assert registry.get('mmdla.' + name).__name__ == name, name
        """,
        tmp_path,
    )


def test_layers_and_backbones_have_plain_names():
    names = ['DLA', 'DRN', 'IDAUp', 'HDA', 'IDA', 'AggregationNode', 'LearnedUpsample', 'DLABasicBlock']
    for theirs in (mmpretrain.registry, mmseg.registry):
        for name in names:
            assert theirs.MODELS.get(name).__module__.startswith('mmdla.models.'), name
    assert root.OPTIM_WRAPPERS.get('CPUAmpOptimWrapper').__name__ == 'CPUAmpOptimWrapper'
    with pytest.raises(AttributeError, match=r"'mmdla\.models' has no attribute 'Nothing'"):
        mmdla.models.Nothing  # noqa: B018


@pytest.mark.e2e
def test_a_user_s_own_class_keeps_its_name(tmp_path):
    python(
        """
        from mmengine.registry import MODELS
        @MODELS.register_module()
        class LinearHead:
            pass
        import mmdla
        assert MODELS.get('LinearHead') is LinearHead
        assert MODELS.get('mmdla.LinearHead').__module__.startswith('mmdla.')
        """,
        tmp_path,
    )


# -- all at once ----------------------------------------------------------------------------------


@pytest.mark.e2e
def test_register_all_modules(tmp_path):
    python(
        """
        import mmpretrain
        import mmdla
        mmpretrain.list_models()
        for _ in range(2):
            mmdla.register_all_modules()
        from mmengine.registry import DefaultScope
        assert DefaultScope.get_current_instance() is None
        names = mmpretrain.list_models('*dla*')
        assert names.count('dla34_imagenet') == 1
        assert 'dla34_cityscapes' not in names, 'not for mmpretrain to build'
        assert 'resnet50_8xb32_in1k' in mmpretrain.list_models()
        assert mmpretrain.get_model('dla46_c_imagenet').backbone.__module__ == 'mmdla.models.backbones.dla'
        import mmseg.registry, mmpretrain.registry
        assert 'IDAUpHead' in mmseg.registry.MODELS.module_dict
        assert 'ImageNetBoxes' in mmpretrain.registry.DATASETS.module_dict
        """,
        tmp_path,
    )


def test_configs_of_the_package(tmp_path):
    """As docs/install.md says, which gives the path where mmengine's `mmdla::` does not do."""
    mmdla.register_all_modules()
    text = (ROOT / 'docs/install.md').read_text()
    names = [line for line in text.splitlines() if line.startswith('_base_ = ')]
    assert len(names) == 2
    # upstream's mmengine 0.10.7 looks for an editable install where it is not
    short = (Path(get_installed_path('mmdla')) / '.mim').exists()
    for line in names if short else names[:1]:
        (tmp_path / 'mine.py').write_text(f"{line}\nmodel = dict(backbone=dict(arch='102'))\n")
        cfg = Config.fromfile(tmp_path / 'mine.py')
        assert cfg.model.backbone.arch == '102', line
        assert cfg.default_scope in ('mmseg', 'mmdet')
    if short:
        assert get_config('mmdla::_base_/default_runtime.py').default_scope == 'mmseg'


# -- libraries that are missing or broken -----------------------------------------------------------


@pytest.mark.e2e
def test_backbones_import_neither_mmseg_nor_mmpretrain(tmp_path):
    out = python(
        """
        import sys
        finders = list(sys.meta_path)
        from mmdla.models import DLA, IDAUp
        assert sys.meta_path == finders
        heavy = [m for m in ('mmseg', 'mmpretrain', 'timm', 'scipy', 'pandas') if m in sys.modules]
        assert not heavy, heavy
        print(len(sys.modules))
        """,
        tmp_path,
    )
    base = python('import sys, torch, mmengine.model, mmcv.cnn; print(len(sys.modules))', tmp_path)
    ours, theirs = int(out.split()[-1]), int(base.split()[-1])
    assert ours - theirs < 60, 'modules beyond torch, mmengine and mmcv.cnn'


HIDE = """
    import importlib.util, sys
    find_spec = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *a: None if name == {name!r} else find_spec(name, *a)
    sys.modules[{name!r}] = None
"""


def test_without_mmengine(tmp_path):
    out = python(
        textwrap.dedent(HIDE.format(name='mmengine'))
        + textwrap.dedent("""
        try:
            import mmdla
        except ImportError as error:
            print(error)
        """),
        tmp_path,
    )
    assert "mmdla needs mmengine, which is not installed: pip install 'mmdla[onedl]'" in out


@pytest.mark.e2e
def test_a_broken_library_bothers_only_who_uses_it(tmp_path):
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg/__init__.py').write_text("raise RuntimeError('compiled for another torch')")
    out = python(
        """
        import warnings
        with warnings.catch_warnings():
            warnings.filterwarnings('error', message='.*mmseg')
            import mmdla
        from mmengine.registry import MODELS
        MODELS.build(dict(type='mmdla.DLA', arch='46_c'))
        for name in ('mmdla.IDAUpHead', 'IDAUpHead'):
            try:
                MODELS.build(dict(type=name))
            except RuntimeError as error:
                print(error)
        mmdla.register_all_modules()
        import mmpretrain
        assert 'dla34_imagenet' in mmpretrain.list_models('*dla*')
        """,
        tmp_path,
        PYTHONPATH=f'{tmp_path}:{ROOT}',
    )
    assert out.count('compiled for another torch') == 3
    assert (
        "mmseg is installed, but mmdla's classes for it could not be imported (RuntimeError: comp"
        in out
    )


def test_mim_finds_configs_and_tools():
    mim = Path(mmdla.__file__).parent / '.mim'
    assert (mim / 'configs/dla34_cityscapes.py').is_file()
    assert (mim / 'tools/train.py').is_file()
    assert (Path(mmdla.__file__).parent / 'py.typed').is_file()
