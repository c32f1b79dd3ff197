# AFA-DLA-34 on HED's augmented BSDS500: ODS .812, OIS .826, published
_base_ = [
    '../_base_/models/afa-dla34_boundary.py',
    '../_base_/datasets/bsds500_hed.py',
    '../_base_/schedules/afa_boundaries_14e.py',
    '../_base_/boundary_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
