# Released recipe: SGD, 1200 epochs, a tenth of the learning rate after 800. The last checkpoint counts:
# validation images are trained on
_base_ = 'camvid_1200e.py'
train_cfg = dict(val_interval=50)
default_hooks = dict(checkpoint=dict(interval=50, save_best=None))
