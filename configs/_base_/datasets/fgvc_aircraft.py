# FGVC-Aircraft: 100 variants of planes (102 in the paper), 6667 training and 3333 test images
_base_ = 'pipelines_448.py'
data_root = r"""{{$FGVC_AIRCRAFT_ROOT:data/fgvc-aircraft-2013b}}"""
test = dict(type='FGVCAircraft', data_root=data_root, split='test', pipeline={{_base_.test_pipeline}})
train_dataloader = dict(
    dataset=dict(
        type='FGVCAircraft', data_root=data_root, split='trainval', pipeline={{_base_.train_pipeline}}
    )
)
val_dataloader = dict(dataset=test)
test_dataloader = dict(dataset=test)
