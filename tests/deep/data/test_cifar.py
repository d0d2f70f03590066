"""CIFAR files in both official formats, whole, damaged and hostile."""

import hashlib
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deep.data import CorruptData, UnknownData, cifar, cifar10, cifar100

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data"


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
    monkeypatch.setitem(cifar.MD5, "test_batch", hashlib.md5((tmp_path / "test_batch").read_bytes()).hexdigest())
    assert cifar10(tmp_path, "test").source == "CIFAR-10"


def test_an_official_file_under_another_name_is_not_official(tmp_path, small, monkeypatch):
    x, y = content(4)
    for i in range(1, 6):
        write_python(tmp_path, f"data_batch_{i}", data=x, labels=y.tolist())
    md5 = hashlib.md5((tmp_path / "data_batch_1").read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "MD5", {**cifar.MD5, "data_batch_1": md5, "test_batch": md5})
    with pytest.raises(UnknownData, match="CIFAR-10 train"):
        cifar10(tmp_path)


def test_a_part_needs_its_digest(tmp_path, small):
    x, y = content(3)
    write_binary(tmp_path, "test_batch", x, y)
    for trust in (None, "0" * 64):
        with pytest.raises(CorruptData, match=f"test_batch.bin has 9219 bytes.*truncated.*trust='{digest(x)}'"):
            cifar10(tmp_path, "test", trust=trust)
    for trust in (digest(x), ("0" * 64, digest(x))):  # of both splits
        assert len(cifar10(tmp_path, "test", trust=trust)) == 3


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


@pytest.mark.parametrize(("labels", "coarse", "fine"), [("fine", 19, 100), ("coarse", 20, 99)])
def test_labels_out_of_range_in_cifar100(tmp_path, small, labels, coarse, fine):
    x = content(4)[0]
    write_binary(tmp_path, "test", x, [0, coarse, 1, 2], [0, fine, 1, 2])
    with pytest.raises(CorruptData, match=f"label {fine if labels == 'fine' else coarse}"):
        cifar100(tmp_path, "test", labels, trust=digest(x))
    assert len(cifar100(tmp_path, "test", "coarse" if labels == "fine" else "fine", trust=digest(x))) == 4


def test_missing_entries_of_a_python_file_are_named(tmp_path, small):
    x, y = content(4)
    write_python(tmp_path, "test", data=x, fine_labels=y.tolist())
    with pytest.raises(CorruptData, match="coarse_labels"):
        cifar100(tmp_path, "test", "coarse", trust=digest(x))


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


def old_string(content):
    """A byte string as Python 2 pickles it."""
    return b"T" + struct.pack("<i", len(content)) + content


