# DLA-34 with IDA-up at output stride 2 (2s) for boundaries
_base_ = 'dla34_idaup.py'
model = dict(
    decode_head=dict(
        type='mmdla.BoundaryHead',
        num_classes=2,
        # released: two classes, of which boundary weighs 10
        loss_decode=dict(_delete_=True, type='mmdla.BoundaryCrossEntropyLoss', class_weight=[1, 10]),
    )
)
