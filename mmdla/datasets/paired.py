"""Pairs images and label maps by their stems: from folders or lists, with links and any suffix."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import PurePosixPath

from mmengine import fileio

from .folders import DataFolderError, dataset_help, read_list


class PairedFilesMixin:
    """Extends how a :class:`mmseg.datasets.BaseSegDataset`, listed after it as a base, finds its files.

    In addition to mmseg's arguments, suffixes may be several and in any case. The first suffix with an
    existing file is used, and ``''`` in ``seg_map_suffix`` stands for a folder. A name in ``ann_file``
    may include its suffix.

    A missing label map is not an error here, since the pipeline of inference does not read it; a
    warning gives the number of missing ones. Another warning gives the number of files that are
    ignored.

    Raises:
        DataFolderError: If there is no image, or one that a list names is missing.
    """

    # Of BaseSegDataset.
    data_prefix: dict
    data_root: str | None
    ann_file: str
    img_suffix: str | Sequence[str]
    seg_map_suffix: str | Sequence[str]
    backend_args: dict | None
    label_map: dict | None
    reduce_zero_label: bool

    def folders(self) -> list[tuple[str, str | None]]:
        """Folders of images, each with its folder of label maps or None."""
        return [(self.data_prefix.get('img_path') or '', self.data_prefix.get('seg_map_path'))]

    def find_pairs(self) -> list[tuple[str, str | None]]:
        """Paths of images and label maps, in order of name or of the list; files may be missing."""
        parts = [
            _FolderPair(*folders, self.img_suffix, self.seg_map_suffix, self.backend_args)
            for folders in self.folders()
        ]
        if self.ann_file:
            stems = [
                _without(name, parts[0].img_suffix) or name
                for name in read_list(self.ann_file, self.help(), self.backend_args)
            ]
            return [next((p for p in parts if s in p.images), parts[0]).pair(s) for s in stems]
        for part in parts:
            if not part.images:
                raise DataFolderError(f'The folder of images {part.why_empty()}. {self.help()}')
            part.warn_about_ignored()
        return [
            part.pair(stem)
            for part in parts
            for stem in sorted(part.images, key=lambda stem: part.images[stem])
        ]

    def load_data_list(self) -> list[dict]:
        """Images and label maps in mmseg's format."""
        pairs, name = self.find_pairs(), type(self).__name__
        missing = self._missing([image for image, _ in pairs])
        if missing or not pairs:
            raise DataFolderError(
                f'{len(missing)} of {len(pairs)} images that {name} lists are missing'
                f'{"; the first: " + missing[0] if missing else ""}. {self.help()}'
            )
        missing = self._missing([label for _, label in pairs if label is not None])
        if missing:
            warnings.warn(
                f'{len(missing)} of {len(pairs)} images of {name} have no label map; the first missing '
                f'file: {missing[0]}. {self.help()}',
                stacklevel=2,
            )
        common = dict(label_map=self.label_map, reduce_zero_label=self.reduce_zero_label)
        return [
            dict(img_path=image, seg_fields=[], **common)
            | ({} if label is None else dict(seg_map_path=label))
            for image, label in pairs
        ]

    def help(self) -> str:
        """Where the data set is expected, for the end of messages."""
        return dataset_help(type(self).__name__, self.data_root)

    def _missing(self, paths: Sequence[str]) -> list[str]:
        return [path for path in paths if not fileio.exists(path, backend_args=self.backend_args)]


class _FolderPair:
    """A folder of images and one of label maps or None, with the files in them by stem."""

    def __init__(
        self,
        img_dir: str,
        label_dir: str | None,
        img_suffix: str | Sequence[str],
        label_suffix: str | Sequence[str],
        backend_args: dict | None,
    ):
        self.img_dir, self.label_dir = img_dir, label_dir
        self.img_suffix, self.label_suffix = _as_tuple(img_suffix), _as_tuple(label_suffix)
        self.backend_args = backend_args
        self.images, self.others = self._list(img_dir, self.img_suffix)
        self.labels, _ = ({}, []) if label_dir is None else self._list(label_dir, self.label_suffix)

    def _list(self, folder: str, suffixes: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Paths below a folder by stem, and other paths of the same stem with another suffix.

        As in mmseg, links are followed and hidden files ignored.
        """
        found: dict[str, str] = {}
        others: list[str] = []
        if not fileio.isdir(folder, backend_args=self.backend_args):
            return found, others

        def below(**kind: bool) -> list[str]:
            return sorted(
                fileio.list_dir_or_file(folder, **kind, recursive=True, backend_args=self.backend_args)
            )

        files = below(list_dir=False)
        for suffix in suffixes:
            for path in files if suffix else below(list_file=False):
                stem = _without(path, (suffix,)) if suffix else path
                if stem and found.setdefault(stem, path) != path:
                    others.append(path)
        return found, others

    def stems_in_order(self) -> list[str]:
        """Stems of the images, in order of their paths."""
        return sorted(self.images, key=lambda stem: self.images[stem])

    def pair(self, stem: str) -> tuple[str, str | None]:
        """Paths of an image and its label map, which may not exist."""
        image = os.path.join(self.img_dir, self.images.get(stem, stem + self.img_suffix[0]))
        if self.label_dir is None:
            return image, None
        return image, os.path.join(self.label_dir, self.labels.get(stem, stem + self.label_suffix[0]))

    def why_empty(self) -> str:
        """Why there is no image, for a message."""
        if not fileio.isdir(self.img_dir, backend_args=self.backend_args):
            return f'is missing: {self.img_dir}'
        return f'holds none that ends in {" or ".join(self.img_suffix)}: {self.img_dir}'

    def warn_about_ignored(self) -> None:
        """Warn about ignored files: further images of the same stem, and labels without an image."""
        if self.others and self.img_dir != self.label_dir:
            warnings.warn(
                f'{len(self.others)} images in {self.img_dir} are ignored, since there is another '
                f'of the same stem; the first: {self.others[0]}',
                stacklevel=4,
            )
        # A file in a folder of annotations belongs to the image of that folder.
        alone = [
            path
            for stem, path in self.labels.items()
            if stem != path and not self.images.keys() & {stem, *map(str, PurePosixPath(stem).parents)}
        ]
        if alone:
            warnings.warn(
                f'{len(alone)} label maps in {self.label_dir} have no image in {self.img_dir} ending '
                f'in {" or ".join(self.img_suffix)}; the first: {alone[0]}',
                stacklevel=4,
            )


def _as_tuple(suffix: str | Sequence[str]) -> tuple[str, ...]:
    return (suffix,) if isinstance(suffix, str) else tuple(suffix)


def _without(path: str, suffixes: Sequence[str]) -> str | None:
    """A path without the suffix that it ends in, if it is one of these, in any case."""
    return next((path[: -len(s)] for s in suffixes if path.lower().endswith(s.lower())), None)
