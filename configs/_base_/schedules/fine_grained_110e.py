# SGD, 110 epochs, a tenth of the learning rate every 50 (docs/paper_to_code.md: not verified)
_base_ = 'imagenet_120e.py'
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(type='MultiStepLR', milestones=[50, 100], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=110)
auto_scale_lr = dict(base_batch_size=64)
