"""mmseg's inferencer, extended by this project's configs and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmseg.apis import MMSegInferencer
from mmseg.utils import get_classes, get_palette
from torch import nn

from ..checkpoints import read_checkpoint, weights_for
from ..engine.config import dataset_meta
from ..registry import MIM


class SegInferencer(MMSegInferencer):
    """Predicts label maps: :class:`mmseg.apis.MMSegInferencer` with this project's configs.

    It also loads the authors' released segmentation networks.

    Args:
        model (str | Config): Name of a config of this project (``'dla34_cityscapes'``) or of mmseg's
            metafiles, a path, or a config.
        weights (str, optional): Path or address. Default: the published ones of ``model``.
        classes (Sequence[str], optional): Names of the classes. Default: None, the first available ones
            of ``dataset_name``, the checkpoint, and the config's data set.
        palette (Sequence, optional): Colours of the classes. Default: None, like ``classes``.
        dataset_name (str, optional): Data set whose classes and colours to use, by mmseg's name for it.
        **kwargs: Of ``MMSegInferencer``: ``device``, ``scope``, ...

    Raises:
        ValueError: If ``model`` is unknown, or has no published weights and none are given.
        FileNotFoundError, CheckpointError: If the weights do not exist, are not a checkpoint, or belong
            to another network.

    Example:
        >>> from mmdla.apis import SegInferencer
        >>> inferencer = SegInferencer('dla34_demo', 'work_dirs/dla34_demo/iter_160.pth')
        >>> labels = inferencer('street.png')['predictions']  # (H, W), class numbers
    """

    task = 'Semantic Segmentation'  # of the metafiles' entries

    def __init__(
        self,
        model: str | Config,
        weights: str | None = None,
        classes: Sequence[str] | None = None,
        palette: Sequence | None = None,
        dataset_name: str | None = None,
        **kwargs: Any,
    ):
        self._drawn: dict[str, list[str]] = {}
        super().__init__(model, weights, **kwargs)
        if dataset_name is not None:
            self.model.dataset_meta = dict(
                classes=get_classes(dataset_name), palette=get_palette(dataset_name)
            )
        for name, value in dict(classes=classes, palette=palette).items():
            if value is not None:
                self.model.dataset_meta[name] = value

    def visualize(self, inputs: list, preds: list, img_out_dir: str = '', **kwargs: Any) -> list | None:
        """Draw predictions as mmseg does, without overwriting a picture.

        The picture of a second image with the same name, from another folder, goes to ``vis/2``.
        """
        drawn: list = []
        for one, pred in zip(inputs, preds):
            folder = img_out_dir
            if isinstance(one, str) and img_out_dir:
                same = self._drawn.setdefault(os.path.join(img_out_dir, os.path.basename(one)), [])
                if one not in same:
                    same.append(one)
                if number := same.index(one):
                    folder = os.path.join(img_out_dir, str(number + 1))
                    print_log(
                        f'{one}: another image has this name; its picture is in {folder}', 'current'
                    )
            drawn += super().visualize([one], [pred], img_out_dir=folder, **kwargs) or []
        return drawn or None

    def _load_model_from_metafile(self, model: str) -> tuple[Config, str | None]:
        known = {
            entry['Name']: entry
            for entry in self._get_models_from_metafile(str(MIM))
            if entry['Results'][0]['Task'] == self.task
        }
        entry = known.get(model.lower())
        if entry is not None:
            return Config.fromfile(MIM / entry['Config']), entry['Weights']
        try:
            return super()._load_model_from_metafile(model)
        except ValueError as error:
            raise ValueError(
                f'model={model!r}: neither a file, nor a name of mmseg, nor one of {", ".join(known)}'
            ) from error

    def _init_model(self, cfg: Config, weights: str | None, device: str) -> nn.Module:
        if weights is None:
            raise ValueError(
                'weights=None: no weights are published for this model; give a path or an address, '
                'such as a checkpoint of tools/train.py'
            )
        # Read here for `_load_weights_to_model`, since mmengine's reader unpickles anything.
        self._checkpoint = read_checkpoint(weights)
        self._source = f'checkpoint {weights!r}'
        return super()._init_model(cfg, None, device)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: None, cfg: Config) -> None:
        content = self.__dict__.pop('_checkpoint')
        meta = content.get('meta')
        meta = dict(meta) if isinstance(meta, Mapping) else {}
        state_dict = weights_for(model, content, self._source)
        if not {'dataset_meta', 'CLASSES'} & meta.keys():
            meta['dataset_meta'] = dataset_meta(cfg, meta)
        super()._load_weights_to_model(model, dict(meta=meta, state_dict=state_dict), cfg)
