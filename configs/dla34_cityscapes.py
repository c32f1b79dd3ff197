# DLA-34 2s on Cityscapes: 74.5 mIoU on val in the paper
_base_ = [
    '_base_/models/dla34_idaup.py',
    '_base_/datasets/cityscapes.py',
    '_base_/schedules/cityscapes_500e.py',
    '_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
