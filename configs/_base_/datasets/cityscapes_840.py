# Cityscapes with DRN-D-105's augmentation: rotation, scale, crops of 840 pixels and flips
_base_ = 'cityscapes.py'
crop_size = (840, 840)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mmdla.ReflectRotate', degree=10),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmdla.ReflectPad', size=crop_size),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))  # 2 x 8 GPUs = 16
