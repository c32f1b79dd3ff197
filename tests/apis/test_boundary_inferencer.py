"""Boundary maps of images, by the inferencer and by the tool."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg')

from mmengine.config import Config

from mmdla.apis import BoundaryInferencer
from mmdla.apis.boundary_inferencer import name_images, overlay, split_inputs
from mmdla.checkpoints import CheckpointError
from mmdla.engine.config import build_model
from mmdla.io.boundary_files import read_boundary_map
from mmdla.io.videos import VideoFrames

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/boundaries/dla34-8s_bsds500.py'
TOOL = 'boundaries/detect_boundaries.py'


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> str:
    """A checkpoint without meta information, of a network that is sure of some pixels."""
    model = build_model(Config.fromfile(CONFIG)).eval()
    model.init_weights()
    head = model.decode_head
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64), mode='tensor')
        spread, middle = torch.std_mean(logits[:, 1] - logits[:, 0])
        head.conv_seg.weight *= 2 / spread
        head.conv_seg.bias[1] -= 2 * middle / spread
    path = tmp_path_factory.mktemp('weights') / 'a.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, image) -> Path:
    root = tmp_path / 'images'
    (root / 'night/rain').mkdir(parents=True)
    cv2.imwrite(str(root / 'a.png'), image)
    cv2.imwrite(str(root / 'night/a.PNG'), image[:40])
    cv2.imwrite(str(root / 'night/rain/b.bmp'), image[:, :50])
    (root / 'notes.txt').write_text('no image')
    (root / '._a.png').write_text('no image either')
    return root


def probability(inferencer, image: np.ndarray) -> np.ndarray:
    """By the network itself."""
    mean, std = inferencer.cfg.model.data_preprocessor.mean, inferencer.cfg.model.data_preprocessor.std
    x = (image[..., ::-1].astype(np.float32) - np.float32(mean)) / np.float32(std)
    with torch.no_grad():
        logits = inferencer.model(torch.from_numpy(x).permute(2, 0, 1)[None], mode='tensor')
    full = F.interpolate(logits, image.shape[:2], mode='bilinear', align_corners=False)
    return full.softmax(1)[0, 1].numpy()


@pytest.mark.parametrize('name', ['dla34_bsds500', 'dla34-4s_bsds500', 'dla102_bsds500'])
def test_weights_of_another_network(weights, name):
    with pytest.raises(CheckpointError, match=r'of another network than the model; .* and \d+ more'):
        BoundaryInferencer(name, weights, device='cpu')


@pytest.mark.parametrize('array', [np.zeros((9, 9, 5), np.uint8), np.zeros((0, 9, 3), np.uint8)])
def test_arrays_that_the_network_does_not_take(weights, array):
    inferencer = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    with pytest.raises(
        ValueError, match=r'image of shape \(.* and type uint8: the network does not accept'
    ):
        inferencer(array)


def test_grey_arrays_and_floats(weights, image):
    inferencer = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    grey = image[:32, :32, 0]
    found = inferencer([grey, np.stack([grey] * 3, 2)])['predictions']
    np.testing.assert_allclose(*found, atol=1e-6)
    found = inferencer(image.astype(np.float32))['predictions']
    np.testing.assert_allclose(found, inferencer(image)['predictions'], atol=1e-6)
    with pytest.warns(UserWarning, match='values are up to 0.996, not 255'):
        inferencer(image[:32, :32] / 255)


@pytest.mark.parametrize('backend', ['cv2', 'tifffile'])
def test_files_are_read_as_the_config_says(backend, tmp_path):
    """Images of 16 bit and one channel, and of five bands of floats."""
    if backend == 'tifffile':
        tifffile = pytest.importorskip('tifffile')
        shape, path = (40, 52, 5), tmp_path / 'a.tif'
        values = np.random.default_rng(0).random(shape, np.float32) * 900
        tifffile.imwrite(path, values, photometric='minisblack', planarconfig='contig')
    else:
        shape, path = (40, 52, 1), tmp_path / 'a.PNG'
        values = np.random.default_rng(0).integers(0, 65535, shape, np.uint16)
        cv2.imwrite(str(path), values)
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.update(arch='46_c', in_channels=shape[2])
    cfg.model.decode_head.in_channels = [64, 128, 256]
    mean, std = float(values.mean()), float(values.std())
    cfg.model.data_preprocessor.update(mean=[mean], std=[std], bgr_to_rgb=False)
    cfg.test_dataloader.dataset.pipeline[0].update(imdecode_backend=backend, color_type='unchanged')
    model = build_model(cfg)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    inferencer = BoundaryInferencer(cfg, str(tmp_path / 'a.pth'), device='cpu')
    (found,) = inferencer([path], out_dir=tmp_path / 'out')['predictions']
    x = (torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None] - mean) / std
    with torch.no_grad():
        logits = F.interpolate(inferencer.model(x, mode='tensor'), shape[:2], mode='bilinear')
    np.testing.assert_allclose(found, logits.softmax(1)[0, 1].numpy(), atol=1e-4)
    assert cv2.imread(str(tmp_path / 'out/overlays/a.jpg')).shape == (40, 52, 3)


def test_by_name_and_by_path_alike(weights, image, folder):
    by_name = BoundaryInferencer('dla34-8s_bsds500', weights, device='cpu')
    by_path = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    found = by_name(image)['predictions']
    assert (found.shape, found.dtype) == ((61, 83), np.float32)
    assert 0.1 < found.std() < 0.45
    np.testing.assert_allclose(found, probability(by_name, image), atol=1e-5)
    np.testing.assert_array_equal(by_path(folder / 'a.png')['predictions'], found)
    np.testing.assert_array_equal(by_path.detect(str(folder / 'a.png')), found)
    several = by_path([image, image[:33]])['predictions']
    assert [p.shape for p in several] == [(61, 83), (33, 83)]
    assert [p.shape for p in by_path(folder)['predictions']] == [(61, 83), (40, 83), (61, 50)]
    assert by_path.model.dataset_meta['classes'][1] == 'boundary'


def test_files_are_written_and_never_over_others(weights, image, tmp_path):
    inferencer = BoundaryInferencer('dla34-8s_bsds500', weights, device='cpu')
    (found,) = inferencer([image], out_dir=tmp_path, threshold=0.7)['predictions']
    written = read_boundary_map(tmp_path / 'maps/00000000.png')
    assert np.abs(written - found).max() <= 0.5001 / 65535
    drawn = cv2.imread(str(tmp_path / 'overlays/00000000.jpg'))
    assert drawn.shape == image.shape
    with pytest.raises(FileExistsError, match=r'00000000.png exists already; choose another'):
        inferencer([image], out_dir=tmp_path)


def test_overlay_shows_what_is_above(image):
    p = np.zeros((61, 83), np.float32)
    p[3, 4], p[3, 5] = 0.5, 0.49
    drawn = overlay(image, p)
    assert tuple(drawn[3, 4]) == (40, 200, 255)
    assert (drawn[3, 5] == image[3, 5] // 2).all()
    assert image.max() == 254, 'the image stays'


def test_augmented(weights, image, tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.tta_pipeline[1].transforms[0] = cfg.tta_pipeline[1].transforms[0][:2]
    # what loads annotations is for evaluation only
    cfg.tta_pipeline[1].transforms.insert(0, [dict(type='LoadAnnotations')])
    inferencer = BoundaryInferencer(cfg, weights, tta=True, device='cpu')
    found = inferencer(image)['predictions']
    assert (found.shape, found.dtype) == ((61, 83), np.float32)
    # all turns and flips are among the views
    turned = inferencer(np.rot90(image).copy())['predictions']
    assert np.abs(np.rot90(found) - turned).max() < 0.05
    plain = BoundaryInferencer(cfg, weights, device='cpu')(image)['predictions']
    assert np.abs(found - plain).max() > 0.05
    cfg.tta_model.type = 'mmdla.LogProbTTAModel'
    with pytest.raises(ValueError, match=r'tta=True: tta_model .* must be a BoundaryTTAModel'):
        BoundaryInferencer(cfg, weights, tta=True, device='cpu')
    cfg.tta_pipeline = []
    with pytest.raises(ValueError, match='tta_pipeline: must begin with a transform that loads'):
        BoundaryInferencer(cfg, weights, tta=True, device='cpu')


def test_thinned(weights, image):
    edge_nms = pytest.importorskip('mmdla.evaluation.boundary.nms').edge_nms
    inferencer = BoundaryInferencer('dla34-8s_bsds500', weights, device='cpu')
    found = inferencer(image, nms=True)['predictions']
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, edge_nms(inferencer(image)['predictions']), atol=1e-6)


def test_what_is_wrong_is_said(weights, image, tmp_path, folder):
    with pytest.raises(ValueError, match=r"model='dla34_camvid': neither .* dla34_bsds500"):
        BoundaryInferencer('dla34_camvid', weights, device='cpu')
    with pytest.raises(ValueError, match='no weights are published for this model; give a path'):
        BoundaryInferencer('dla34_bsds500', device='cpu')
    camvid = Config.fromfile(ROOT / 'configs/dla34-8s_camvid.py')
    torch.save(build_model(camvid).state_dict(), tmp_path / 'camvid.pth')
    with pytest.raises(ValueError, match=r'is no boundary detector, .* this has 11'):
        BoundaryInferencer(camvid, str(tmp_path / 'camvid.pth'), device='cpu')
    inferencer = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    with pytest.raises(FileNotFoundError, match=r'b\.png: no such image or folder'):
        inferencer(tmp_path / 'b.png')
    with pytest.raises(ValueError, match=r'notes\.txt: the pipeline cannot load it as an image: '):
        inferencer(folder / 'notes.txt')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty: the folder holds no image'):
        name_images(tmp_path / 'empty')
    assert list(name_images([folder, image])) == ['a', 'night/a', 'night/rain/b', '00000001']
    with pytest.raises(ValueError, match=r'a.png and .*a.png: both would be written as .*a.png'):
        name_images([folder / 'a.png', folder / 'a.png'])


def test_images_of_one_name_are_kept_apart(folder, image, tmp_path):
    def named(*inputs) -> list[str]:
        return list(name_images(list(inputs)))

    assert named(folder / 'a.png', folder / 'night/a.PNG') == ['a', 'night/a']
    copy = tmp_path / 'copy'
    shutil.copytree(folder, copy)
    assert named(folder, copy)[:2] == ['images/a', 'images/night/a']
    assert named(folder, copy)[3:5] == ['copy/a', 'copy/night/a']
    (folder / '00000001.png').write_bytes((folder / 'a.png').read_bytes())
    assert named(folder / '00000001.png', image) == ['00000001.png', '00000001']
    (folder / 'night/a.jpg').write_bytes((folder / 'a.png').read_bytes())
    assert named(folder / 'night') == ['a.PNG', 'a.jpg', 'rain/b']
    (tmp_path / 'linked').mkdir()
    (tmp_path / 'linked/evening').symlink_to(folder / 'night')
    assert named(tmp_path / 'linked') == ['evening/a.PNG', 'evening/a.jpg', 'evening/rain/b']


def by_scales(inferencer, image: np.ndarray, scales) -> np.ndarray:
    """The mean of the probabilities that the network gives the resized images."""
    maps = []
    for scale in scales:
        size = tuple(int(side * scale + 0.5) for side in image.shape[1::-1])
        mean, std = (inferencer.cfg.model.data_preprocessor[k] for k in ('mean', 'std'))
        x = (cv2.resize(image, size)[..., ::-1].astype(np.float32) - np.float32(mean)) / np.float32(std)
        with torch.no_grad():
            logits = inferencer.model.module(torch.from_numpy(x).permute(2, 0, 1)[None], mode='tensor')
        # to the scaled image, and on to the image itself, as mmseg does
        for shape in (x.shape[:2], image.shape[:2]):
            logits = F.interpolate(logits, shape, mode='bilinear', align_corners=False)
        maps.append(logits.softmax(1)[0, 1].numpy())
    return np.mean(maps, 0)


def test_scales_are_averaged(weights, image):
    scales = (0.5, 1, 1.5)
    inferencer = BoundaryInferencer(str(CONFIG), weights, scales=scales, device='cpu')
    found = inferencer(image)['predictions']
    assert (found.shape, found.dtype) == ((61, 83), np.float32)
    np.testing.assert_allclose(found, by_scales(inferencer, image, scales), atol=1e-4)
    one = BoundaryInferencer(str(CONFIG), weights, scales=[1], device='cpu')(image)['predictions']
    plain = BoundaryInferencer(str(CONFIG), weights, device='cpu')(image)['predictions']
    np.testing.assert_allclose(one, plain, atol=1e-6)
    assert np.abs(found - plain).max() > 0.05
    for scales, message in (
        ([], r'scales=\[\]: must be numbers'),
        ([0.5, 0], r'scales=\[0.5, 0\]: must'),
    ):
        with pytest.raises(ValueError, match=message):
            BoundaryInferencer(str(CONFIG), weights, scales=scales, device='cpu')
    with pytest.raises(ValueError, match=r'scales=\[2\] and tta=True: .* leave one of them out'):
        BoundaryInferencer(str(CONFIG), weights, tta=True, scales=[2], device='cpu')


@pytest.fixture
def video(tmp_path, image) -> Path:
    """Four frames, of ten a second."""
    path = tmp_path / 'clips/street.avi'
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip('this OpenCV cannot write MJPG')
    for k in range(4):
        writer.write(cv2.GaussianBlur(np.roll(image[:48, :64], 8 * k, 1), (0, 0), 2))
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (found := capture.read())[0]:
        frames.append(found[1])
    return frames


def test_videos(weights, video, tmp_path):
    inferencer = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    assert inferencer.write_video(video, tmp_path / 'out', threshold=0.7) == 4
    names = sorted(p.name for p in (tmp_path / 'out/maps/street').iterdir())
    assert names == [f'00000{k}.png' for k in range(4)]
    drawn, frames = frames_of(tmp_path / 'out/overlays/street.mp4'), frames_of(video)
    assert len(drawn) == 4
    for k, (frame, picture) in enumerate(zip(frames, drawn)):
        found = read_boundary_map(tmp_path / f'out/maps/street/00000{k}.png')
        wanted = inferencer(frame)['predictions']
        assert np.abs(found - wanted).max() <= 0.5001 / 65535
        assert np.abs(picture.astype(float) - overlay(frame, wanted, 0.7)).mean() < 16
    assert cv2.VideoCapture(str(tmp_path / 'out/overlays/street.mp4')).get(cv2.CAP_PROP_FPS) == 10
    with pytest.raises(FileExistsError, match=r'street.mp4 exists already; choose another out_dir'):
        inferencer.write_video(video, tmp_path / 'out')
    assert inferencer.write_video(video, tmp_path / 'two', only='maps', max_frames=2) == 2
    files = [p.relative_to(tmp_path / 'two').as_posix() for p in (tmp_path / 'two').rglob('*.*')]
    assert sorted(files) == ['maps/street/000000.png', 'maps/street/000001.png']
    with pytest.raises(ValueError, match="only='map': must be 'maps' or 'overlays', or None for both"):
        inferencer.write_video(video, tmp_path / 'three', only='map')


def test_a_video_that_ends_early_or_is_none(video, tmp_path, monkeypatch):
    capture = cv2.VideoCapture

    class Claims:
        def __init__(self, source: str):
            self.capture = capture(source)

        def get(self, key: int) -> float:
            return 9.0 if key == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(key)

        def __getattr__(self, name: str):
            return getattr(self.capture, name)

    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'VideoCapture', Claims)
        with pytest.warns(UserWarning, match=r'street\.avi: ends after 4 frames, but states 9'):
            assert len(list(VideoFrames(video))) == 4
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert len(list(VideoFrames(video, 4))) == 4
    cut = tmp_path / 'cut.avi'
    cut.write_bytes(b'none')
    with pytest.raises(ValueError, match=r'cut\.avi: OpenCV cannot read this file as a video'):
        VideoFrames(cut)
    with pytest.raises(ValueError, match='max_frames=0: must be a whole number, 1 or more'):
        VideoFrames(video, 0)
    assert len(list(VideoFrames(video, 3))) == VideoFrames(video, 3).count == 3


class Camera:
    """In place of OpenCV's: an endless one, which is interrupted at the keyboard."""

    def __init__(self, source: int):
        self.left = 5 if source == 0 else 0

    def isOpened(self) -> bool:
        return self.left > 0

    def get(self, key: int) -> float:
        return -1.0 if key == cv2.CAP_PROP_FRAME_COUNT else 0.0

    def read(self) -> tuple[bool, np.ndarray]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return True, np.full((40, 48, 3), 40 * self.left, np.uint8)

    def release(self) -> None:
        pass


