_base_ = 'default_runtime.py'
# probabilities of 24 views averaged: three scales, usual for boundaries since RCF; flips and quarter
# turns, this project's: of the rotations that the BSDS recipe trains on those that interpolate nothing
tta_model = dict(type='mmdla.BoundaryTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.5, 1.0, 1.5)],
            [dict(type='mmdla.QuarterTurn', turns=turns) for turns in (0, 1, 2, 3)],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [
                dict(
                    type='PackSegInputs',
                    # mmseg's, and the turns
                    meta_keys=(
                        'img_path',
                        'seg_map_path',
                        'ori_shape',
                        'img_shape',
                        'pad_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                        'quarter_turns',
                    ),
                )
            ],
        ],
    ),
]
