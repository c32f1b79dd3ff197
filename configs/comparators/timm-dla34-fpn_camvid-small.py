# timm's DLA-34 with mmseg's FPN head on CamVid: the recipe of dla34_camvid-small.py
_base_ = '../small_compute/dla34_camvid-small.py'
model = dict(
    # timm's takes heights 32k and 32k - 1 only: 360x480 has to be padded
    data_preprocessor=dict(test_cfg=dict(size_divisor=32)),
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='dla34',
        features_only=True,
        pretrained=False,
        out_indices=(2, 3, 4, 5),
    ),
    neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=256, num_outs=4),
    decode_head=dict(
        _delete_=True,
        type='FPNHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=dict(type='SyncBN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
)
