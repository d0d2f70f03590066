"""Every data set by its name, and the mapped copy that a second call finds."""

import gzip
import hashlib
import io
import os
import struct

import numpy as np
import pytest
import torch

from deep.data import Images, UnknownData, cifar, fashion, idx, load, mapped
from deep.data.load import OFFICIAL, Official

FILES = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def write_cifar(folder, name, count, classes, head=1, seed=0):
    """Records of random labels and planes; returns them and the SHA-256 that the reader asks for."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, classes, (count, head))
    folder.mkdir(parents=True, exist_ok=True)
    np.concatenate([y.astype(np.uint8), x.reshape(count, -1)], 1).tofile(folder / f"{name}.bin")
    return x, y[:, -1], hashlib.sha256(np.ascontiguousarray(x.transpose(0, 2, 3, 1)).tobytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A CIFAR-10 of four test images, which passes for the published one."""
    monkeypatch.setattr(cifar, "COUNT", {"train": 20, "test": 4})
    x, y, digest = write_cifar(tmp_path / "cifar-10-batches-bin", "test_batch", 4, 10)
    monkeypatch.setitem(cifar.KNOWN, digest, "the real thing")
    return tmp_path, x, y


def copy_of(folder):
    return folder / "cifar-10-batches-bin" / "cifar10-test.npy"


def read_only_once(monkeypatch):
    """Reading the official files again fails the test."""
    for name, official in list(OFFICIAL.items()):
        monkeypatch.setitem(OFFICIAL, name, Official(official.files, None))


def same(images, x, y):
    np.testing.assert_array_equal(images.x.numpy(), x)
    np.testing.assert_array_equal(images.y.numpy(), y)
    assert (images.classes, images.source) == (10, "the real thing")
    assert (images.mean, images.std) == (cifar.MEAN[10], cifar.STD[10])
    assert (images.x.dtype, images.y.dtype) == (torch.uint8, torch.int64)


def test_the_second_call_reads_the_copy(folder, monkeypatch):
    path, x, y = folder
    same(load("cifar10", path, "test"), x, y)
    read_only_once(monkeypatch)
    same(load("cifar10", path, "test"), x, y)
    same(load("cifar10", path / "cifar-10-batches-bin", "test"), x, y)


def test_the_copy_is_a_plain_npy_file(folder):
    path, x, _ = folder
    load("cifar10", path, "test")
    np.testing.assert_array_equal(np.load(copy_of(path), mmap_mode="r", allow_pickle=False), x)
    assert [p.name for p in copy_of(path).parent.iterdir() if p.suffix == ".part"] == []


def test_images_are_mapped_and_private(folder):
    """What is written into the file shows in the tensor, so that nothing was copied; not the other way round."""
    path, x, _ = folder
    images = load("cifar10", path, "test")
    there = np.load(copy_of(path), mmap_mode="r+")
    there[1, 2, 3, 4] = 255 - x[1, 2, 3, 4]
    there.flush()
    assert images.x[1, 2, 3, 4] == 255 - x[1, 2, 3, 4]
    images.x[0] = 7
    np.testing.assert_array_equal(np.load(copy_of(path))[0], x[0])


def test_a_changed_official_file_is_read_again(folder, monkeypatch):
    path, old, _ = folder
    before = load("cifar10", path, "test")
    x, y, digest = write_cifar(path / "cifar-10-batches-bin", "test_batch", 4, 10, seed=1)
    os.utime(path / "cifar-10-batches-bin" / "test_batch.bin", ns=(1, 1))  # a clock too coarse to see the change
    with pytest.raises(UnknownData):
        load("cifar10", path, "test")
    monkeypatch.setitem(cifar.KNOWN, digest, "the real thing")
    same(load("cifar10", path, "test"), x, y)
    np.testing.assert_array_equal(before.x, old)  # still mapped from the file that was replaced


