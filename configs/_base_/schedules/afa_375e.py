# AFA-DLA's recipe: SGD, 375 epochs, polynomial decay to 1e-4, an epoch a step, after 1000 iterations of
# warm-up; released in mixed precision, tools/train.py --amp
_base_ = 'cityscapes_500e.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=375, by_epoch=True),
]
train_cfg = dict(max_epochs=375, val_interval=25)
default_hooks = dict(checkpoint=dict(interval=25))
auto_scale_lr = dict(base_batch_size=8)
