# DLA-34 2s on generated street scenes: about three minutes on two cores, above 60 mIoU
_base_ = [
    '_base_/models/dla34_idaup.py',
    '_base_/datasets/demo_streets.py',
    '_base_/schedules/small_600i.py',
    '_base_/default_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=20, end=160, by_epoch=False),
]
train_cfg = dict(max_iters=160, val_interval=160)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=160),
    visualization=dict(draw=True, interval=1),
)
