"""Deep Layer Aggregation and Dilated Residual Networks for OpenMMLab.

Importing this package registers its classes, so that ``type='DLA'`` works in the configs of mmseg,
mmpretrain and mmdet; ``type='mmdla.DLA'`` works without the import. :func:`register_all_modules` also
adds the networks to mmpretrain's ``get_model`` and ``list_models``.
"""

from importlib.util import find_spec

__version__ = '0.1.0'

for _library in ('mmengine', 'mmcv'):
    if find_spec(_library) is None:
        raise ImportError(
            f"mmdla needs {_library}, which is not installed: pip install 'mmdla[onedl]', or the "
            'OpenMMLab libraries of your choice (docs/install.md)'
        )

from . import engine, models  # noqa: E402, F401
from .checkpoints import extend_mmengine  # noqa: E402
from .registry import register_all_modules  # noqa: E402, F401

extend_mmengine()
