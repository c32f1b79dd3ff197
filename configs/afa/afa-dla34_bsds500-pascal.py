# AFA-DLA-34 on BSDS500 and PASCAL-Context: ODS .810, OIS .826 on BSDS500, published
_base_ = [
    '../_base_/models/afa-dla34_boundary.py',
    '../_base_/datasets/bsds500_pascal.py',
    '../_base_/schedules/afa_boundaries_14e.py',
    '../_base_/boundary_runtime.py',
]
param_scheduler = [dict(type='MultiStepLR', milestones=[10, 16], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=20, val_interval=10)
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
