# ImageNet's validation images with their boxes: a fifth calibrates the threshold
_base_ = 'imagenet.py'
data_root = r"""{{$IMAGENET_ROOT:data/imagenet}}"""
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # all of each image, so that no box is cut
    dict(type='Resize', scale=(224, 224), backend='pillow'),
    dict(type='PackInputs', algorithm_keys=['gt_bboxes']),
]
boxes = dict(type='mmdla.ImageNetBoxes', data_root=data_root, split='val', pipeline=test_pipeline)
val_dataloader = dict(dataset=dict(_delete_=True, subset='calibration', **boxes))
test_dataloader = dict(dataset=dict(_delete_=True, subset='evaluation', **boxes))
val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='mmdla.LocalizationMetric')]
test_evaluator = val_evaluator
