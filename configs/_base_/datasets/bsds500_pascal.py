# HED's augmented BSDS500 and PASCAL-Context together; validated and tested on BSDS500
_base_ = 'bsds500_hed.py'
pascal_root = r"""{{$PASCAL_CONTEXT_BOUNDARIES_ROOT:data/PASCAL}}"""
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        # for another ratio: dict(type='RepeatDataset', times=..., dataset=...) around one of them
        datasets=[
            dict(
                type='mmdla.BoundaryPairsDataset',
                data_root={{_base_.data_root}},
                ann_file='train_pair.lst',
                pipeline={{_base_.train_pipeline}},
            ),
            dict(
                type='mmdla.BoundaryPairsDataset',
                data_root=pascal_root,
                ann_file='train_pair.lst',
                pipeline={{_base_.train_pipeline}},
            ),
        ],
    )
)
