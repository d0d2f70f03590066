"""Lists of images: from folders, from shards whole and damaged, and kept in a file."""

import os
import shutil
import tarfile
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from deep.data import CorruptData, imagenet, listing, shards
from deep.data.folder import class_folders
from deep.data.listing import Listing
from deep.data.shards import expand, tar_shards

from .photos import write_shard  # isort: skip


def pair(number, label=None, size=700):
    """An image of a shard, whose bytes nobody decodes here, and its label."""
    return [(f"{number:04d}.jpg", bytes([number]) * size), (f"{number:04d}.cls", b"%d" % (label or 0))]


@pytest.fixture
def folder(tmp_path):
    """A tree of four classes, with what else lies in folders."""
    root = tmp_path / "train"
    for path in ("b/2.JPEG", "b/10.jpg", "a/x.y.PNG", "c/images/1.jpeg", "c/0.jpeg", "B/1.jpg"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    for path in ("a/.hidden.jpg", "b/boxes.txt", "readme.txt"):
        (root / path).write_text("")
    (root / ".git").mkdir()
    return root


def test_a_tree_is_listed_by_sorted_classes_and_names(folder):
    found = class_folders(folder)
    assert found.classes.tolist() == ["B", "a", "b", "c"]
    assert list(map(os.fsdecode, found.path)) == [
        "B/1.jpg", "a/x.y.PNG", "b/10.jpg", "b/2.JPEG", "c/0.jpeg", "c/images/1.jpeg",
    ]  # fmt: skip
    assert found.label.tolist() == [0, 1, 2, 2, 3, 3]
    assert [found.read(index).decode() for index in range(6)] == list(map(os.fsdecode, found.path))
    assert found.describe(3) == str(folder.resolve() / "b" / "2.JPEG")
    assert [(record.file, record.reason) for record in found.skipped] == [
        (str(folder.resolve() / "b" / "boxes.txt"), "not called an image")
    ]


def test_a_class_folder_that_cannot_be_read_is_an_error(folder, monkeypatch):
    def scandir(path, _scandir=os.scandir):
        if str(path).endswith("c"):
            raise PermissionError(13, "Permission denied", str(path))
        return _scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="Permission denied"):
        class_folders(folder)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none"):
        class_folders(tmp_path / "none")


def test_the_fingerprint_is_of_names_and_labels_and_not_of_the_place(folder, tmp_path):
    before = class_folders(folder).fingerprint
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert class_folders(tmp_path / "elsewhere").fingerprint == before
    (folder / "b" / "2.JPEG").rename(folder / "b" / "3.JPEG")
    assert class_folders(folder).fingerprint != before


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("x-{8..10}.tar", ["x-8.tar", "x-9.tar", "x-10.tar"]),
        ("x-{008..010}.tar", ["x-008.tar", "x-009.tar", "x-010.tar"]),
        ("{0..1}/{5..6}", ["0/5", "0/6", "1/5", "1/6"]),
        ("{00..00}", ["00"]),
    ],
)
def test_patterns(pattern, names):
    assert expand(pattern) == names


@pytest.mark.parametrize("pattern", ["{0..", "{a,b}", "{3..1}", "{0...5}", "{}"])
def test_other_patterns(pattern):
    with pytest.raises(ValueError, match="is no pattern of shards: braces hold a first and a last number"):
        expand(pattern)


def test_a_shard_gives_its_images_in_their_order(tmp_path):
    write_shard(tmp_path / "0.tar", chain(pair(7, 1), pair(3), [("9.txt", b"caption"), (".hid.jpg", b""), ("d/", b"")]))
    write_shard(tmp_path / "1.tar", [("sub.d/k.seg.jpg", b"s"), ("sub.d/k.JPEG", b"i"), ("sub.d/k.cls", b" 1\n")])
    found = tar_shards(tmp_path, ["0.tar", "1.tar"])
    assert found.skipped == ()
    assert [found.describe(index) for index in range(3)] == [
        f"{tmp_path.resolve()}/{name}" for name in ("0.tar/0007.jpg", "0.tar/0003.jpg", "1.tar/sub.d/k.JPEG")
    ]
    assert [found.read(index)[:1] for index in range(3)] == [b"\x07", b"\x03", b"i"]
    assert found.label.tolist() == [1, 0, 1]
    assert found.classes.tolist() == ["0", "1"]


def test_long_names_of_other_dialects(tmp_path):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "folder/" * 30 + "é"
        with tarfile.open(tmp_path / "0.tar", "w", format=form) as shard:
            for member, content in ((f"{name}.jpg", b"image"), (f"{name}.cls", b"0")):
                (tmp_path / "part").write_bytes(content)
                shard.add(tmp_path / "part", member)
        found = tar_shards(tmp_path, ["0.tar"])
        assert found.skipped == ()
        assert found.read(0) == b"image"
        assert found.describe(0).endswith(f"0.tar/{name}.jpg")


