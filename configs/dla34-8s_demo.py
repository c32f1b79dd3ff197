# DLA-34 8s on generated street scenes: the ablation of Figure 2, about a minute on one core
_base_ = 'dla34_demo.py'
model = dict(backbone=dict(out_indices=(3, 4, 5)), decode_head=dict(in_channels=[128, 256, 512]))
