# DLA-102 on FGVC-Aircraft: 92.6% accuracy in the paper's Figure 6
_base_ = 'dla34_aircraft.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
