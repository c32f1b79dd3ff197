# DLA-34 8s on CamVid, small compute: 300 iterations from scratch, the ablation of Figure 2
_base_ = 'dla34_camvid-small.py'
model = dict(
    backbone=dict(out_indices=(3, 4, 5)),
    decode_head=dict(in_channels=[128, 256, 512], loss_decode=dict(avg_non_ignore=True)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=50, end=300, by_epoch=False),
]
train_cfg = dict(max_iters=300, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=300))
