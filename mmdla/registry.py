"""Registries of scope ``mmdla``, and the classes that this project adds to mmseg and mmpretrain.

mmengine imports this module when a config has ``type='mmdla.X'``. Backbones, necks and layers are in
mmengine's root registry, which every library searches. Classes that build on mmseg or mmpretrain are
listed here and imported on first use, so that the backbones need neither library.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine import registry as root
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

# The folder where `mim` looks for configs, tools and the index of models.
MIM = Path(__file__).parent / '.mim'

# Classes that extend a library: by library and registry, each module and the names that it registers.
EXTENSIONS = {
    'mmseg': {
        'MODELS': {
            'mmdla.models.decode_heads': [
                'IDAUpHead',
                'LinearHead',
                'BoundaryHead',
                'LinearBoundaryHead',
                'ObjectContextHead',
                'SideOutputHead',
            ],
            'mmdla.models.losses': [
                'BoundaryCrossEntropyLoss',
                'BalancedBoundaryLoss',
                'OneHotBCELoss',
                'RegionMutualInformationLoss',
            ],
            'mmdla.models.segmentors': [
                'LogProbTTAModel',
                'BoundaryTTAModel',
                'MultiScaleSegmentor',
            ],
        },
        'DATASETS': {
            'mmdla.datasets.boundaries': [
                'BSDS500Dataset',
                'PASCALBoundariesDataset',
                'BoundaryPairsDataset',
            ],
            'mmdla.datasets.camvid': ['CamVidDataset'],
            'mmdla.datasets.class_uniform': ['ClassUniformDataset'],
            'mmdla.datasets.demo_streets': ['DemoStreetsDataset'],
        },
        'TRANSFORMS': {
            'mmdla.datasets.transforms.boundaries': [
                'LoadBoundaryAnnotations',
                'SegMapToBoundaries',
                'ThinReflectRotate',
                'ThinResize',
                'QuarterTurn',
            ],
            'mmdla.datasets.transforms.centroid_crop': ['CentroidCrop'],
            'mmdla.datasets.transforms.reflect': ['ReflectRotate', 'ReflectPad'],
        },
        'METRICS': {
            'mmdla.evaluation.boundary.metric': ['BoundaryMetric'],
            'mmdla.evaluation.boundary.semantic': ['SemanticBoundaryMetric'],
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
# Classes that build on a library and whose names are too general for its configs: only `mmdla.X` works.
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
    """Raise an ImportError that says what to install if a library is missing.

    Args:
        library (str): The library.
        user (str): What needs it, for the message.
    """
    if importlib.util.find_spec(library) is None:
        advice = INSTALL.get(library, f'pip install {library}')
        raise ImportError(f'{user} needs {library}, which is not installed: {advice}')


def import_extension(name: str, module: str, library: str) -> Any:
    """Import a class that extends a library.

    Args:
        name (str): The class or function.
        module (str): The module that defines it.
        library (str): The library that it extends.

    Raises:
        ImportError: If the library is missing; the message says what to install.
    """
    check_library(library, f'mmdla.{name}')
    return getattr(importlib.import_module(module), name)


def lazy_attributes(package: str, names: Mapping[str, tuple[str, str]]) -> Callable[[str], object]:
    """A ``__getattr__`` for a package, which imports a class on first use.

    Args:
        package (str): The package's ``__name__``.
        names (Mapping[str, tuple[str, str]]): Module and library by name, as from :func:`extensions`.
    """

    def __getattr__(name: str) -> object:
        if name not in names:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return import_extension(name, *names[name])

    return __getattr__


class LazyRegistry(Registry):
    """Child of one of mmengine's registries; imports an extension on first use.

    Args:
        attribute (str): Name of the parent in ``mmengine.registry``.
    """

    def __init__(self, attribute: str):
        parent = getattr(root, attribute)
        # With an empty list of locations, mmengine would look for `mmdla.utils.register_all_modules`.
        super().__init__(parent.name, parent=parent, scope='mmdla', locations=['mmdla'])
        self.extensions = extensions(attribute)

    def get(self, key: str) -> Any:
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

    def build(**settings: Any) -> Any:
        # The registry builds it, since it knows how: visualizers come from `get_instance`.
        return registry.build(dict(settings, type=import_extension(name, module, library)))

    build.__name__ = build.__qualname__ = name
    return build


# The plain names, for configs of mmseg and mmpretrain. These libraries fall back to the root registry;
# once the modules are imported, the classes are in their own registries.
for _attribute in ('MODELS', 'DATASETS', 'TRANSFORMS', 'METRICS', 'VISUALIZERS'):
    _registry = getattr(root, _attribute)
    for _name, _found in extensions(_attribute, EXTENSIONS).items():
        if _name not in _registry.module_dict:  # a user's own class of this name stays
            _registry.register_module(name=_name, module=_builder(_registry, _name, *_found))


def register_all_modules() -> None:
    """Import all classes that extend an installed library.

    This registers them under their plain names in mmseg and mmpretrain, and adds the networks to
    mmpretrain's ``list_models``, ``get_model`` and inferencers. It also adds mmdla to mmengine's table
    of packages, so that ``_base_ = 'mmdla::_base_/default_runtime.py'`` works. Further calls change
    nothing. The default scope does not change, since the classes belong to the libraries' scopes.

    If an installed library cannot be imported, this warns and continues without it.
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
                f"{library} is installed, but mmdla's classes for it could not be imported "
                f'({type(error).__name__}: {error})',
                stacklevel=2,
            )


def _register_models() -> None:
    """Add this project's networks to mmpretrain's ``get_model``, ``list_models`` and inferencers."""
    from mmpretrain.apis.model import ModelHub

    # mmpretrain cannot build the networks of the other metafiles.
    if not ModelHub.has('dla34_imagenet'):
        for index in sorted((MIM / 'configs').rglob('metafile_classification.yml')):
            ModelHub.register_model_index(index, config_prefix=MIM)
