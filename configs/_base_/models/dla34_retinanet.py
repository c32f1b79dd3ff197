# DLA-34 with RetinaNet's FPN and head
# DLA_WEIGHTS: ImageNet weights to start from: `timm` for the published ones, or a path or address;
# none: from scratch
weights = '{{$DLA_WEIGHTS:none}}'
model = dict(
    type='RetinaNet',
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
        out_indices=(3, 4, 5),
        norm_cfg=dict(type='SyncBN'),
        init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights),
    ),
    neck=dict(
        type='FPN',
        in_channels=[128, 256, 512],
        out_channels=256,
        add_extra_convs='on_input',
        num_outs=5,
    ),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=80,
        in_channels=256,
        loss_cls=dict(type='FocalLoss'),
        loss_bbox=dict(type='L1Loss'),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
    ),
)
