# A small DRN-B beside drn-c_demo-objects.py: with shortcuts in levels 7 and 8
_base_ = 'drn-c_demo-objects.py'
model = dict(backbone=dict(arch=dict(degridding_residual=True)))
