# DLA-102 2s on BSDS500: ODS .803, OIS .813, AP .781 in the paper
_base_ = [
    '../_base_/models/dla102_boundary.py',
    '../_base_/datasets/bsds500.py',
    '../_base_/schedules/bsds_1200e.py',
    '../_base_/boundary_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
