# DLA-102 on Stanford Cars: 94.1% accuracy in the paper's Figure 6
_base_ = 'dla34_cars.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
