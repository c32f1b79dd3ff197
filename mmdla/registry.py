"""Registries of scope ``mmdla``, and how its parts reach those of the libraries they extend.

mmengine imports this module by itself when a config says ``type='mmdla.X'``. Backbones and necks live
in mmengine's root registry, where every library looks; what extends mmseg is imported on first use
only, so that nobody needs mmseg, or waits for it, who uses the backbones alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import partial
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import ClassVar

from mmengine import registry as root
from mmengine.registry import Registry

from .utils.when_imported import when_imported

# Configs, tools and the index of models, where `mim` looks for them.
MIM = Path(__file__).parent / '.mim'

# What extends a library: module, and the names it registers, by registry.
EXTENSIONS = {
    'mmseg': {
        'MODELS': {
            'mmdla.models.decode_heads': ['IDAUpHead', 'LinearHead', 'BoundaryHead'],
            'mmdla.models.losses': ['BoundaryCrossEntropyLoss', 'BalancedBoundaryLoss'],
            'mmdla.models.segmentors': ['LogProbTTAModel', 'BoundaryTTAModel'],
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
        'METRICS': {'mmdla.evaluation.boundary': ['BoundaryMetric']},
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
# What builds on a library without being for its configs: found as `mmdla.X` only.
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


def extension(registry: str, name: str) -> tuple[str, str] | None:
    """Module and library of what is imported on first use; None for any other name."""
    for library, registries in (*EXTENSIONS.items(), *USERS.items()):
        for module, names in registries.get(registry, {}).items():
            if name in names:
                return module, library
    return None


class LazyRegistry(Registry):
    """Registry that imports an extension when one of its names is first asked for."""

    def get(self, key: str):
        name = key.rpartition('.')[2]
        found = extension(self.attribute, name)
        if found is not None:
            import_extension(*found, name)
        # With `default_scope='mmdla'` this registry is asked for its own scope.
        return super().get(key.removeprefix('mmdla.'))


def import_extension(module: str, library: str, name: str):
    """Import a module that extends a library.

    Raises:
        ImportError: In one sentence, if the library is missing.
    """
    check_library(library, f'mmdla.{name}')
    return importlib.import_module(module)


def check_library(library: str, user: str) -> None:
    """Raise ImportError, with what to install, if a library that something needs is missing."""
    if importlib.util.find_spec(library) is None:
        advice = INSTALL.get(library, f'pip install {library}')
        raise ImportError(f'{user} needs {library}, which is not installed: {advice}')


class MissingLibrary(MetaPathFinder):
    """Says in one sentence what an extension needs that is imported by its full name, and missing.

    First of the finders: it finds nothing, and lets the others go on where the library is installed.
    """

    libraries: ClassVar[dict[str, str]] = {
        'mmdla.apis.boundary_inferencer': 'mmseg',
        'mmdla.apis.seg_inferencer': 'mmseg',
    } | {
        module: library
        for library, registries in (*EXTENSIONS.items(), *USERS.items())
        for modules in registries.values()
        for module in modules
    }

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in cls.libraries:
            check_library(cls.libraries[name], name)


def _child(attribute: str) -> Registry:
    parent = getattr(root, attribute)
    registry = LazyRegistry(parent.name, parent=parent, scope='mmdla', locations=['mmdla'])
    registry.attribute = attribute
    return registry


MODELS = _child('MODELS')
DATASETS = _child('DATASETS')
TRANSFORMS = _child('TRANSFORMS')
METRICS = _child('METRICS')
HOOKS = _child('HOOKS')
LOOPS = _child('LOOPS')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS')
VISUALIZERS = _child('VISUALIZERS')


def extend_libraries() -> None:
    """Make ``type='IDAUpHead'`` and the like work in the configs of the libraries extended, and what
    cannot work without one say so.

    A library is extended when it is imported, so that nobody waits for one, or is bothered by a broken
    one, who does not use it.
    """
    for library, registries in EXTENSIONS.items():
        when_imported(f'{library}.registry', partial(_extend, library, registries))
    when_imported('mmpretrain.apis.model', _register_models)
    if MissingLibrary not in sys.meta_path:
        sys.meta_path.insert(0, MissingLibrary)


def _extend(library: str, registries: dict[str, dict[str, list[str]]]) -> None:
    """Add each module to the places that the library's own registry imports on its first use."""
    theirs = sys.modules[f'{library}.registry']
    for attribute, modules in registries.items():
        registry = getattr(theirs, attribute)
        for module in modules:
            # mmengine has no public way to add a place; this is what it does with `locations`.
            if registry._imported:
                importlib.import_module(module)
            elif module not in registry._locations:
                registry._locations.append(module)


def _register_models() -> None:
    """Tell mmpretrain's ``get_model``, ``list_models`` and inferencers of this project's networks."""
    hub = sys.modules['mmpretrain.apis.model'].ModelHub
    if not hub.has('dla34_imagenet'):
        # The other metafiles name what mmpretrain cannot build.
        for index in sorted((MIM / 'configs/metafiles').glob('*_classification.yml')):
            hub.register_model_index(index, config_prefix=MIM)
