# AFA-DLA-169 with OCR and SSR on BDD100K: 67.46 mIoU on val, 58.70 on test, published
_base_ = [
    '../_base_/models/afa-dla102x_ocr-ssr_abn.py',
    '../_base_/datasets/bdd100k.py',
    '../_base_/schedules/afa_375e.py',
    '../_base_/flip_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.015))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=200, by_epoch=True),
]
train_cfg = dict(max_epochs=200, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20))
auto_scale_lr = dict(base_batch_size=16)
model = dict(
    data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}),
    backbone=dict(arch='169'),
    test_cfg=dict(scales=(0.5, 1.0, 1.5, 2.0)),
)
