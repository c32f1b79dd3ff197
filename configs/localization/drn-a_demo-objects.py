# Small DRN-A on generated objects: max pooling, and no degridding levels
_base_ = 'drn-c_demo-objects.py'
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            block='basic',
            depths=(1, 1, 1, 1),
            channels=(24, 32, 48, 64),
            stem=24,
            max_pooling=True,
        ),
        dilation_scheme='paper',  # as released a group of one block is not dilated at all
        out_indices=(4,),
    )
)
