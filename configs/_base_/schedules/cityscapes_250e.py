# DRN's recipe: SGD, 250 epochs, a tenth of the learning rate every 100
_base_ = 'cityscapes_500e.py'
param_scheduler = [dict(type='MultiStepLR', milestones=[100, 200], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=250)
auto_scale_lr = dict(base_batch_size=32)
