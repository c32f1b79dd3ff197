# DLA-34 for boundaries with side outputs at strides 16, 8, 4, 2, one for each step of IDA-up
_base_ = 'dla34_boundary.py'
model = dict(
    neck=dict(
        type='mmdla.IDAUp',
        in_channels=[32, 64, 128, 256, 512],
        all_steps=True,
        norm_cfg=dict(type='SyncBN'),
    ),
    decode_head=dict(
        _delete_=True,
        type='mmdla.SideOutputHead',
        in_channels=[256, 128, 64, 32],
        strides=[16, 8, 4, 2],
        # HED's loss; RCF's has negative_weight=1.1
        loss_decode=dict(type='mmdla.BalancedBoundaryLoss'),
    ),
)
