# DLA-102 on CUB-200 birds: 85.1% accuracy in the paper's Figure 6
_base_ = 'dla34_cub200.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
