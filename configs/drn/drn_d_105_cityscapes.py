# DRN-D-105 on Cityscapes: 75.6 mIoU on val, 76.3 on test with six scales (released)
_base_ = [
    '../_base_/models/drn_d_22_linear.py',
    '../_base_/datasets/cityscapes_840.py',
    '../_base_/schedules/cityscapes_500e.py',
    '../_base_/six_scales_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}), backbone=dict(arch='d_105')
)