def cut(content):
    return content[: len(content) // 2]


def test_a_copy_by_another_version_is_made_again(folder, monkeypatch):
    path, x, y = folder
    with monkeypatch.context() as patch:
        patch.setitem(cifar.MEAN, 10, (0.1, 0.2, 0.3))
        assert load("cifar10", path, "test").mean == (0.1, 0.2, 0.3)
    monkeypatch.setattr(mapped, "VERSION", mapped.VERSION + 1)
    same(load("cifar10", path, "test"), x, y)


def rewritten(content, change):
    """The arrays of a copy, changed."""
    stream, out = io.BytesIO(content), io.BytesIO()
    for array in change(*(np.load(stream) for _ in range(3))):
        np.save(out, array)
    return out.getvalue()


def swapped(content):
    return rewritten(content, lambda x, y, text: (y, x, text))


def fewer_labels(content):
    return rewritten(content, lambda x, y, text: (x, y[:-1], text))


def listed(content):
    return rewritten(content, lambda x, y, text: (x, y, np.frombuffer(b"[1, 2]", np.uint8)))


def unstamped(content):
    return content.replace(b'"stamp"', b'"state"')


def pickled(content):
    out = io.BytesIO()
    np.save(out, np.array([print], object), allow_pickle=True)
    return out.getvalue()


def zipped(content):
    return b"PK\x03\x04" + content


@pytest.mark.parametrize(
    "damage",
    [cut, swapped, fewer_labels, unstamped, listed, pickled, zipped, lambda b: b[:-1], lambda b: b[:40], lambda b: b""],
)
def test_a_damaged_copy_is_made_again(folder, damage):
    path, x, y = folder
    load("cifar10", path, "test")
    whole = copy_of(path).read_bytes()
    assert damage(whole) != whole
    copy_of(path).write_bytes(damage(whole))
    same(load("cifar10", path, "test"), x, y)
    assert copy_of(path).read_bytes() == whole


def test_a_folder_that_is_read_only_is_silent(folder, monkeypatch):
    path, x, y = folder

    def refuse(*_):
        raise PermissionError("read-only file system")

    for step in ("os.replace", "builtins.open"):
        images = Images(torch.from_numpy(x), torch.from_numpy(y), 10, cifar.MEAN[10], cifar.STD[10], "the real thing")
        with monkeypatch.context() as patch:
            patch.setattr(step, refuse)
            same(mapped.mapped(path / "copy.npy", [], lambda images=images: images), x, y)
        assert [p.name for p in path.iterdir()] == ["cifar-10-batches-bin"]


def test_trusted_images_are_read_and_not_copied(folder, monkeypatch):
    path, _, _ = folder
    x, _, digest = write_cifar(path / "cifar-10-batches-bin", "test_batch", 4, 10, seed=1)
    for _ in range(2):
        with pytest.raises(UnknownData, match=digest):
            load("cifar10", path, "test")
        images = load("cifar10", path, "test", trust=digest)
        np.testing.assert_array_equal(images.x, x)
        assert "unofficial" in images.source
    assert not copy_of(path).exists()


def test_cifar100_has_its_fine_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "COUNT", {"train": 20, "test": 4})
    _, fine, digest = write_cifar(tmp_path / "cifar-100-binary", "test", 4, 20, head=2)
    monkeypatch.setitem(cifar.KNOWN, digest, "the real thing")
    for _ in range(2):
        images = load("cifar100", tmp_path, "test")
        np.testing.assert_array_equal(images.y, fine)
        assert images.classes == 100
        assert images.mean == cifar.MEAN[100]


def write_idx(folder, seed):
    rng, content = np.random.default_rng(seed), {}
    folder.mkdir()
    for name in FILES:
        shape = (5, 28, 28) if "images" in name else (5,)
        data = rng.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        content[name] = struct.pack(f">I{data.ndim}I", 2048 + data.ndim, *shape) + data.tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content[name]))
    return {name: hashlib.md5(there).hexdigest() for name, there in content.items()}


def test_mnist_and_fashion_mnist_lie_side_by_side(tmp_path, monkeypatch):
    for seed, (name, title) in enumerate({"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}.items()):
        sums = write_idx(tmp_path / name, seed)
        with pytest.raises(UnknownData, match=f"{title} test are not the published ones"):
            load(name, tmp_path, "test")
        monkeypatch.setitem(idx.MD5, title, sums)
    one, other = (load(name, tmp_path, "test") for name in ("mnist", "fashion-mnist"))
    assert (one.source, other.source) == ("MNIST", "Fashion-MNIST")
    assert (one.mean, other.mean) == ((0.1307,), (0.2860,))
    assert not torch.equal(one.x, other.x)
    inside = load("mnist", tmp_path / "mnist", "test")
    assert torch.equal(inside.x, one.x)
    with pytest.raises(UnknownData, match="MNIST test"):
        load("mnist", tmp_path / "fashion-mnist", "test")


@pytest.mark.parametrize("wrong", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_images_and_labels_have_to_be_official(tmp_path, monkeypatch, wrong):
    sums = write_idx(tmp_path / "mnist", 0)
    monkeypatch.setitem(idx.MD5, "MNIST", {**sums, wrong: "0" * 32})
    with pytest.raises(UnknownData, match="MNIST test"):
        load("mnist", tmp_path, "test")


def test_bad_input_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="unknown data 'cifar': choose one of cifar10, cifar100, mnist, fashion-mnist"):
        load("cifar")
    with pytest.raises(ValueError, match=r"cifar10 needs the folder .* `linfa data get cifar10 --out FOLDER`"):
        load("cifar10")
    with pytest.raises(ValueError, match="is in the package and not in"):
        load("fashion-mnist-subset", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load("mnist", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no CIFAR-100 train set"):
        load("cifar100", tmp_path)
    for name in ("cifar10", "mnist"):
        with pytest.raises(ValueError, match="'train' or 'test'"):
            load(name, tmp_path, "validation")


def test_the_subset_needs_no_folder():
    assert torch.equal(load("fashion-mnist-subset").x, fashion.fashion_mnist_subset().x)
