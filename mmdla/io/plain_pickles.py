"""Unpickles plain data: tensors, numbers, text, arrays and containers of these.

Checkpoints are pickles, and a pickle names functions to call. This unpickler calls only those in a
table. It replaces any other class or function by a :class:`Placeholder`, which has its name and does
nothing.
"""

from __future__ import annotations

import argparse
import collections
import copy as copying
import copyreg
import datetime
import decimal
import fractions
import io
import pathlib
import pickle
import uuid
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch._weights_only_unpickler import _get_allowed_globals


class Placeholder(dict):
    """Stands for an object of another class, called ``name``; has its items if it is a mapping."""

    name = ''

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    # The members of enumerations are keys of dicts.
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __repr__(self) -> str:
        return f'<placeholder for {self.name}>'

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    append = extend = add = __setstate__


class ForeignClassError(pickle.UnpicklingError):
    """A pickle holds an object of a class that is not plain data, ``name``."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def _new(cls: type, *args: Any) -> Any:
    return cls.__new__(cls, *args)


def _reconstructor(cls: type, base: type, state: Any) -> Any:
    """How protocols 0 and 1 make an object."""
    return cls() if issubclass(cls, Placeholder) else copyreg._reconstructor(cls, base, state)  # type: ignore[attr-defined]


def _encode(text: str, encoding: str = 'utf-8') -> bytes:
    """Bytes, as protocol 2 writes them. Other codecs are refused, since some multiply their input."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(
            f'text encoded as {str(encoding)[:40]!r}, where only latin1 occurs'
        )
    return text.encode('latin1')


def _bytearray(text: Any = b'', encoding: str = '') -> bytearray:
    """A bytearray of given content. A length alone is refused, since it may be huge."""
    return bytearray(text if isinstance(text, bytes | bytearray) else _encode(text, encoding))


def _bytes(*args: Any) -> bytes:
    return bytes(_bytearray(*args))


def _load_from_bytes(data: bytes) -> Any:
    """A storage that was pickled by itself."""
    module = plain_pickle_module(plain_only=True)
    return torch.load(io.BytesIO(data), pickle_module=module, weights_only=False)


def _parameter(data: Tensor, requires_grad: bool, hooks: Any, state: Any = None) -> Tensor:
    return torch._utils._rebuild_parameter(data, requires_grad, collections.OrderedDict())


def _tensor_of_subclass(rebuild: Any, cls: Any, args: tuple, state: Any) -> Tensor:
    """A tensor without the attributes or the subclass that it was pickled with."""
    return rebuild(*args)


# NumPy believes a pickled dtype when it says that raw bytes are pointers to objects. So dtypes are
# built from their description, and each array or scalar gets a copy that later instructions cannot
# change.


def _dtype(spec: Any, align: bool = False, copy: bool = True) -> np.dtype:
    if not isinstance(spec, str | type):
        raise pickle.UnpicklingError(f'a dtype made from a {type(spec).__name__}')
    return np.dtype(spec, copy=True)


def _own(dtype: np.dtype) -> np.dtype:
    if not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError(f'a {type(dtype).__name__} in place of a dtype')
    return copying.copy(dtype)  # np.dtype(dtype, copy=True) returns its argument


def _build_dtype(dtype: np.dtype, state: tuple) -> None:
    version, order, sub, names, fields, size, _, _, *metadata = state
    if dtype.kind in 'mM':  # its unit
        state = (version, order, None, None, None, -1, -1, 0, *metadata)
        dtype.__setstate__(state)  # type: ignore[attr-defined]
        return
    wanted = dtype
    if dtype.kind == 'V' and sub is not None:
        wanted = np.dtype((_own(sub[0]), sub[1]))
    elif dtype.kind == 'V' and names is not None:
        formats, offsets = zip(*((_own(fields[n][0]), fields[n][1]) for n in names))
        wanted = np.dtype(dict(names=names, formats=formats, offsets=offsets, itemsize=size))
    elif order in ('<', '>'):
        wanted = dtype.newbyteorder(order)
    if wanted.itemsize != dtype.itemsize:
        raise pickle.UnpicklingError(f'a dtype of {dtype.itemsize} and {wanted.itemsize} bytes')
    dtype.__setstate__(wanted.__reduce__()[2])  # type: ignore[attr-defined]


_NUMPY_SCALAR: Any = np.float64().__reduce__()[0]  # its module differs between versions


def _scalar(dtype: np.dtype, *value: Any) -> Any:
    return _NUMPY_SCALAR(_own(dtype), *value)


def _empty_array(cls: Any, shape: tuple, code: Any) -> np.ndarray:
    return np.empty(0, np.int8)


def _frombuffer(buffer: Any, dtype: np.dtype, shape: tuple, order: Any, *axes: Any) -> np.ndarray:
    return np.frombuffer(buffer, _own(dtype)).reshape(shape, order=order)


