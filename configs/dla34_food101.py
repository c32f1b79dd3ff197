# DLA-34 on Food-101: 87.8% accuracy in the paper's Figure 6
_base_ = [
    '_base_/models/dla34_finetuned.py',
    '_base_/datasets/food101.py',
    '_base_/schedules/fine_grained_110e.py',
    '_base_/classification_runtime.py',
]
model = dict(data_preprocessor=dict(num_classes=101), head=dict(num_classes=101))
