# DLA-102 on CUB-200 birds, fine-tuned at 448 pixels
_base_ = 'dla34_cub200.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
