# DLA-34 in a detector of mmdet: images as ImageNet weights take them
# DLA_WEIGHTS: ImageNet weights to start from: `timm` for the published ones, or a path or address;
# none: from scratch
weights = r"""{{$DLA_WEIGHTS:none}}"""
model = dict(
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='mmdla.DLA',
        arch='34',
        norm_cfg=dict(type='SyncBN'),
        init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights),
    ),
)