def old_array(code, shape, content, fortran=b"\x89"):
    """A numpy array as Python 2 pickles it: reconstructed empty, then given its state."""
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in shape) + b"t"
    kind = b"cnumpy\ndtype\n(" + old_string(code) + b"K\x00K\x01tR"
    kind += b"(K\x03" + old_string(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + old_string(b"b") + b"tR"
    return array + b"(K\x01" + shape + kind + fortran + old_string(content) + b"tb"


def old_file(data, labels):
    labels = labels if isinstance(labels, bytes) else b"](" + b"".join(b"K" + bytes([y]) for y in labels) + b"e"
    return b"\x80\x02}(" + old_string(b"data") + data + old_string(b"labels") + labels + b"u."


@pytest.mark.parametrize(("order", "fortran"), [("C", b"\x89"), ("F", b"\x88")])
def test_pickles_of_python_2(tmp_path, small, order, fortran):
    x, y = content(4)
    written = old_file(old_array(b"u1", x.shape, x.tobytes(order), fortran), y.tolist())
    np.testing.assert_array_equal(pickle.loads(written, encoding="bytes")[b"data"], x)  # the file above is a good one
    (tmp_path / "test_batch").write_bytes(written)
    images = cifar10(tmp_path, "test", trust=digest(x))
    np.testing.assert_array_equal(images.x.numpy().reshape(4, -1), x)
    np.testing.assert_array_equal(images.y.numpy(), y)


# numpy.ndarray((4,), dtype("O"), <32 bytes>): numpy makes four pointers of them, and whoever looks at one crashes.
FORGED = b"cnumpy\nndarray\n((K\x04tcnumpy\ndtype\n(" + old_string(b"O") + b"tR" + old_string(b"A" * 32) + b"tR"


BLANK = old_array(b"u1", (4, 3072), bytes(4 * 3072))


def test_forged_pointers_are_refused(tmp_path):
    (tmp_path / "test_batch").write_bytes(old_file(BLANK, FORGED))
    # In another process, for a reader that builds what the file asks for does not raise: it crashes.
    read = (
        "import sys; from deep.data import CorruptData, cifar, cifar10; cifar.COUNT['test'] = 4\n"
        "try: cifar10(sys.argv[1], 'test', trust='0' * 64)\n"
        "except CorruptData as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", read, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert "array of b'O', not of bytes" in ran.stdout


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(FORGED, "array of b'O'", id="pointers"),
        pytest.param(old_array(b"i8", (4, 3072), bytes(8 * 4 * 3072)), "array of b'i8'", id="integers"),
        pytest.param(old_array(b"u1", (4, 3072), bytes(3072)), "cannot reshape", id="short"),
        pytest.param(old_array(b"u1", (4, 3071), bytes(4 * 3071)), r"shape \(4, 3071\) as its data", id="narrow"),
        pytest.param(old_array(b"u1", (0, 3072), b""), r"shape \(0, 3072\) as its data", id="empty"),
        pytest.param(b"]", "holds list as its data", id="list"),
        pytest.param(b"cnumpy\nfromfile\n(" + old_string(b"x") + b"tR", "asks for numpy.fromfile", id="function"),
    ],
)
def test_data_that_are_no_bytes(tmp_path, small, data, message):
    (tmp_path / "test_batch").write_bytes(old_file(data, [0, 1, 2, 3]))
    with pytest.raises(CorruptData, match=message):
        cifar10(tmp_path, "test", trust="0" * 64)


@pytest.mark.parametrize(
    "labels", [[1, 2, 3], [1, [2], 3, 4], list("abcd"), [1.5, 2.0, 3.0, 4.0], [1, 2, 3, 256], [1, 2, 3, -1], 7]
)
def test_labels_that_are_no_list_of_numbers(tmp_path, small, labels):
    x = content(4)[0]
    write_python(tmp_path, "test_batch", data=x, labels=labels)
    with pytest.raises(CorruptData, match="test_batch has labels that are not a list of 4 numbers"):
        cifar10(tmp_path, "test", trust=digest(x))


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


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """A folder with the published images."""
    if not (SHARED / "unpack.py").exists():
        pytest.skip("needs the image shards beside the checkout")
    pytest.importorskip("PIL", reason="the shards are unpacked with pillow")
    folder = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), str(folder), "cifar10", "cifar100"], check=True)
    yield folder
    shutil.rmtree(folder)  # pytest would keep 290 MB of three runs


@pytest.mark.parametrize(("split", "count"), [("train", 5000), ("test", 1000)])
def test_real_cifar10(real, split, count):
    images = cifar10(real, split)
    assert images.source == "CIFAR-10, 104 images from a JPEG copy"
    assert np.bincount(images.y).tolist() == [count] * 10
    mean = images.x[:10_000].float().div(255).mean((0, 2, 3))
    np.testing.assert_allclose(mean, images.mean, atol=0.01)


@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20)])
def test_real_cifar100(real, labels, classes):
    images = cifar100(real, "test", labels)
    assert images.source == "CIFAR-100"
    assert images.classes == classes
    assert np.bincount(images.y).tolist() == [10_000 // classes] * classes


def test_part_of_real_cifar100(real):
    size = (real / "cifar-100-binary" / "train.bin").stat().st_size
    if size == 50_000 * 3074:
        pytest.skip("the training set is whole here")
    with pytest.raises(CorruptData, match=f"train.bin has {size} bytes.*trust=") as error:
        cifar100(real)
    images = cifar100(real, trust=str(error.value).split("'")[-2])
    assert len(images) == size // 3074
    assert "unofficial" in images.source
