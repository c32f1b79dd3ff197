"""Registries of scope ``mmdla``, and the names that they add to those of mmseg and mmpretrain.

mmengine imports this module by itself when a config says ``type='mmdla.X'``. Backbones, necks and
layers are in mmengine's root registry, where every library looks. What builds on mmseg or mmpretrain is
listed here and imported on first use, so that backbones alone need neither of the two.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from mmengine import registry as root
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

# Configs, tools and the index of models, where `mim` looks for them.
MIM = Path(__file__).parent / '.mim'

# What extends a library: by registry, the modules and the names that each registers.
EXTENSIONS = {
    'mmseg': {
        'MODELS': {
            'mmdla.models.decode_heads': [
                'IDAUpHead',
                'LinearHead',
                'BoundaryHead',
                'LinearBoundaryHead',
                'ObjectContextHead',
            ],
            'mmdla.models.losses': ['BoundaryCrossEntropyLoss', 'BalancedBoundaryLoss'],
            'mmdla.models.segmentors': [
                'LogProbTTAModel',
                'BoundaryTTAModel',
                'MultiScaleSegmentor',
            ],
        },
        'DATASETS': {
            'mmdla.datasets.boundaries': ['BSDS500Dataset', 'PASCALBoundariesDataset'],
            'mmdla.datasets.camvid': ['CamVidDataset'],
            'mmdla.datasets.demo_streets': ['DemoStreetsDataset'],
        },
        'TRANSFORMS': {
            'mmdla.datasets.transforms.boundaries': [
                'LoadBoundaryAnnotations',
                'ThinReflectRotate',
                'ThinResize',
                'QuarterTurn',
            ],
            'mmdla.datasets.transforms.reflect': ['ReflectRotate', 'ReflectPad'],
        },
        'METRICS': {
            'mmdla.evaluation.boundary.metric': ['BoundaryMetric'],
            'mmdla.evaluation.label_maps': ['LabelMapIoUMetric'],
        },
        'VISUALIZERS': {'mmdla.visualization.strip': ['SegStripVisualizer']},
    },
    'mmpretrain': {
        'MODELS': {'mmdla.models.heads': ['ClassMapHead']},
        'DATASETS': {
            'mmdla.datasets.boxes': ['ImageNetBoxes', 'CUBBoxes'],
            'mmdla.datasets.demo_objects': ['DemoObjectsDataset'],
        },
        'TRANSFORMS': {
            'mmdla.datasets.transforms.corner_crop': ['CornerCrop'],
            'mmdla.datasets.transforms.boxes': [
                'BoxResizeEdge',
                'BoxCenterCrop',
                'BoxRandomCrop',
                'BoxRandomResizedCrop',
            ],
        },
        'METRICS': {'mmdla.evaluation.localization': ['LocalizationMetric']},
    },
}
# What builds on a library but is too generally named for its configs: found as `mmdla.X` only.
USERS = {
    'mmpretrain': {
        'MODELS': {
            'mmdla.models.layers.mmpretrain_blocks': [
                'ResNetBasicBlock',
                'ResNetBottleneck',
                'ResNeXtBottleneck',
                'ConvNeXtBlock',
                'InvertedResidual',
                'RepVGGBlock',
            ],
        },
    },
}
INSTALL = {
    'mmseg': "pip install 'mmdla[onedl]' (or mmsegmentation, beside the upstream libraries)",
    'mmpretrain': "pip install 'mmdla[onedl]' (or mmpretrain, beside the upstream libraries)",
}


def extensions(attribute: str, *tables: dict) -> dict[str, tuple[str, str]]:
    """Module and library of each name that a registry imports on first use.

    Args:
        attribute (str): Name of the registry in ``mmengine.registry``, as ``'MODELS'``.
        *tables (dict): Default: ``EXTENSIONS`` and ``USERS``.
    """
    return {
        name: (module, library)
        for table in tables or (EXTENSIONS, USERS)
        for library, registries in table.items()
        for module, names in registries.get(attribute, {}).items()
        for name in names
    }


def check_library(library: str, user: str) -> None:
    """Raise ImportError, with what to install, if a library that something needs is missing."""
    if importlib.util.find_spec(library) is None:
        advice = INSTALL.get(library, f'pip install {library}')
        raise ImportError(f'{user} needs {library}, which is not installed: {advice}')


def import_extension(name: str, module: str, library: str):
    """Import what extends a library.

    Args:
        name (str): The class or function.
        module (str): Where it is defined.
        library (str): What it extends.

    Raises:
        ImportError: In one sentence, if the library is missing.
    """
    check_library(library, f'mmdla.{name}')
    return getattr(importlib.import_module(module), name)


def lazy_attributes(package: str, names: Mapping[str, tuple[str, str]]) -> Callable[[str], object]:
    """A package's ``__getattr__``, which imports a class when it is first asked for.

    Args:
        package (str): The package's ``__name__``.
        names (Mapping[str, tuple[str, str]]): Module and library by name, as from :func:`extensions`.
    """

    def __getattr__(name: str):
        if name not in names:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return import_extension(name, *names[name])

    return __getattr__


class LazyRegistry(Registry):
    """Child of one of mmengine's registries that imports an extension when it is first asked for.

    Args:
        attribute (str): Name of the parent in ``mmengine.registry``.
    """

    def __init__(self, attribute: str):
        parent = getattr(root, attribute)
        # With an empty list of locations, mmengine would look for `mmdla.utils.register_all_modules`.
        super().__init__(parent.name, parent=parent, scope='mmdla', locations=['mmdla'])
        self.extensions = extensions(attribute)

    def get(self, key: str):
        # With `default_scope='mmdla'` this registry is asked for `mmdla.X` itself.
        name = key.removeprefix('mmdla.')
        found = self.extensions.get(name)
        return super().get(name) if found is None else import_extension(name, *found)


MODELS = LazyRegistry('MODELS')
DATASETS = LazyRegistry('DATASETS')
TRANSFORMS = LazyRegistry('TRANSFORMS')
METRICS = LazyRegistry('METRICS')
HOOKS = LazyRegistry('HOOKS')
LOOPS = LazyRegistry('LOOPS')
OPTIM_WRAPPERS = LazyRegistry('OPTIM_WRAPPERS')
RUNNERS = LazyRegistry('RUNNERS')
VISUALIZERS = LazyRegistry('VISUALIZERS')


def _builder(registry: Registry, name: str, module: str, library: str) -> Callable:
    """A function that builds an extension, to be registered under its name."""

    def build(**settings):
        # Built by the registry, which knows how: visualizers are made by `get_instance`.
        return registry.build(dict(settings, type=import_extension(name, module, library)))

    build.__name__ = build.__qualname__ = name
    return build


# The plain names, for configs of mmseg and mmpretrain: these libraries look into the root registry for
# what they do not have, and have the classes themselves once the modules are imported.
for _attribute in ('MODELS', 'DATASETS', 'TRANSFORMS', 'METRICS', 'VISUALIZERS'):
    _registry = getattr(root, _attribute)
    for _name, _found in extensions(_attribute, EXTENSIONS).items():
        if _name not in _registry.module_dict:  # a user's own class of this name stays
            _registry.register_module(name=_name, module=_builder(_registry, _name, *_found))


def register_all_modules() -> None:
    """Import whatever extends a library that is installed.

    Its plain names are then classes in the registries of mmseg and mmpretrain. The networks are entered
    into mmpretrain's ``list_models``, ``get_model`` and inferencers, and mmdla into mmengine's table of
    packages, for ``_base_ = 'mmdla::_base_/default_runtime.py'``. To call it again changes nothing. The
    default scope stays as it is, since the classes belong to the libraries' scopes.

    A library that is installed but cannot be imported is left out with a warning.
    """
    MODULE2PACKAGE.setdefault('mmdla', 'mmdla')
    for library in EXTENSIONS:
        if importlib.util.find_spec(library) is None:
            continue
        try:
            for table in (EXTENSIONS, USERS):
                for modules in table.get(library, {}).values():
                    for module in modules:
                        importlib.import_module(module)
            if library == 'mmpretrain':
                _register_models()
        except Exception as error:  # one that was built for another PyTorch may raise anything
            warnings.warn(
                f'{library} is installed, but what extends it could not be imported '
                f'({type(error).__name__}: {error})',
                stacklevel=2,
            )


def _register_models() -> None:
    """Tell mmpretrain's ``get_model``, ``list_models`` and inferencers of this project's networks."""
    from mmpretrain.apis.model import ModelHub

    # The other metafiles name what mmpretrain cannot build.
    if not ModelHub.has('dla34_imagenet'):
        for index in sorted((MIM / 'configs/metafiles').glob('*_classification.yml')):
            ModelHub.register_model_index(index, config_prefix=MIM)
