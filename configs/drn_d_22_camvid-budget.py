# DRN-D-22 on CamVid within a CPU's patience: beside dla34_camvid-budget.py
_base_ = 'dla34_camvid-budget.py'
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
