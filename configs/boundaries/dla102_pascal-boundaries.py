# DLA-102 2s on PASCAL Boundaries: ODS .754, OIS .766, AP .752 in the paper
_base_ = [
    '../_base_/models/dla102_boundary.py',
    '../_base_/datasets/pascal_boundaries.py',
    '../_base_/schedules/pascal_boundaries_400e.py',
    '../_base_/boundary_runtime.py',
]
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
