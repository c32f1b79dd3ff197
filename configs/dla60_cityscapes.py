# DLA-60 2s on Cityscapes: not in the paper, released as dla60up
_base_ = [
    '_base_/models/dla60_idaup.py',
    '_base_/datasets/cityscapes.py',
    '_base_/schedules/cityscapes_500e.py',
    '_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
