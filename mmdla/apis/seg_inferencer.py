"""mmseg's inferencer, with this project's names."""

from __future__ import annotations

from mmengine.config import Config
from mmseg.apis import MMSegInferencer
from mmseg.registry import DATASETS
from torch import nn

from ..checkpoints import AUTHORS_DLASEG, CheckpointError, convert_released, state_dict_of
from ..registry import MIM


class SegInferencer(MMSegInferencer):
    """Label maps of images: :class:`mmseg.apis.MMSegInferencer` that knows this project's configs.

    Classes and colours come from the checkpoint, or from the data set of the config. Weights may be the
    authors' segmentation networks, as they were released.

    Args:
        model (str | Config): Name of a config of this project (``'dla34_cityscapes'``) or of mmseg's
            metafiles, a path, or a config.
        weights (str, optional): Path or address. Default: the published ones of ``model``.
        **kwargs: Of ``MMSegInferencer``: ``classes``, ``palette``, ``dataset_name``, ``device``, ...

    Raises:
        ValueError: If ``model`` is no known name, or has no published weights and none are given.

    Example:
        >>> from mmdla.apis import SegInferencer
        >>> inferencer = SegInferencer('dla34_demo', 'work_dirs/dla34_demo/iter_160.pth')
        >>> labels = inferencer('street.png')['predictions']  # (H, W), class numbers
    """

    def __init__(self, model: str | Config, weights: str | None = None, **kwargs):
        super().__init__(model, weights, **kwargs)

    def _load_model_from_metafile(self, model: str) -> tuple[Config, str | None]:
        known = {entry['Name']: entry for entry in self._get_models_from_metafile(str(MIM))}
        if model in known:
            return Config.fromfile(MIM / known[model]['Config']), known[model].get('Weights')
        try:
            return super()._load_model_from_metafile(model)
        except ValueError as error:
            names = [n for n, e in known.items() if e['Results'][0]['Task'] == 'Semantic Segmentation']
            raise ValueError(
                f'model={model!r}: neither a file, nor a name of mmseg, nor one of {", ".join(names)}'
            ) from error

    def _init_model(self, cfg: Config, weights: str | None, device: str) -> nn.Module:
        if weights is None:
            raise ValueError(
                'weights=None: no weights are published for this model; give a path or an address, '
                'such as a checkpoint of tools/train.py'
            )
        return super()._init_model(cfg, weights, device)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict, cfg: Config) -> None:
        meta = dict(checkpoint.get('meta') or {})
        state_dict = state_dict_of(checkpoint, 'weights')
        try:
            converted = convert_released(state_dict, 'weights')
        except CheckpointError:  # not a released format: this project's or mmseg's own names
            pass
        else:
            if converted.format == AUTHORS_DLASEG:
                state_dict = converted.state_dict
        if not {'dataset_meta', 'CLASSES'} & meta.keys():
            meta['dataset_meta'] = DATASETS.get(cfg.test_dataloader.dataset.type).METAINFO
        super()._load_weights_to_model(model, dict(meta=meta, state_dict=state_dict), cfg)
