# DLA-34 on FGVC-Aircraft: 91.6% accuracy in the paper's Figure 6
_base_ = [
    '_base_/models/dla34_finetuned.py',
    '_base_/datasets/fgvc_aircraft.py',
    '_base_/schedules/fine_grained_110e.py',
    '_base_/classification_runtime.py',
]
model = dict(data_preprocessor=dict(num_classes=100), head=dict(num_classes=100))
