# AFA-DLA's recipe: SGD, 14 epochs, a tenth of the learning rate after 8 and after 12; released in mixed
# precision, tools/train.py --amp. The last checkpoint counts: validation images are trained on
_base_ = 'cityscapes_500e.py'
param_scheduler = [dict(type='MultiStepLR', milestones=[8, 12], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=14, val_interval=7)
default_hooks = dict(checkpoint=dict(interval=1, save_best=None))
