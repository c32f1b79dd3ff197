# DLA-102 2s on CamVid: 71.0 mIoU on test in the paper
_base_ = [
    '_base_/models/dla102_idaup.py',
    '_base_/datasets/camvid.py',
    '_base_/schedules/camvid_1200e.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}), decode_head=dict(num_classes=11)
)