def test_cameras(run_tool, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    inferencer = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    assert inferencer.write_video(0, tmp_path / 'all') == 5
    monkeypatch.chdir(tmp_path)  # where no file is called 0
    status, text = run_tool(
        TOOL, CONFIG, weights, '0', '--max-frames', 3, '--out-dir', tmp_path / 'three'
    )
    assert status == 0, text
    assert f'Written: maps and overlays of 3 frames in {tmp_path / "three"}' in text
    assert len(list((tmp_path / 'three/maps/camera_0').iterdir())) == 3
    status, text = run_tool(TOOL, CONFIG, weights, '7', '--out-dir', tmp_path / 'none')
    assert text.endswith('detect_boundaries: camera 7: OpenCV cannot open this camera')
    monkeypatch.undo()
    assert len(frames_of(tmp_path / 'all/overlays/camera_0.mp4')) == 5


def test_tool_on_folders_and_videos_at_scales(run_tool, weights, folder, video, tmp_path):
    out = tmp_path / 'out'
    args = ('--scales', '0.5', '1', '--only', 'maps', '--out-dir', out)
    status, text = run_tool(TOOL, CONFIG, weights, folder / 'night', video, *args)
    assert status == 0, text
    assert f'Written: maps of 2 images and 4 frames in {out}' in text
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob('*') if p.is_file())
    assert files == ['maps/a.png', 'maps/rain/b.png', *(f'maps/street/00000{k}.png' for k in range(4))]
    inferencer = BoundaryInferencer(str(CONFIG), weights, scales=[0.5, 1], device='cpu')
    wanted = inferencer(folder / 'night/a.PNG')['predictions']
    assert np.abs(read_boundary_map(out / 'maps/a.png') - wanted).max() <= 0.5001 / 65535


