# CenterNet with DLA-34 on COCO, plain convolutions in place of the deformable ones
_base_ = [
    '../_base_/models/dla34_centernet.py',
    '../_base_/datasets/coco_centernet.py',
    '../_base_/schedules/coco_140e.py',
    '../_base_/detection_runtime.py',
]
