# Small DRN-B on generated objects: degridding levels with residual connections
_base_ = 'drn-c_demo-objects.py'
model = dict(backbone=dict(arch=dict(degridding_residual=True)))
