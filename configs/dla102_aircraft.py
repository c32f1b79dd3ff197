# DLA-102 on FGVC-Aircraft, fine-tuned at 448 pixels
_base_ = 'dla34_aircraft.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
