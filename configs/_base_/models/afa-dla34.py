# AFA-DLA-34 at output stride 2: attentive nodes in IDA-up, attentive fusion of its last three steps
weights = r"""{{$DLA_WEIGHTS:none}}"""
norm_cfg = dict(type='SyncBN')
model = dict(
    type='mmdla.MultiScaleSegmentor',
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
    neck=dict(type='mmdla.AFAUp', in_channels=[32, 64, 128, 256, 512], norm_cfg=norm_cfg),
    decode_head=dict(
        type='mmdla.LinearHead',
        in_channels=32,
        stride=2,
        num_classes=19,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(size_divisor=1),
    test_cfg=dict(mode='whole', size_divisor=1),
)
