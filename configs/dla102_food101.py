# DLA-102 on Food-101: 89.7% accuracy in the paper's Figure 6
_base_ = 'dla34_food101.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
