# DLA-34 on ImageNet, modern recipe: 300 epochs, label smoothing, mixup, cutmix, averaged weights
_base_ = [
    '_base_/models/dla34_classifier.py',
    '_base_/datasets/imagenet_modern.py',
    '_base_/schedules/imagenet_300e.py',
    '_base_/classification_runtime.py',
]
model = dict(
    head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
)
