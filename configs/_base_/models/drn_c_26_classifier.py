# DRN-C-26 with average pooling and a linear classifier, as released
_base_ = 'dla34_classifier.py'
model = dict(backbone=dict(_delete_=True, type='mmdla.DRN', arch='c_26', out_indices=(8,)))
