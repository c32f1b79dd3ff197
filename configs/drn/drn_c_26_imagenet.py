# DRN-C-26 on ImageNet: 24.86% top-1, 7.55% top-5 error, of ten crops 22.93% and 6.39% (paper)
_base_ = [
    '../_base_/models/drn_c_26_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_120e.py',
    '../_base_/ten_crop_runtime.py',
]
