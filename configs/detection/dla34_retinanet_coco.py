# RetinaNet with DLA-34 and FPN on COCO
_base_ = [
    '../_base_/models/dla34_retinanet.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_12e.py',
    '../_base_/detection_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.01))
