_base_ = 'classification_runtime.py'
# the paper's second evaluation: four corners, the centre, and these flipped
tta_model = dict(type='AverageClsScoreTTA')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='mmdla.CornerCrop', crop_size=224, corner=corner)
                for corner in ('top_left', 'top_right', 'bottom_left', 'bottom_right', 'centre')
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='PackInputs')],
        ],
    ),
]
