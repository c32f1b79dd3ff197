# Stanford Cars: 196 models of cars, 8144 training and 8041 test images
_base_ = 'pipelines_448.py'
data_root = r"""{{$STANFORD_CARS_ROOT:data/stanford_cars}}"""
test = dict(type='StanfordCars', data_root=data_root, split='test', pipeline={{_base_.test_pipeline}})
train_dataloader = dict(
    dataset=dict(
        type='StanfordCars', data_root=data_root, split='train', pipeline={{_base_.train_pipeline}}
    )
)
val_dataloader = dict(dataset=test)
test_dataloader = dict(dataset=test)
