# Generated pictures of one thing each, with its class and box, drawn on first use
_base_ = 'loaders.py'
dataset_type = 'mmdla.DemoObjectsDataset'
data_root = r"""{{$DEMO_OBJECTS_ROOT:data/demo_objects}}"""
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs', algorithm_keys=['gt_bboxes']),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, split='test', pipeline=test_pipeline),
)
val_evaluator = [
    dict(type='Accuracy', topk=(1, 5)),
    dict(type='mmdla.LocalizationMetric', rule='contour', prefix='contour'),
    dict(
        type='mmdla.LocalizationMetric',
        rule='dominant',
        prefix='dominant',
        # of eight classes the largest has a softmax near 1 almost everywhere
        thresholds=[1 - 10 ** (-k / 20) for k in range(100)],
    ),
]
test_evaluator = val_evaluator
