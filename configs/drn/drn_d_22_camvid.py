# DRN-D-22 on CamVid: schedule and augmentation of dla34_camvid.py
_base_ = [
    '../_base_/models/drn_d_22_linear.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/camvid_1200e.py',
    '../_base_/six_scales_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}), decode_head=dict(num_classes=11)
)
