"""Pickles of checkpoints from elsewhere: how much would become of them, before any of it is made.

PyTorch's reader calls no function but those on its list, and these suffice for a pickle of a kilobyte
to fill any memory: ``bytearray`` takes a length, ``_codecs.encode`` doubles what it is given each time
that it is called, and lists that hold another list twice, and so on, become arrays of all they hold.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from typing import BinaryIO

# More than a byte becomes of an item, eight of a byte of text. Checkpoints share little but names.
FACTOR = 64
FREE = 2**22
ENCODE = '_codecs encode'
LENGTHS = ('builtins bytearray', '__builtin__ bytearray')
LEAVES = {
    'NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'BINFLOAT', 'LONG1', 'BINUNICODE',
    'SHORT_BINSTRING', 'GLOBAL', 'EMPTY_TUPLE',
}  # fmt: skip
OPEN = {'EMPTY_LIST', 'EMPTY_DICT', 'EMPTY_SET'}
TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class PickleSizeError(ValueError):
    """More would become of a pickle than such a file can need."""


@dataclass
class Thing:
    """What a pickle makes.

    Attributes:
        size (int): Items and bytes in it, what it holds twice counted twice.
        fixed (bool): Whether nothing may be put into it any more.
        name (str): Of a function or class.
    """

    size: int = 1
    fixed: bool = False
    name: str = ''


class _Whole:
    """A file whose reader gets what it asks for or an error; Python allocates that much beforehand."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.readline, self.tell = file.readline, file.tell
        place = file.tell()
        self.size = file.seek(0, 2)
        file.seek(place)

    def read(self, size: int) -> bytes:
        if size > self.size - self.tell():
            raise ValueError('cut off')
        return self.file.read(size)


def check_pickle(file: BinaryIO) -> None:
    """Look at a pickle of protocol 2, as PyTorch's reader takes it, without making what it describes.

    The file is left behind the pickle, or at its end. What is no such pickle is left to the reader,
    which comes to the same place, and no further.

    Args:
        file (BinaryIO): From where the pickle begins.

    Raises:
        PickleSizeError: If it holds a ``bytearray``, or too much for its length, or puts something into
            what it has used already.
    """
    start = file.tell()
    stack: list[Thing] = []
    outer: list[list[Thing]] = []
    memo: dict[int, Thing] = {}
    try:
        for code, value, _ in pickletools.genops(_Whole(file)):
            limit = FREE + FACTOR * (file.tell() - start)
            _step(code.name, value, stack, memo)
            # Not in place: a mark begins a stack of its own.
            if code.name == 'MARK':
                outer.append(stack)
                stack = []
            elif code.name in ('APPENDS', 'SETITEMS', 'TUPLE'):
                size = sum(_fixed(thing).size for thing in stack)
                stack = outer.pop()
                if code.name == 'TUPLE':
                    stack.append(Thing(1 + size))
                else:
                    _put(stack, size)
            if stack and stack[-1].size > limit:
                raise PickleSizeError(
                    f'more than {limit:,} items and bytes would become of its first '
                    f'{file.tell() - start:,} bytes'
                )
    except PickleSizeError:
        raise
    except (ValueError, LookupError, struct.error):
        file.seek(0, 2)


def _step(name: str, value, stack: list[Thing], memo: dict[int, Thing]) -> None:
    """Do what an instruction within one stack does."""
    if name in LEAVES:
        if name == 'GLOBAL' and value in LENGTHS:
            raise PickleSizeError(
                'holds an object of bytearray, which may be of any length and no checkpoint needs'
            )
        size = 1 + (len(value) if isinstance(value, (str, bytes)) and name != 'GLOBAL' else 0)
        stack.append(Thing(size, name=value if name == 'GLOBAL' else ''))
    elif name in OPEN:
        stack.append(Thing())
    elif name in TUPLES:
        count = TUPLES[name]
        things = [_fixed(stack.pop()) for _ in range(count)]
        stack.append(Thing(1 + sum(thing.size for thing in things)))
    elif name == 'BINPERSID':  # a storage, whose bytes lie elsewhere
        stack.pop()
        stack.append(Thing())
    elif name in ('REDUCE', 'NEWOBJ'):
        size = _fixed(stack.pop()).size
        function = stack.pop()
        stack.append(Thing(1 + size * (8 if function.name == ENCODE else 1)))
    elif name == 'BUILD' or name == 'APPEND':
        _put(stack, _fixed(stack.pop()).size)
    elif name == 'SETITEM':
        size = _fixed(stack.pop()).size + _fixed(stack.pop()).size
        _put(stack, size)
    elif name in ('BINPUT', 'LONG_BINPUT'):
        memo[value] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET'):
        stack.append(_fixed(memo[value]))
    elif name not in ('PROTO', 'STOP', 'MARK', 'APPENDS', 'SETITEMS', 'TUPLE'):
        raise ValueError(name)  # PyTorch's reader has no such instruction


def _fixed(thing: Thing) -> Thing:
    """What has come to be part of another, or is fetched again, and stays as it is."""
    thing.fixed = True
    return thing


def _put(stack: list[Thing], size: int) -> None:
    if stack[-1].fixed:
        raise PickleSizeError('puts something into what is part of another already, or of itself')
    stack[-1].size += size
