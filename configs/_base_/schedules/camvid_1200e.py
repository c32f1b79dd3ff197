# Released recipe: SGD, 1200 epochs, a tenth of the learning rate after 800
_base_ = 'cityscapes_500e.py'
param_scheduler = [dict(type='MultiStepLR', milestones=[800], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=1200, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20))