def test_inputs_of_the_tool(video, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_inputs([folder, video, Path('1')]) == ([folder], [video, 1])
    (tmp_path / '1').mkdir()
    assert split_inputs([Path('1'), tmp_path / '2']) == ([Path('1'), tmp_path / '2'], [])
    with pytest.raises(FileNotFoundError, match=r'other\.mp4: no such video'):
        split_inputs([tmp_path / 'other.mp4'])
    with pytest.raises(ValueError, match=r'street\.avi and .*: both would be written as street'):
        split_inputs([video, video])


def test_tool_writes_what_evaluation_reads(run_tool, weights, folder, tmp_path):
    out = tmp_path / 'out'
    status, text = run_tool(
        TOOL, CONFIG, weights, folder, '--out-dir', out, '--overlay-threshold', '0.6'
    )
    assert status == 0, text
    assert f'Written: maps and overlays of 3 images in {out}' in text
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob('*') if p.is_file())
    names = ('a', 'night/a', 'night/rain/b')
    assert files == [*(f'maps/{n}.png' for n in names), *(f'overlays/{n}.jpg' for n in names)]
    inferencer = BoundaryInferencer(str(CONFIG), weights, device='cpu')
    for name, wanted in zip(names, inferencer(folder)['predictions']):
        values = cv2.imread(str(out / f'maps/{name}.png'), cv2.IMREAD_UNCHANGED)
        assert values.dtype == np.uint16
        np.testing.assert_array_equal(values, np.rint(wanted.astype(float) * 65535))

    before = {p: p.read_bytes() for p in out.rglob('*') if p.is_file()}
    status, text = run_tool(TOOL, CONFIG, weights, folder, '--out-dir', out)
    assert text.endswith(f'detect_boundaries: {out} holds something already; choose another --out-dir')
    assert before == {p: p.read_bytes() for p in out.rglob('*') if p.is_file()}


