"""Registries of scope ``mmdla``, and how its parts reach those of the libraries they extend.

mmengine imports this module by itself when a config says ``type='mmdla.X'``. Backbones and necks live
in mmengine's root registry, where every library looks; what extends mmseg is imported on first use
only, so that nobody needs mmseg, or waits for it, who uses the backbones alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings

from mmengine import registry as root
from mmengine.registry import Registry

# What extends a library: module, and the names it registers, by registry.
EXTENSIONS = {
    'mmseg': {
        'MODELS': {
            'mmdla.models.decode_heads': ['IDAUpHead'],
            'mmdla.models.segmentors': ['LogProbTTAModel'],
        },
        'DATASETS': {'mmdla.datasets': ['CamVidDataset', 'DemoStreetsDataset']},
        'TRANSFORMS': {'mmdla.datasets.transforms': ['ReflectRotate', 'ReflectPad']},
        'VISUALIZERS': {'mmdla.visualization.strip': ['SegStripVisualizer']},
    },
}
# What builds on a library without being for its configs: found as `mmdla.X` only.
USERS = {
    'mmpretrain': {
        'MODELS': {
            'mmdla.models.blocks': [
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
    if importlib.util.find_spec(library) is None:
        raise ImportError(f'mmdla.{name} needs {library}, which is not installed: {INSTALL[library]}')
    return importlib.import_module(module)


def _child(attribute: str) -> Registry:
    parent = getattr(root, attribute)
    registry = LazyRegistry(parent.name, parent=parent, scope='mmdla', locations=['mmdla'])
    registry.attribute = attribute
    return registry


MODELS = _child('MODELS')
DATASETS = _child('DATASETS')
TRANSFORMS = _child('TRANSFORMS')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS')
VISUALIZERS = _child('VISUALIZERS')


def extend_libraries() -> None:
    """Make ``type='IDAUpHead'`` and the like work in the configs of the libraries extended.

    Each module is added to the places that the library's own registry imports on its first use.
    A library that is not installed is passed over; one that is and does not import is named in a
    warning, since ``import mmdla`` must go on for whoever needs the backbones only.
    """
    for library, registries in EXTENSIONS.items():
        if importlib.util.find_spec(library) is None:
            continue
        try:
            theirs = importlib.import_module(f'{library}.registry')
        except Exception as error:
            warnings.warn(
                f'{library} is installed but does not import ({type(error).__name__}: {error}); what '
                f'mmdla adds to it is not registered',
                stacklevel=3,
            )
            continue
        for attribute, modules in registries.items():
            registry = getattr(theirs, attribute)
            for module in modules:
                # mmengine has no public way to add a place; this is what it does with `locations`.
                if registry._imported:
                    importlib.import_module(module)
                elif module not in registry._locations:
                    registry._locations.append(module)
