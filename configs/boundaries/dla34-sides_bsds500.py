# DLA-34 2s with side outputs on BSDS500: HED's deep supervision, not in the paper
_base_ = [
    '../_base_/models/dla34_sides.py',
    '../_base_/datasets/bsds500.py',
    '../_base_/schedules/bsds_1200e.py',
    '../_base_/boundary_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
