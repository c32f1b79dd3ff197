# DRN-D-22 on CamVid, small compute: the recipe of dla34_camvid-small.py
_base_ = 'dla34_camvid-small.py'
model = dict(
    backbone=dict(_delete_=True, type='mmdla.DRN', arch='d_22', norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        _delete_=True,
        type='mmdla.LinearHead',
        in_channels=512,
        num_classes=11,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False),
    ),
)
