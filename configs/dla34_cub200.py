# DLA-34 on CUB-200 birds: 82.7% accuracy in the paper's Figure 6
_base_ = [
    '_base_/models/dla34_finetuned.py',
    '_base_/datasets/cub200.py',
    '_base_/schedules/fine_grained_110e.py',
    '_base_/classification_runtime.py',
]
model = dict(data_preprocessor=dict(num_classes=200), head=dict(num_classes=200))
