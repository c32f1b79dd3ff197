# Faster R-CNN with DLA-60 and FPN on COCO
_base_ = [
    '../_base_/models/dla60_faster-rcnn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_12e.py',
    '../_base_/detection_runtime.py',
]
