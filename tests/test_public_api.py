"""The public interface, pinned: a change of it has to change ``public_api.txt`` too.

``python tests/test_public_api.py`` writes the listing anew; its diff is what the changelog has to tell. State dicts are pinned by the golden tests.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[1]
LISTING = Path(__file__).with_name('public_api.txt')
PACKAGES = [
    'mmdla',
    'mmdla.models',
    'mmdla.models.layers',
    'mmdla.datasets',
    'mmdla.apis',
    'mmdla.checkpoints',
    'mmdla.deploy',
    'mmdla.engine',
]
REGISTRIES = ['MODELS', 'DATASETS', 'TRANSFORMS', 'METRICS', 'HOOKS', 'LOOPS', 'RUNNERS', 'OPTIM_WRAPPERS',
              'OPTIM_WRAPPER_CONSTRUCTORS', 'VISUALIZERS']  # fmt: skip
TOOLS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob('tools/**/*.py') if path.name[0] != '_'
)


# --- what there is ---------------------------------------------------------------------------------------


def arguments(name: str, thing: object) -> str:
    """A name with the arguments that this project gives it; those of a library's class are the library's."""
    if inspect.isclass(thing):
        if issubclass(thing, BaseException):
            return name
        own = [c for c in thing.__mro__ if '__init__' in vars(c)]
        if not own or not own[0].__module__.startswith('mmdla'):
            return name
    elif not inspect.isfunction(thing):
        return name
    signature = inspect.signature(thing)  # type: ignore[arg-type]
    stars = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}
    return f'{name}({", ".join(stars.get(p.kind, "") + p.name for p in signature.parameters.values())})'


def exported(package: str) -> list[str]:
    """What a package lists, or without a list defines or imports of this project's."""
    module = importlib.import_module(package)
    names = getattr(module, '__all__', None) or [
        name for name, thing in vars(module).items()
        if name[0] != '_' and callable(thing) and getattr(thing, '__module__', '').startswith('mmdla')
    ]  # fmt: skip
    return [arguments(name, getattr(module, name)) for name in names]


def extending(library: str, table: str) -> list[str]:
    """What is imported from the extension table when a config first names it."""
    from mmdla import registry

    return [
        f'{attribute}: {arguments(name, getattr(importlib.import_module(module), name))}'
        for attribute, modules in getattr(registry, table)[library].items()
        for module, names in modules.items()
        for name in names
    ]


def registered() -> list[str]:
    """This project's classes in mmengine's root registries."""
    import mmengine.registry as root

    import mmdla
    from mmdla.registry import extensions

    assert mmdla.engine
    return [
        f'{attribute}: {arguments(name, thing)}'
        for attribute in REGISTRIES
        for name, thing in getattr(root, attribute).module_dict.items()
        if inspect.isclass(thing)
        and thing.__module__.startswith('mmdla.')
        and name not in extensions(attribute)
    ]


class ParserFound(BaseException):
    """Ends a tool where it would read its command line."""


def options(tool: str) -> list[str]:
    """What the command line of a tool takes."""

    def stop(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise ParserFound(self)

    path = ROOT / tool
    with (
        mock.patch.object(argparse.ArgumentParser, 'parse_known_args', stop),
        mock.patch.object(sys, 'path', [str(path.parent), *sys.path]),
        mock.patch.object(sys, 'argv', [tool]),
    ):
        try:
            runpy.run_path(str(path), run_name=path.stem)['main']()
        except ParserFound as found:
            (parser,) = found.args
        else:
            raise AssertionError(f'{tool} has read no command line')
    return [line for action in parser._actions if action.dest != 'help' for line in describe(action)]


def describe(action: argparse.Action) -> list[str]:
    if isinstance(action, argparse._SubParsersAction):
        return [
            f'{name} {line}'
            for name, parser in action.choices.items()
            for each in parser._actions
            if each.dest != 'help'
            for line in describe(each)
        ]
    return [' '.join(action.option_strings) or action.dest.upper()]


def sections() -> dict[str, Callable[[], list[str]]]:
    """How to list each part of the interface."""
    found: dict[str, Callable[[], list[str]]] = {name: lambda n=name: exported(n) for name in PACKAGES}
    found['in the registries of mmengine'] = registered
    for library in ('mmseg', 'mmpretrain'):
        found[f'in the registries of {library}'] = lambda n=library: extending(n, 'EXTENSIONS')
    found['as mmdla.NAME, with mmpretrain'] = lambda: extending('mmpretrain', 'USERS')
    found.update({tool: lambda n=tool: options(n) for tool in TOOLS})
    return found


# --- what there has to be --------------------------------------------------------------------------------


def pinned() -> dict[str, list[str]]:
    """The listing: lines by section."""
    parts = re.split(r'^\[(.+)\]$', LISTING.read_text(), flags=re.MULTILINE)
    return {title: text.strip().splitlines() for title, text in zip(parts[1::2], parts[2::2])}


def test_listing_has_every_package_and_tool():
    assert list(pinned()) == list(sections())


@pytest.mark.parametrize('section', sections())
def test_public_interface(section):
    for library in ('mmseg', 'mmpretrain', 'scipy'):
        pytest.importorskip(library)
    found = sorted(sections()[section]())
    assert found == pinned()[section], (
        'if the change is meant, write the listing anew (see the top of this file) and tell the changelog'
    )


def test_registered_names_are_found_in_their_packages():
    pytest.importorskip('mmseg')
    pytest.importorskip('mmpretrain')
    from mmdla.registry import extensions

    packages = dict(
        MODELS='mmdla.models', DATASETS='mmdla.datasets', TRANSFORMS='mmdla.datasets.transforms'
    )
    for attribute, package in packages.items():
        for name, (module, _) in extensions(attribute).items():
            expected = getattr(importlib.import_module(module), name)
            assert getattr(importlib.import_module(package), name) is expected


if __name__ == '__main__':
    parts = ('\n'.join([f'[{title}]', *sorted(listed())]) for title, listed in sections().items())
    LISTING.write_text('\n\n'.join(parts) + '\n')