def reasons(path):
    """What is said of a shard, by the name in it."""
    found = tar_shards(path.parent, [path.name], classes=5)
    return {record.file.removeprefix(str(path.resolve())): record.reason for record in found.skipped}, found


def test_what_is_wrong_with_labels_is_named(tmp_path):
    path = tmp_path / "0.tar"
    members = [
        *pair(0, 4), *pair(1, 5), ("2.jpg", b"no label"), ("3.cls", b"1"), ("4.jpg", b"i"), ("4.cls", b"cat"),
        ("5.jpg", b"i"), ("5.cls", b"-1"), ("6.jpg", b"i"), ("6.cls", b""), ("7.jpg", b"i"), ("7.cls", b"1" * 600),
        *pair(8), ("0008.png", b"again"), ("0008.cls", b"3"),
    ]  # fmt: skip
    write_shard(path, members)
    found, good = reasons(path)
    assert found == {
        "/0001.jpg": "its label is 5, where there are 5 classes",
        "/2.jpg": "no label (.cls) in its shard",
        "/3.cls": "a label without an image",
        "/4.jpg": "its label is b'cat', not a number",
        "/5.jpg": "its label is b'-1', not a number",
        "/6.jpg": "its label is b'', not a number",
        "/7.jpg": f"its label is {b'1' * 20!r}, not a number",
        "/0008.png": "the second of its name in its shard",
        "/0008.cls": "the second of its name in its shard",
    }
    assert good.label.tolist() == [4, 0]


def test_a_link_is_no_image(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        link = tarfile.TarInfo("1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(link)
        for name, content in pair(0):
            (tmp_path / "part").write_bytes(content)
            shard.add(tmp_path / "part", name)
    found, good = reasons(tmp_path / "0.tar")
    assert found == {"/1.jpg": "not a plain file in its shard"}
    assert len(good) == 1


def test_labels_with_gaps_need_the_number_of_classes(tmp_path):
    write_shard(tmp_path / "0.tar", chain(pair(0, 0), pair(1, 1), pair(2, 3)))
    with pytest.raises(CorruptData, match=r"labels .* go up to 3, but none is 2: say how many classes there are"):
        tar_shards(tmp_path, ["0.tar"])
    ten, eleven = (tar_shards(tmp_path, ["0.tar"], classes=classes) for classes in (10, 11))
    assert len(ten.classes) == 10
    assert ten.fingerprint != eleven.fingerprint


def test_a_shard_cut_off_anywhere_gives_what_is_before(tmp_path):
    path = tmp_path / "0.tar"
    write_shard(path, chain.from_iterable(pair(number, number) for number in range(4)))
    whole = path.read_bytes()
    each = 5 * 512  # header, 700 bytes, header, label
    for cut in [*range(0, 4 * each + 512, 256), *range(1, 4 * each, 397)]:
        path.write_bytes(whole[:cut])
        images = sum(cut >= number * each + 4 * 512 + 1 for number in range(4))  # the label's digit is there
        if images == 0:
            with pytest.raises(CorruptData, match=r"no image with a label in 1 shards \(.*cut off or damaged after"):
                tar_shards(tmp_path, ["0.tar"], classes=5)
            continue
        found, good = reasons(path)
        assert good.label.tolist() == list(range(images))
        assert [good.read(index) for index in range(images)] == [bytes([number]) * 700 for number in range(images)]
        assert found.pop("").startswith("cut off or damaged after")
        assert list(found.values()) == ["no label (.cls) in its shard"] * len(found)
    path.write_bytes(whole[: 4 * each + 512])  # one block of the end mark
    assert reasons(path)[0] == {}


@pytest.mark.parametrize(
    ("place", "content"), [(2 * 2560, b"\0" * 512), (2 * 2560 + 3, b"damaged"), (2 * 2560, b"\0" * 5120)]
)
def test_a_shard_damaged_inside_gives_what_is_before(tmp_path, place, content):
    path = tmp_path / "0.tar"
    write_shard(path, chain.from_iterable(pair(number) for number in range(4)))
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole[: len(whole) - 7 * 512] if len(content) == 5120 else whole)
    found, good = reasons(path)
    assert len(good) == 2
    if len(content) < 5120:
        assert found == {"": "cut off or damaged after 2 images"}


def test_other_files_are_no_shards(tmp_path):
    write_shard(tmp_path / "0.tar", pair(0))
    (tmp_path / "1.tar").write_bytes(b"")
    (tmp_path / "2.tar").write_text("<html>404 Not Found</html>" * 100)
    write_shard(tmp_path / "3.tar", [])
    found = tar_shards(tmp_path, [f"{number}.tar" for number in range(4)])
    assert len(found) == 1
    assert [(record.file[-5:], record.reason) for record in found.skipped] == [
        ("1.tar", "cut off or damaged after 0 images (empty file)"),
        ("2.tar", "cut off or damaged after 0 images (invalid header)"),
        ("3.tar", "no images in it"),
    ]


@pytest.fixture
def listed(folder, monkeypatch):
    """Where the list is kept, and how often a tree has been listed."""
    count = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *args, **options: count.append(1) or walk(*args, **options))
    return folder.parent / "lists" / "train.npz", count


