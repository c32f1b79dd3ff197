# AFA-DLA-34 on NYUDv2's depth as HHA: ODS .718, OIS .730, published
_base_ = [
    '../_base_/models/afa-dla34_boundary.py',
    '../_base_/datasets/nyudv2_boundaries_hha.py',
    '../_base_/schedules/afa_boundaries_14e.py',
    '../_base_/boundary_runtime.py',
]
param_scheduler = [dict(type='MultiStepLR', milestones=[30, 46], gamma=0.1, by_epoch=True)]
# The last checkpoint counts: there are no images to validate on but those to test on.
train_cfg = dict(max_epochs=54, val_interval=54)
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
