from ..checkpoints import CheckpointError, read_checkpoint as _r


def read_checkpoint(source, map_location='cpu', plain_only=False):
    return _r(source, map_location)


def load_for_mmengine(filename, map_location=None):
    known = isinstance(map_location, str)
    content = dict(read_checkpoint(filename, str(map_location) if known else 'cpu'))
    if isinstance(content.get('meta'), dict):
        content['meta'] = {k: v for k, v in content['meta'].items() if k != 'config'}
    return content
