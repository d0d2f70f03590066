"""IDX files, and the subset that ships with the package."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from deep.data import CorruptData, UnknownData, fashion, fashion_mnist_subset, mnist


def idx(array):
    return struct.pack(f">I{array.ndim}I", 2048 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5, 28, 28)), np.array([0, 9, 3, 3, 1])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(x))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y)))
    return tmp_path, x, y


def test_plain_and_gzipped(folder):
    path, x, y = folder
    images = mnist(path)
    np.testing.assert_array_equal(images.x[:, 0], x)
    np.testing.assert_array_equal(images.y, y)
    expected = (x / 255 - 0.2860) / 0.3530
    np.testing.assert_allclose(images.normalised()[:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "has 3919 bytes of data, its header says 3920"),
        (lambda b: b + b"0", "3921 bytes"),
        (lambda b: b[:10], "less than the 16"),
        (lambda b: struct.pack(">I", 2049) + b[4:], "magic number 2049, not 2051"),
        (lambda b: struct.pack(">4I", 2051, 2**31, 2**31, 4), "0 bytes of data, its header says 18446744073709551616"),
        (lambda b: struct.pack(">4I", 2051, 5, 0, 28), "images of 0 x 28 pixels"),
        (lambda b: struct.pack(">4I", 2051, 5, 14, 56) + b[16:], "images of 14 x 56 pixels"),
    ],
)
def test_damaged(folder, change, message):
    path = folder[0] / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorruptData, match=message):
        mnist(folder[0])


def test_truncated_gzip(folder):
    path = folder[0] / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(CorruptData, match="not a whole gzip file"):
        mnist(folder[0])


def test_labels_must_match(folder):
    path = folder[0] / "train-labels-idx1-ubyte.gz"
    for labels in (np.array([1, 2]), np.array([1, 2, 3, 4, 10])):
        path.write_bytes(gzip.compress(idx(labels)))
        with pytest.raises(CorruptData, match="images and"):
            mnist(folder[0])


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither train-images-idx3-ubyte nor"):
        mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        mnist(tmp_path / "x")
    with pytest.raises(ValueError, match="one of MNIST, Fashion-MNIST"):
        mnist(tmp_path, name="KMNIST")


def test_shipped_subset():
    train, test = fashion_mnist_subset("train"), fashion_mnist_subset("test")
    assert (len(train), len(test)) == (5000, 1000)
    assert train.y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as published
    assert test.y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert "first 5,000 training" in train.source


def test_shipped_subset_is_checked(monkeypatch):
    monkeypatch.setattr(fashion, "KNOWN", {})
    with pytest.raises(UnknownData, match="SHA-256"):
        fashion_mnist_subset("test")


def test_known_images_and_trusted_ones(folder):
    path, x, _ = folder
    digest = hashlib.sha256(x.astype(np.uint8).tobytes()).hexdigest()
    assert mnist(path, name="MNIST", known={digest: "five of them"}).source == "five of them"
    with pytest.raises(UnknownData, match=digest):
        mnist(path, known={})
    with pytest.raises(UnknownData, match=digest):
        mnist(path, known={}, trust=digest[:-1])
    assert "unofficial copy" in mnist(path, known={}, trust=digest).source


def test_splits_have_files_and_names_have_statistics(folder):
    path = folder[0]
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        mnist(path, "test")
    for kind in ("images-idx3", "labels-idx1"):
        old = next(path.glob(f"train-{kind}-ubyte*"))
        old.rename(path / old.name.replace("train", "t10k"))
    assert len(mnist(path, "test")) == 5
    assert mnist(path, "test", "MNIST").mean == (0.1307,)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        mnist(path, "t10k")


def test_shipped_subset_is_the_beginning_of_the_official_set():
    shard = Path(__file__).parents[3].parent / "shared" / "data" / "fashion_mnist.npz"
    if not shard.exists():
        pytest.skip("needs the image shards beside the checkout")
    with np.load(shard) as official:
        for split, count in (("train", 5000), ("test", 1000)):
            images = fashion_mnist_subset(split)
            np.testing.assert_array_equal(images.x[:, 0], official[f"x_{split}"][:count])
            np.testing.assert_array_equal(images.y, official[f"y_{split}"][:count])
