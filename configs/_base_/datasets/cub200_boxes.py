# CUB-200-2011 with the boxes of the test images: a fifth calibrates the threshold
_base_ = 'cub200.py'
data_root = r"""{{$CUB200_ROOT:data/CUB_200_2011}}"""
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # all of each image, so that no box is cut
    dict(type='Resize', scale=(448, 448), backend='pillow'),
    dict(type='PackInputs', algorithm_keys=['gt_bboxes']),
]
boxes = dict(type='mmdla.CUBBoxes', data_root=data_root, split='test', pipeline=test_pipeline)
val_dataloader = dict(dataset=dict(_delete_=True, subset='calibration', **boxes))
test_dataloader = dict(dataset=dict(_delete_=True, subset='evaluation', **boxes))
val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='mmdla.LocalizationMetric')]
test_evaluator = val_evaluator
