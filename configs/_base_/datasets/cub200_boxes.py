# CUB-200-2011 with the birds' boxes: the training images choose the threshold, the test images tell
_base_ = 'cub200.py'
data_root = '{{$CUB200_ROOT:data/CUB_200_2011}}'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # all of each image, so that no box is cut
    dict(type='Resize', scale=(448, 448), backend='pillow'),
    dict(type='PackInputs', algorithm_keys=['gt_bboxes']),
]
boxes = dict(type='mmdla.CUBBoxes', data_root=data_root, pipeline=test_pipeline)
val_dataloader = dict(dataset=dict(_delete_=True, split='train', **boxes))
test_dataloader = dict(dataset=dict(_delete_=True, split='test', **boxes))
val_evaluator = dict(_delete_=True, type='mmdla.LocalizationMetric')
test_evaluator = val_evaluator
