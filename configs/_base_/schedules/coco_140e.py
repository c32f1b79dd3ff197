# CenterNet's recipe: Adam, 140 epochs, a tenth of the learning rate after 90 and after 120
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=5e-4))
param_scheduler = [dict(type='MultiStepLR', milestones=[90, 120], gamma=0.1)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=140, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=128)
