# DLA-102 with IDA-up at output stride 2 (2s) for boundaries
_base_ = 'dla34_boundary.py'
model = dict(backbone=dict(arch='102'), decode_head=dict(in_channels=[32, 128, 256, 512, 1024]))
