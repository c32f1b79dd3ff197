# DRN-C-26 on CUB-200 birds: trained with class labels, evaluated on boxes
_base_ = [
    '../_base_/models/drn_c_26_finetuned.py',
    '../_base_/datasets/cub200_boxes.py',
    '../_base_/schedules/fine_grained_110e.py',
    '../_base_/classification_runtime.py',
]
model = dict(data_preprocessor=dict(num_classes=200), head=dict(num_classes=200))
test_cfg = dict(_delete_=True, type='mmdla.ValThenTestLoop')
