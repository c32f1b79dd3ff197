# DLA-34 2s on BSDS500: ODS .794, OIS .808, AP .787 in the paper
_base_ = [
    '../_base_/models/dla34_boundary.py',
    '../_base_/datasets/bsds500.py',
    '../_base_/schedules/bsds_1200e.py',
    '../_base_/boundary_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