def kept(path, folder):
    return listing.kept(path, str(folder.resolve()), lambda: class_folders(folder), lambda old: True)


def equal(one, other):
    for name in Listing.__dataclass_fields__:
        ours, theirs = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(ours, theirs)
        assert type(ours) is type(theirs)


def test_a_list_is_kept_until_a_folder_changes(folder, listed):
    path, count = listed
    first = kept(path, folder)
    assert len(count) == 4
    equal(kept(path, folder), first)
    assert len(count) == 4
    assert list(path.parent.iterdir()) == [path]  # and nothing half written
    for added in ("c/images/2.jpeg", "new/1.jpg"):
        (folder / added).parent.mkdir(exist_ok=True)
        (folder / added).write_bytes(b"")
        count.clear()
        assert added in map(os.fsdecode, kept(path, folder).path)
        assert count
    shutil.rmtree(folder / "new")
    assert len(kept(path, folder)) == 7


def test_a_list_of_another_folder_is_not_taken(folder, listed, tmp_path):
    path, _ = listed
    kept(path, folder)
    shutil.copytree(folder, tmp_path / "other")  # with the same times
    assert kept(path, tmp_path / "other").root == str((tmp_path / "other").resolve())


@pytest.mark.parametrize("content", [b"", b"my thesis", "cut", "array", "pickle"])
def test_another_file_is_not_overwritten(folder, listed, content):
    path, _ = listed
    kept(path, folder)
    if content == "cut":
        content = path.read_bytes()[:-100]
    if content in ("array", "pickle"):
        with open(path, "wb") as file:
            np.save(file, np.array([{}] if content == "pickle" else [1.0]), allow_pickle=True)
        content = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(CorruptData, match=r"train.npz is not a list of images .*: delete it, or name another file"):
        kept(path, folder)
    assert path.read_bytes() == content


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_pickle_is_read(folder, listed, tmp_path):
    path, _ = listed
    kept(path, folder)
    with np.load(path) as arrays:
        parts = dict(arrays)
    np.savez(path, **parts | {"label": np.array([Hostile(tmp_path / "owned")], object)})
    with pytest.raises(CorruptData, match="allow_pickle=False"):
        kept(path, folder)
    assert not (tmp_path / "owned").exists()


def test_a_kept_list_is_of_the_shards_and_classes_that_were_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("PIL", reason="image files are read with pillow: pip install 'linfa-lab[imagenet]'")
    count = []
    index = shards._index
    monkeypatch.setattr(shards, "_index", lambda *args: count.append(1) or index(*args))
    for number in range(2):
        write_shard(tmp_path / "data" / "train" / f"{number}.tar", chain(pair(0), pair(1, 1)))

    def images(root="data", **options):
        count.clear()
        loader = imagenet(tmp_path / root, batch_size=2, workers=0, cache=tmp_path / "lists", **options)
        return len(loader.listing), loader.classes, len(count)

    assert images() == (4, 2, 2)
    assert images() == (4, 2, 0)
    assert images(classes=2) == (4, 2, 0)
    assert images(classes=3) == (4, 3, 2)
    assert images("data/train/{0..0}.tar", classes=3) == (2, 3, 1)
    write_shard(tmp_path / "data" / "train" / "2.tar", pair(0))
    assert images(classes=2) == (5, 2, 3)
    write_shard(tmp_path / "data" / "train" / "2.tar", chain(pair(0), pair(1)))
    os.utime(tmp_path / "data" / "train" / "2.tar", ns=(0, 0))
    assert images(classes=2) == (6, 2, 3)


def test_a_listing_reads_no_more_than_an_image(tmp_path):
    write_shard(tmp_path / "0.tar", chain(pair(1), pair(2)))
    found = tar_shards(tmp_path, ["0.tar"])
    longer = replace(found, size=found.size + 10**6)
    with pytest.raises(OSError, match=r"its file ends after \d+ of its 1000700 bytes"):
        longer.read(1)
    with pytest.raises(OSError, match="it is empty"):
        replace(found, size=found.size * 0).read(1)