def test_tool_augments(run_tool, weights, folder, tmp_path):
    one = folder / 'night/a.PNG'
    status, text = run_tool(TOOL, CONFIG, weights, one, '--tta', '--out-dir', tmp_path / 'out')
    assert status == 0, text
    inferencer = BoundaryInferencer(str(CONFIG), weights, tta=True, device='cpu')
    wanted = inferencer(one)['predictions']
    assert np.abs(read_boundary_map(tmp_path / 'out/maps/a.png') - wanted).max() < 1e-5


def test_tool_says_what_is_wrong(run_tool, weights, folder, tmp_path):
    def wrong(*args) -> str:
        status, text = run_tool(TOOL, *args, '--out-dir', tmp_path / 'out')
        assert status != 0
        return text

    assert 'detect_boundaries: ' in wrong(tmp_path / 'none.py', weights, folder)
    classifier = ROOT / 'configs/dla34_imagenet.py'
    assert 'is no config of a segmentor of mmseg' in wrong(classifier, weights, folder)
    assert f'{tmp_path / "none"}: no such image' in wrong(CONFIG, weights, tmp_path / 'none')
    assert 'there is no such file' in wrong(CONFIG, tmp_path / 'none.pth', folder)
    text = wrong(CONFIG, weights, folder, '--overlay-threshold', '1.5')
    assert '--overlay-threshold 1.5 must be from 0 to 1' in text
    assert '--max-frames 0 must be 1 or more' in wrong(CONFIG, weights, folder, '--max-frames', 0)
    text = wrong(CONFIG, weights, folder, '--tta', '--scales', 2)
    assert 'detect_boundaries: scales=[2.0] and tta=True' in text
    assert 'clip.mp4: no such video' in wrong(CONFIG, weights, tmp_path / 'clip.mp4')
    assert 'both would be written as ' in wrong(CONFIG, weights, folder / 'a.png', folder / 'a.png')
    assert not (tmp_path / 'out').exists()
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0')
    assert f'{folder / "broken.jpg"}: the pipeline cannot load it' in wrong(CONFIG, weights, folder)
