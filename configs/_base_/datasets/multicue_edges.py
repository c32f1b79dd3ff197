# Multicue's edges, of low level too, on the splits of its boundaries
_base_ = 'multicue_boundaries.py'
train_dataloader = dict(dataset=dict(ann_file='train_pair_edge_set_{{$MULTICUE_SET:1}}.lst'))
val_dataloader = dict(dataset=dict(ann_file='test_pair_edge_set_{{$MULTICUE_SET:1}}.lst'))
test_dataloader = dict(dataset=dict(ann_file='test_pair_edge_set_{{$MULTICUE_SET:1}}.lst'))
