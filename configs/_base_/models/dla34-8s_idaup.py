# DLA-34 with IDA-up at output stride 8 (8s)
_base_ = 'dla34_idaup.py'
model = dict(backbone=dict(out_indices=(3, 4, 5)), decode_head=dict(in_channels=[128, 256, 512]))
