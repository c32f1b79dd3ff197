# DLA-34 on a CIFAR-10 subset, small compute: 10 epochs from scratch at 32x32 pixels
_base_ = [
    '../_base_/models/dla34_classifier.py',
    '../_base_/datasets/cifar10_folder.py',
    '../_base_/schedules/small_10e.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}, num_classes=10),
    # one stride fewer than on ImageNet, so that the last map is 2x2
    backbone=dict(strides=(1, 1, 2, 2, 2, 2)),
    head=dict(num_classes=10),
)
