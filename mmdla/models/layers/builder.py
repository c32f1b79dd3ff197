"""Builders of layers, from a short name, a registered name, a dict with a type, or a callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from mmengine.registry import MODELS
from torch import nn


def layer_builder(
    spec: str | dict | Callable,
    argument: str,
    named: Mapping[str, Callable] = {},
    needs: Sequence[str] = (),
    offers: Mapping[str, Any] = {},
) -> partial:
    """Turn a config's specification of a layer into a callable that builds it.

    Args:
        spec (str | dict | Callable): A name of ``named`` or of a registry, a dict of such a ``type``
            and further arguments, or the callable itself.
        argument (str): Name of the user's argument, for messages.
        named (Mapping[str, Callable]): Short names. Default: none.
        needs (Sequence[str]): Arguments that the builder is called with. Default: none.
        offers (Mapping[str, Any]): Arguments that are passed if the signature has them or
            ``**kwargs``, and ``spec`` does not set them. Default: none.

    Returns:
        partial: Takes the arguments in ``needs``, returns the layer.

    Raises:
        TypeError: If ``spec`` is none of the three.
        ValueError: If no registry has the name, the callable lacks one of ``needs``, or ``spec`` sets
            one of these or an argument that does not exist.

    Example:
        >>> needs = ['in_channels', 'out_channels', 'kernel_size']
        >>> build = layer_builder('Conv2d', 'block', needs=needs)
        >>> build(in_channels=3, out_channels=8, kernel_size=1)
        Conv2d(3, 8, kernel_size=(1, 1), stride=(1, 1))
    """
    args: dict = {}
    build = spec
    if isinstance(spec, str):
        build = _look_up(spec, argument, named)
    elif isinstance(spec, Mapping) and 'type' in spec:
        args = {k: v for k, v in spec.items() if k != 'type'}
        build = _look_up(spec['type'], argument, named)
    if not callable(build) or isinstance(build, nn.Module):
        raise TypeError(
            f'{argument}={spec!r}: must be a name, a dict with a type, or a class or function that '
            'builds the layer'
        )

    try:
        parameters = inspect.signature(build).parameters
    except ValueError as error:
        raise TypeError(f'{argument}={spec!r}: its signature cannot be read') from error
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    lacking = [name for name in needs if name not in parameters and not takes_any]
    if lacking:
        raise ValueError(
            f'{argument}={spec!r}: must accept the arguments {", ".join(needs)}, but its signature '
            f'({", ".join(parameters)}) lacks {", ".join(lacking)}'
        )
    taken = sorted(set(args) & set(needs))
    if taken:
        raise ValueError(f'{argument}={spec!r}: the network sets {", ".join(taken)}; leave it out')
    unknown = [name for name in args if name not in parameters and not takes_any]
    if unknown:
        raise ValueError(
            f'{argument}={spec!r}: does not accept {", ".join(unknown)}; its arguments are '
            f'{", ".join(parameters)}'
        )
    offered = {k: v for k, v in offers.items() if takes_any or k in parameters}
    return partial(build, **{**offered, **args})


def _look_up(kind: str | Callable, argument: str, named: Mapping[str, Callable]) -> Callable:
    if not isinstance(kind, str):
        return kind
    if kind in named:
        return named[kind]
    with MODELS.switch_scope_and_registry(None) as registry:
        found = registry.get(kind)
    if found is None:
        short = f'one of {sorted(named)}, ' if named else ''
        raise ValueError(
            f'{argument}={kind!r}: must be {short}a name that is registered, or a callable'
        )
    return found


def as_tuple(argument: str, value: Sequence, least: int = 0) -> tuple:
    """Check that an argument is a list or a tuple, and return it as a tuple.

    Args:
        argument (str): Its name, for messages.
        value (Sequence): Its value.
        least (int): Fewest entries. Default: 0.

    Raises:
        TypeError: If it is neither a list nor a tuple.
        ValueError: If it has fewer than ``least`` entries.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f'{argument}={value!r}: must be a list or a tuple')
    values = tuple(value)
    if len(values) < least:
        raise ValueError(f'{argument}={value!r}: must be {least} or more')
    return values
