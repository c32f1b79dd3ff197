# Multicue's edges, of low level too, on the splits of its boundaries
_base_ = 'multicue_boundaries.py'
random_split = r"""{{$MULTICUE_SET:1}}"""
train_dataloader = dict(dataset=dict(ann_file=f'train_pair_edge_set_{random_split}.lst'))
val_dataloader = dict(dataset=dict(ann_file=f'test_pair_edge_set_{random_split}.lst'))
test_dataloader = dict(dataset=dict(ann_file=f'test_pair_edge_set_{random_split}.lst'))
