# DLA-102 on Food-101, fine-tuned at 448 pixels
_base_ = 'dla34_food101.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
