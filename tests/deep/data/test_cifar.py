"""CIFAR files in both official formats, whole, damaged and hostile."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deep.data import CorruptData, UnknownData, cifar, cifar10, cifar100

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def small(monkeypatch):
    """Sets of 20 training and 4 test images instead of 50,000 and 10,000."""
    monkeypatch.setattr(cifar, "COUNT", {"train": 20, "test": 4})


def content(count, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, classes, count)


def digest(planes):
    return hashlib.sha256(
        np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)).tobytes()
    ).hexdigest()


def write_binary(folder, name, x, *labels):
    folder.mkdir(parents=True, exist_ok=True)
    np.concatenate([*(np.asarray(y, np.uint8)[:, None] for y in labels), x], axis=1).tofile(folder / f"{name}.bin")


def write_python(folder, name, **entries):
    folder.mkdir(parents=True, exist_ok=True)
    table = {key.encode(): value for key, value in entries.items()}
    (folder / name).write_bytes(pickle.dumps(table, protocol=2))


@pytest.fixture
def binary(tmp_path, small):
    x, y = content(20)
    for i in range(5):
        write_binary(
            tmp_path / "cifar-10-batches-bin", f"data_batch_{i + 1}", x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4]
        )
    return tmp_path, x, y


def test_binary(binary):
    folder, x, y = binary
    images = cifar10(folder, trust=digest(x))
    np.testing.assert_array_equal(images.x.numpy().reshape(20, -1), x)
    np.testing.assert_array_equal(images.y.numpy(), y)
    assert images.x[3, 1, 2, 5] == x[3, 1024 + 2 * 32 + 5]
    assert "unofficial" in images.source
    inside = cifar10(folder / "cifar-10-batches-bin", trust=digest(x))
    assert (inside.x == images.x).all()


def test_python_gives_what_binary_gives(binary, tmp_path):
    folder, x, y = binary
    other = tmp_path / "py"
    for i in range(5):
        part = slice(4 * i, 4 * i + 4)
        write_python(other / "cifar-10-batches-py", f"data_batch_{i + 1}", data=x[part], labels=y[part].tolist())
    a, b = cifar10(folder, trust=digest(x)), cifar10(other, trust=digest(x))
    assert (a.x == b.x).all()
    assert (a.y == b.y).all()


def test_cifar100_labels(tmp_path, small):
    x, fine = content(4, 100)
    coarse = fine // 5
    write_binary(tmp_path / "cifar-100-binary", "test", x, coarse, fine)
    write_python(
        tmp_path / "p" / "cifar-100-python", "test", data=x, fine_labels=fine.tolist(), coarse_labels=coarse.tolist()
    )
    for folder in (tmp_path, tmp_path / "p"):
        for labels, expected, classes in (("fine", fine, 100), ("coarse", coarse, 20)):
            images = cifar100(folder, "test", labels, trust=digest(x))
            np.testing.assert_array_equal(images.y.numpy(), expected)
            assert images.classes == classes


def test_known_files_need_no_trust(binary, monkeypatch):
    folder, x, _ = binary
    monkeypatch.setitem(cifar.KNOWN, digest(x), "the real thing")
    assert cifar10(folder).source == "the real thing"


def test_official_checksum_of_python_files(tmp_path, small, monkeypatch):
    x, y = content(4)
    write_python(tmp_path, "test_batch", data=x, labels=y.tolist())
    with pytest.raises(UnknownData):
        cifar10(tmp_path, "test")
    monkeypatch.setattr(cifar, "MD5", {hashlib.md5((tmp_path / "test_batch").read_bytes()).hexdigest()})
    assert cifar10(tmp_path, "test").source == "CIFAR-10"


def test_unknown_images_raise_with_the_digest(binary):
    folder, x, _ = binary
    with pytest.raises(UnknownData, match=digest(x)):
        cifar10(folder)
    with pytest.raises(UnknownData, match="trust="):
        cifar10(folder, trust="0" * 64)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[: len(b) // 2], lambda b: b""])
def test_damaged_binary(binary, damage):
    folder = binary[0]
    path = folder / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptData, match=r"data_batch_3.bin has \d+ bytes, where 4 records"):
        cifar10(folder)


def test_labels_out_of_range(tmp_path, small):
    x = content(4)[0]
    write_binary(tmp_path, "test_batch", x, [0, 1, 11, 2])
    with pytest.raises(CorruptData, match="label 11"):
        cifar10(tmp_path, "test", trust=digest(x))
    write_python(tmp_path / "p", "test_batch", data=x, labels=[-1, 0, 1, 2])
    with pytest.raises(CorruptData):
        cifar10(tmp_path / "p", "test", trust=digest(x))


def test_what_is_missing_is_named(binary):
    folder, _, _ = binary
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        cifar10(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no CIFAR-10 test set"):
        cifar10(folder, "test")
    (folder / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing: .*data_batch_4\.bin"):
        cifar10(folder)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        cifar10(folder, "validation")
    with pytest.raises(ValueError, match="'fine' or 'coarse'"):
        cifar100(folder, labels="super")


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-ran",)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_python(tmp_path, "test_batch", data=Hostile(), labels=[1, 2, 3, 4])
    with pytest.raises(CorruptData, match=r"asks for (posix|nt)\.system"):
        cifar10(tmp_path, "test")
    assert not (tmp_path / "hostile-ran").exists()


@pytest.mark.parametrize("bad", [b"not a pickle", b"", pickle.dumps([1, 2], protocol=2), pickle.dumps({b"data": 1})])
def test_files_that_are_no_cifar_pickles(tmp_path, small, bad):
    (tmp_path / "test_batch").write_bytes(bad)
    with pytest.raises(CorruptData, match="test_batch"):
        cifar10(tmp_path, "test")


def test_truncated_pickle(tmp_path, small):
    x, y = content(4)
    write_python(tmp_path, "test_batch", data=x, labels=y.tolist())
    path = tmp_path / "test_batch"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptData, match="not a whole CIFAR python file"):
        cifar10(tmp_path, "test")
    write_python(tmp_path, "test_batch", data=x[:3], labels=y[:3].tolist())
    with pytest.raises(CorruptData, match="holds 3 images, not 4"):
        cifar10(tmp_path, "test")


@pytest.mark.skipif(not (SHARED / "unpack.py").exists(), reason="needs the image shards beside the checkout")
def test_real_cifar10(tmp_path):
    pytest.importorskip("PIL", reason="the shards are unpacked with pillow")
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), str(tmp_path), "cifar10"], check=True)
    images = cifar10(tmp_path, "test")
    assert images.source == "CIFAR-10, 104 images from a JPEG copy"
    assert np.bincount(images.y).tolist() == [1000] * 10
    mean = images.x.float().div(255).mean((0, 2, 3))
    np.testing.assert_allclose(mean, images.mean, atol=0.01)