def _table() -> dict[tuple[str, str], Any]:
    """The classes and functions that a pickle may name: PyTorch's safe ones, and other plain data."""
    safe = ((*name.rpartition('.'), value) for name, value in _get_allowed_globals().items())
    found: dict[tuple[str, str], Any] = {(module, name): value for module, _, name, value in safe}
    # fmt: off
    plain = (bool, complex, dict, float, frozenset, int, list, object, range, set, slice, str, tuple,
             collections.defaultdict, collections.deque, datetime.date, datetime.datetime,
             datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal,
             fractions.Fraction, uuid.UUID, argparse.Namespace)
    # fmt: on
    found |= {(kind.__module__, kind.__name__): kind for kind in plain}
    for module in ('pathlib', 'pathlib._local'):
        for name in ('PurePath', 'PurePosixPath', 'PureWindowsPath', 'Path', 'PosixPath'):
            found[module, name] = getattr(pathlib, name)
        found[module, 'WindowsPath'] = pathlib.PureWindowsPath
    for name, value in vars(torch).items():
        if isinstance(value, torch.layout | torch.memory_format):
            found['torch', name] = value
    for name, value in vars(np).items():
        if isinstance(value, type) and issubclass(value, np.number | np.bool_):
            found['numpy', name] = value
    for core in ('numpy.core', 'numpy._core'):
        found[f'{core}.multiarray', 'scalar'] = _scalar
        found[f'{core}.multiarray', '_reconstruct'] = _empty_array
        found[f'{core}.numeric', '_frombuffer'] = _frombuffer
    return found | {
        ('builtins', 'xrange'): range,  # of Python 2, and so of protocol 2
        ('builtins', 'long'): int,
        ('builtins', 'unicode'): str,
        ('builtins', 'Ellipsis'): Ellipsis,
        ('builtins', 'NotImplemented'): NotImplemented,
        ('builtins', 'bytes'): _bytes,
        ('builtins', 'bytearray'): _bytearray,
        ('copyreg', '_reconstructor'): _reconstructor,
        ('copyreg', '__newobj__'): _new,
        ('_codecs', 'encode'): _encode,
        ('numpy', 'dtype'): _dtype,
        ('torch', 'UntypedStorage'): torch.UntypedStorage,
        ('torch._tensor', '_rebuild_from_type_v2'): _tensor_of_subclass,
        ('torch._tensor', '_rebuild_from_type'): _tensor_of_subclass,
        ('torch._utils', '_rebuild_parameter'): _parameter,
        ('torch._utils', '_rebuild_parameter_with_state'): _parameter,
        ('torch.storage', '_load_from_bytes'): _load_from_bytes,
    }


OLD_MODULES = dict(__builtin__='builtins', copy_reg='copyreg')  # of Python 2
HISTORY = ('mmengine.logging.history_buffer', 'HistoryBuffer')
CONFIG = ('mmengine.config.config', 'ConfigDict')
TABLE: dict[tuple[str, str], Any] = {}


def plain_pickle_module(plain_only: bool = False) -> SimpleNamespace:
    """Build the ``pickle_module`` argument of ``torch.load``.

    Args:
        plain_only (bool): Raise an error where a placeholder would be needed. Default: False.
    """
    if not TABLE:
        TABLE.update(_table())

    # The implementation in Python, since the one in C does not let a subclass override BUILD.
    class Unpickler(pickle._Unpickler):
        dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
        stack: list[Any]

        def __init__(self, file: Any, **kwargs: Any):
            # Text of Python 2, NumPy's raw data included; Python 3 writes none that this changes.
            super().__init__(file, **(kwargs | dict(encoding='latin1')))

        def load(self) -> Any:
            try:
                return super().load()
            except (KeyError, IndexError) as error:  # of an instruction or a stack that is not there
                raise pickle.UnpicklingError(f'invalid pickle ({error!r})') from error

        def find_class(self, module: str, name: str) -> Any:
            module = OLD_MODULES.get(module, module)
            if (module, name) in TABLE:
                return TABLE[module, name]
            if (module, name) == ('builtins', 'getattr'):
                return self.attribute
            if (module, name) == HISTORY:
                from mmengine.logging import HistoryBuffer

                return HistoryBuffer
            if module == HISTORY[0] and name.startswith(f'{HISTORY[1]}.'):
                return self.attribute(self.find_class(*HISTORY), name.partition('.')[2])
            if (module, name) == CONFIG:
                from mmengine.config import ConfigDict

                return ConfigDict
            if (module, name) == ('numpy', 'ndarray'):  # an argument that _empty_array does not need
                return Placeholder
            return self.foreign(f'{module}.{name}')

        def foreign(self, name: str) -> type:
            """A class of placeholders."""
            if plain_only:
                raise ForeignClassError(name)
            return type(name.rpartition('.')[2], (Placeholder,), dict(name=name, __module__=__name__))

        def attribute(self, cls: Any, name: str) -> Any:
            """``getattr`` for methods of mmengine's ``HistoryBuffer``, whose pickles need it."""
            known = (getattr(cls, '__module__', ''), getattr(cls, '__name__', '')) == HISTORY
            if known and not name.startswith('_'):
                return getattr(cls, name)
            return self.foreign(f'getattr of {getattr(cls, "name", "") or cls!r} and {name}')

        def build(self) -> None:
            state = self.stack.pop()
            target = self.stack[-1]
            kind = type(target)
            if isinstance(target, np.dtype):
                _build_dtype(target, state)
            elif kind is np.ndarray:
                version, shape, dtype, *rest = state
                target.__setstate__((version, shape, _own(dtype), *rest))
            elif isinstance(target, Placeholder | uuid.UUID):
                target.__setstate__(state)  # type: ignore[union-attr]
            elif isinstance(target, dict | argparse.Namespace) or (
                (kind.__module__, kind.__name__) == HISTORY
            ):
                state = state[0] if isinstance(state, tuple) else state
                target.__dict__.update(state or {})
            elif not isinstance(target, pathlib.PurePath):
                raise pickle.UnpicklingError(f'it sets the state of a {kind.__name__}')

        dispatch[pickle.BUILD[0]] = build

    def load(file: Any, **kwargs: Any) -> Any:
        return Unpickler(file, **kwargs).load()

    return SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=load)
