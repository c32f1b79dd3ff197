# DLA of MobileNetV2's blocks on generated street scenes: any block can be aggregated
_base_ = 'dla34-8s_demo.py'
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            block=dict(type='mmdla.InvertedResidual', expand_ratio=4),
            tree_depths=(1, 2, 2, 1),
            channels=(16, 32, 64, 128, 192, 256),
        ),
        act_cfg=dict(type='ReLU6'),
    ),
    decode_head=dict(in_channels=[128, 192, 256]),
)
