# DRN-D-22 on Cityscapes: 68.0 mIoU on val (released)
_base_ = [
    '../_base_/models/drn_d_22_linear.py',
    '../_base_/datasets/cityscapes_896.py',
    '../_base_/schedules/cityscapes_250e.py',
    '../_base_/six_scales_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
