# Small DRN-C on generated objects: trained with class labels, evaluated on boxes
_base_ = [
    '../_base_/models/drn_c_26_classifier.py',
    '../_base_/datasets/demo_objects.py',
    '../_base_/schedules/demo_15e.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_classes=8),
    backbone=dict(
        arch=dict(
            _delete_=True,
            block='basic',
            depths=(1, 1, 1, 1, 1, 1, 1, 1),
            channels=(8, 16, 24, 32, 48, 64, 64, 64),
            degridding_residual=False,
        )
    ),
    neck=None,
    head=dict(
        type='mmdla.ClassMapHead',
        num_classes=8,
        in_channels=64,
        # bounded responses: else the maps grow in size, which raises their mean too
        loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1),
    ),
)
