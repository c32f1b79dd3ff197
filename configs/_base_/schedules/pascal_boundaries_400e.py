# Released recipe: SGD, 400 epochs, a tenth of the learning rate after 200. The last checkpoint counts:
# validation images are those to test on
_base_ = 'bsds_1200e.py'
param_scheduler = [dict(type='MultiStepLR', milestones=[200], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=400)
auto_scale_lr = dict(base_batch_size=32)
