# DLA-34 with IDA-up at output stride 2 (2s)
# DLA_WEIGHTS: ImageNet weights to start from, as in the paper: `timm` for the published ones, or a
# path or address; none: from scratch
weights = r"""{{$DLA_WEIGHTS:none}}"""
norm_cfg = dict(type='SyncBN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1,
    ),
    backbone=dict(
        type='mmdla.DLA',
        arch='34',
        out_indices=(1, 2, 3, 4, 5),
        norm_cfg=norm_cfg,
        init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights),
    ),
    decode_head=dict(
        type='mmdla.IDAUpHead',
        in_channels=[32, 64, 128, 256, 512],
        num_classes=19,
        norm_cfg=norm_cfg,
        # averaged over labelled pixels, as released
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
