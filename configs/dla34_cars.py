# DLA-34 on Stanford Cars: 92.5% accuracy in the paper's Figure 6
_base_ = [
    '_base_/models/dla34_finetuned.py',
    '_base_/datasets/stanford_cars.py',
    '_base_/schedules/fine_grained_110e.py',
    '_base_/classification_runtime.py',
]
model = dict(data_preprocessor=dict(num_classes=196), head=dict(num_classes=196))
