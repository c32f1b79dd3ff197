# DLA-34 on ImageNet: 25.37% top-1, 7.95% top-5 error (timm's evaluation)
_base_ = [
    '_base_/models/dla34_classifier.py',
    '_base_/datasets/imagenet.py',
    '_base_/schedules/imagenet_120e.py',
    '_base_/classification_runtime.py',
]
