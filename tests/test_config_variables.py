"""Environment variables in configs: any path that a file system has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
VARIABLE = re.compile(r'\{\{\s*\$\w+')
LINE = re.compile(r'^(\w+) = r"""\{\{\$(\w+):(\S*?)\}\}(.*)"""$', re.MULTILINE)
READING = [path for path in sorted(CONFIGS.rglob('*.py')) if VARIABLE.search(path.read_text())]
# mmengine pastes it as it is into the text of the config.
PATH = "/data/Anne's 'new' disk/the \"second\" {a} & b, #2/grün/set"


@pytest.mark.parametrize('file', READING, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_paths_with_quotes_and_spaces(file, monkeypatch):
    text = file.read_text()
    lines = LINE.findall(text)
    assert len(lines) == len(VARIABLE.findall(text)), 'a variable is read as r"""{{$NAME:default}}"""'
    for _, name, _, _ in lines:
        monkeypatch.delenv(name, raising=False)
    cfg = Config.fromfile(file)
    for key, name, default, rest in lines:
        assert cfg[key] == default + rest
        monkeypatch.setenv(name, PATH)
    cfg = Config.fromfile(file)
    for key, _, _, rest in lines:
        assert cfg[key] == PATH + rest


def test_configs_that_a_run_writes_keep_them(monkeypatch, tmp_path):
    monkeypatch.setenv('CAMVID_ROOT', PATH)
    cfg = Config.fromfile(CONFIGS / 'small_compute/dla34_camvid-small.py')
    cfg.dump(tmp_path / 'dumped.py')
    found = Config.fromfile(tmp_path / 'dumped.py')
    assert found.train_dataloader.dataset.data_root == PATH
