"""The list of modules in CONTRIBUTING.md: `python tests/test_structure.py` writes it anew."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'CONTRIBUTING.md'
BLOCK = re.compile(r'(?<=<!-- modules -->\n)```\n.*?```\n', re.DOTALL)
# Packages from those that import nothing of the others to those that nothing else imports.
ORDER = ('registry.py', 'utils', 'io', 'checkpoints.py', 'datasets', 'evaluation', 'models/layers',
         'models/backbones', 'models/necks', 'models/decode_heads', 'models/heads', 'models/losses',
         'models/segmentors', 'visualization', 'engine', 'analysis', 'apis', 'deploy')  # fmt: skip


def listing() -> str:
    """Each module with the first line of its docstring, by package."""
    package = ROOT / 'mmdla'
    lines = []
    for part in ORDER:
        files = [package / part] if part.endswith('.py') else sorted((package / part).rglob('*.py'))
        if not part.endswith('.py'):
            lines.append(f'{part}/')
        for path in files:
            if path.name in ('__init__.py', '__main__.py'):
                continue
            first = (ast.get_docstring(ast.parse(path.read_text())) or '').split('\n')[0]
            name = part if part.endswith('.py') else f'  {path.relative_to(package / part)}'
            lines.append(f'{name:28} {first.rstrip(".")}')
    return '\n'.join(['```', *lines, '```', ''])


def test_contributing_lists_the_modules():
    if not PAGE.exists():
        pytest.skip('needs CONTRIBUTING.md, which a wheel leaves out')
    assert BLOCK.search(PAGE.read_text())[0] == listing()


def test_the_list_is_complete():
    package = ROOT / 'mmdla'
    there = {p.relative_to(package).as_posix() for p in package.rglob('*.py') if '.mim' not in p.parts}
    there = {p for p in there if not p.endswith(('__init__.py', '__main__.py'))}
    assert all(p.startswith(ORDER) for p in there)


def part_of(module: str) -> int | None:
    """Position in :data:`ORDER` of a module below the package, `models.layers.nodes`; None for itself."""
    path = f'{module.replace(".", "/")}/'
    found = [i for i, part in enumerate(ORDER) if path.startswith(f'{part.removesuffix(".py")}/')]
    return found[0] if found else None


def imports(path: Path) -> set[str]:
    """The modules of this package that a module imports, anywhere in it."""
    here = ('mmdla', *path.relative_to(ROOT / 'mmdla').with_suffix('').parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ['.'.join(here[: -node.level])] if node.level else []
            module = '.'.join([*start, *filter(None, [node.module])])
            found |= {f'{module}.{alias.name}' for alias in node.names}
    return {name.removeprefix('mmdla.') for name in found if name.startswith('mmdla.')}


def test_imports_point_one_way():
    for path in (ROOT / 'mmdla').rglob('*.py'):
        module = path.relative_to(ROOT / 'mmdla').with_suffix('').as_posix()
        own = part_of(module)
        if '.mim' in path.parts or own is None:
            continue
        for name in imports(path):
            other = part_of(name)
            assert other is None or other <= own, f'{module} imports {name}, which stands below it'


if __name__ == '__main__':
    PAGE.write_text(BLOCK.sub(lambda _: listing(), PAGE.read_text()))
