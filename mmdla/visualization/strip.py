"""Segmentation results as a strip: image, ground truth, prediction."""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmseg.registry import VISUALIZERS as MMSEG_VISUALIZERS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from ..registry import VISUALIZERS


@VISUALIZERS.register_module()
@MMSEG_VISUALIZERS.register_module()
class SegStripVisualizer(SegLocalVisualizer):
    """Draw image, ground truth and prediction side by side, in the data set's plain colours.

    mmseg's ``SegLocalVisualizer`` blends each map with the image and writes class names over it,
    which hides small pictures. Labels outside the palette (void) are black. Arguments are
    :class:`mmseg.visualization.SegLocalVisualizer`'s.
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        **kwargs: Any,
    ) -> None:
        """Draw one sample; see :meth:`mmseg.visualization.SegLocalVisualizer.add_datasample`."""
        strip = [image]
        for wanted, key in ((draw_gt, 'gt_sem_seg'), (draw_pred, 'pred_sem_seg')):
            if wanted and data_sample is not None and key in data_sample:
                strip.append(self._colour(np.asarray(data_sample.get(key).data.cpu()).squeeze()))
        picture = np.concatenate(strip, axis=1)
        self.set_image(picture)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(picture[..., ::-1], out_file)
        else:
            self.add_image(name, picture, step)

    def _colour(self, labels: np.ndarray) -> np.ndarray:
        table = np.zeros((256, 3), np.uint8)
        palette = np.asarray(self.dataset_meta['palette'], np.uint8)
        table[: len(palette)] = palette
        return table[labels.astype(np.uint8)]
