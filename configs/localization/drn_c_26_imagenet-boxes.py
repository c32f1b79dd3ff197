# DRN-C-26 on ImageNet, localization: 52.3% top-1, 47.7% top-5 error in the paper
_base_ = [
    '../_base_/models/drn_c_26_classifier.py',
    '../_base_/datasets/imagenet_boxes.py',
    '../_base_/schedules/imagenet_120e.py',
    '../_base_/classification_runtime.py',
]
model = dict(neck=None, head=dict(type='mmdla.ClassMapHead'))
test_cfg = dict(_delete_=True, type='mmdla.ValThenTestLoop')
