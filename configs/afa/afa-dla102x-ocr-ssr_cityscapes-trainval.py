# AFA-DLA-X-102 with OCR and SSR on Cityscapes, train and val: 83.58 mIoU on test, published
_base_ = [
    '../_base_/models/afa-dla102x_ocr-ssr_abn.py',
    '../_base_/datasets/cityscapes_trainval_1024.py',
    '../_base_/schedules/afa_375e.py',
    '../_base_/flip_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.015))
# The published training took rare classes from automatically labelled images, too, up to epoch 250.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=275, by_epoch=True),
]
# The last checkpoint counts: validation images are trained on.
train_cfg = dict(max_epochs=275)
default_hooks = dict(checkpoint=dict(save_best=None))
auto_scale_lr = dict(base_batch_size=16)
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
