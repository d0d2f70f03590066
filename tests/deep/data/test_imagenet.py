"""Batches from files: their order, their exact resumption, their parts, and files that are broken."""

import io
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
from itertools import chain

import numpy as np
import pytest
import torch

from deep.data import CorruptData, imagenet
from deep.data.files import Epoch
from deep.data.imagenet import MEAN, STD, CentralCrops, RandomCrops
from deep.data.listing import Listing

from .photos import content, photo, samples, write_shard, write_tree  # isort: skip

Image = pytest.importorskip("PIL.Image", reason="image files are read with pillow: pip install 'linfa-lab[imagenet]'")

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores

TRAIN, VAL, CLASSES = 30, 7, 3  # 10 images a class, and 2 or 3
SIZE = 16


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write_tree(folder / "train", CLASSES, TRAIN // CLASSES)
    write_tree(folder / "val", CLASSES, 3, first=100)
    (folder / "val" / "n2" / "000.JPEG").unlink()
    (folder / "val" / "n1" / "000.JPEG").unlink()
    every = list(samples(folder / "train"))
    for number in range(6):
        write_shard(
            folder / "shards" / "train" / f"{number:03d}.tar", chain.from_iterable(every[5 * number : 5 * number + 5])
        )
    write_shard(folder / "shards" / "val" / "0.tar", chain.from_iterable(samples(folder / "val")))
    return folder


@pytest.fixture
def tree(original, tmp_path):
    """A copy to damage."""
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(params=["tree", "shards"])
def place(request, original):
    return original if request.param == "tree" else original / "shards"


def loader(root, split="train", batch_size=4, **options):
    return imagenet(root, split, batch_size, **{"workers": 0, "size": SIZE, **options})


def same(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for (x, y), (u, v) in zip(ours, theirs, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


def joined(loaders, epoch):
    """The batches of all processes, put together."""
    for parts in zip(*(loader.batches(epoch) for loader in loaders), strict=True):
        yield tuple(torch.cat(part) for part in zip(*parts, strict=True))


def identities(loader, epoch=0, start=0):
    """The place in the listing of each image that is read, batch after batch."""
    seen = []
    read = Listing.read

    def spy(self, index):
        seen.append(int(index))
        return read(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Listing, "read", spy)
        list(loader.batches(epoch, start))
    return seen


def test_the_protocol(place):
    train, test = loader(place), loader(place, "test")
    kind = "6 shards" if place.name == "shards" else "class folders"
    assert train.source.startswith(f"ImageNet train in {kind}, 30 images of 3 classes, listing ")
    assert train.listing.fingerprint in train.source
    assert (train.classes, train.shape, train.steps) == (3, (3, SIZE, SIZE), 7)
    assert (test.classes, test.shape, test.steps) == (3, (3, SIZE, SIZE), 2)
    for x, y in train.batches(0):
        assert (x.shape, x.dtype, x.is_contiguous()) == ((4, 3, SIZE, SIZE), torch.float32, True)
        assert (y.shape, y.dtype) == ((4,), torch.int64)
    assert train.skipped == ()


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(place):
    train = loader(place, batch_size=5)
    orders = [identities(loader(place, batch_size=5, seed=seed), epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(TRAIN)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] == identities(train, 0)
    assert len(identities(loader(place, batch_size=8))) == 24  # an incomplete batch is dropped


def test_labels_belong_to_their_images(original, place):
    x, y = next(loader(place, batch_size=30, seed=3).batches(0))
    order = identities(loader(place, batch_size=30, seed=3))
    assert y.tolist() == [index // 10 for index in order]
    test = loader(original, "test", batch_size=7)
    x, y = next(test.batches(0))
    assert y.tolist() == [0, 0, 0, 1, 1, 2, 2]
    paths = [path for label in range(3) for path in sorted((original / "val" / f"n{label}").iterdir())]
    for ours, path in zip(x, paths, strict=True):
        image = Image.open(path)
        image = image.resize((int(18 * 50 / 40), 18), Image.Resampling.BILINEAR).crop((3, 1, 19, 17))
        plain = (np.asarray(image, float).transpose(2, 0, 1) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(
            STD, (3, 1, 1)
        )
        np.testing.assert_allclose(ours, plain, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 3, 6, 7])
def test_an_epoch_goes_on_in_its_middle_bit_for_bit(place, start, workers):
    whole = list(loader(place, seed=5).batches(2))
    same(loader(place, seed=5, workers=workers).batches(2, start), whole[start:])


def test_going_on_reads_nothing_of_what_was_before(place):
    assert identities(loader(place), start=5) == identities(loader(place))[20:]
    assert identities(loader(place), start=7) == []


def test_the_number_of_workers_does_not_matter(place):
    whole = list(loader(place).batches(0))
    for workers in (1, 3):
        same(loader(place, workers=workers).batches(0), whole)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_parts_of_the_processes_are_the_whole(place, split):
    options = {"split": split, "batch_size": 4, "seed": 1}
    whole = loader(place, **options)
    parts = [loader(place, **options, rank=rank, world=2) for rank in range(2)]
    assert [part.steps for part in parts] == [whole.steps] * 2
    same(joined(parts, 1), whole.batches(1))


def test_testing_shows_all_images_in_their_order_in_every_epoch(place):
    test = loader(place, "test", batch_size=4)
    assert identities(test) == list(range(VAL))
    assert [len(y) for _, y in test.batches(0)] == [4, 3]
    same(test.batches(0), test.batches(9))


def test_shards_hold_what_the_tree_holds(original):
    same(loader(original, "test").batches(0), loader(original / "shards", "test").batches(0))
    pattern = original / "shards" / "train" / "{000..005}.tar"
    same(loader(pattern).batches(0), loader(original / "shards").batches(0))
    assert loader(original / "shards" / "train" / "002.tar", batch_size=5, classes=3).steps == 1


def test_shards_are_shuffled_in_windows(original):
    orders = [np.array(identities(loader(original / "shards", batch_size=10, window=2), epoch)) for epoch in range(8)]
    for order in orders:
        assert sorted(order) == list(range(TRAIN))
        for window in order.reshape(3, 10):
            assert len(set(window // 5)) == 2  # of the shards
    assert len({tuple(sorted(set(order[:10] // 5))) for order in orders}) > 1
    assert any(len(set(order[:5] // 5)) == 2 for order in orders)
    everything = np.array(identities(loader(original / "shards", batch_size=10)))
    assert len(set(everything[:10] // 5)) > 2


def test_a_draw_belongs_to_a_seed_an_epoch_and_a_place():
    image = photo(0)
    tree = {"order": np.zeros(2, int), "batch_size": 2, "rank": 0, "world": 1, "spared": 0}

    class One:
        label = np.zeros(1, int)

        def read(self, index):
            return content(image)

    def draw(seed, epoch):
        return Epoch(One(), RandomCrops(SIZE), draws=(seed, epoch), **tree)[0][0]

    assert torch.equal(draw(1, 2), draw(1, 2))
    crops = [*draw(1, 2), *draw(2, 1), *draw(1, 1)]
    assert all(not torch.equal(a, b) for n, a in enumerate(crops) for b in crops[:n])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_generators_of_the_training_run_are_left_alone(original, workers):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(loader(original, workers=workers).batches(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_workers_decode_on_when_all_processes_are_asked_to_stop(original):
    """As by Ctrl-C and by torchrun, which reach the workers, too: the step and its batch come to their end."""
    batches = loader(original, workers=2).batches(0)
    seen = [next(batches) for _ in range(2)]  # one of each
    for number in (signal.SIGINT, signal.SIGTERM):
        for child in multiprocessing.active_children():
            os.kill(child.pid, number)
    assert len(multiprocessing.active_children()) == 2
    same([*seen, *batches], loader(original).batches(0))


def test_an_epoch_travels_to_a_process_that_is_started_afresh(place):
    train = loader(place)
    epoch = Epoch(train.listing, train.view, np.arange(TRAIN), 4, 0, 1, 0, (0, 0))
    x, y, _ = pickle.loads(pickle.dumps(epoch))[1]
    assert torch.equal(x, epoch[1][0])
    assert torch.equal(y, epoch[1][1])


def damage(train):
    """Breaks four of thirty images; returns what is said about them."""
    whole = (train / "n0" / "003.JPEG").read_bytes()
    (train / "n0" / "003.JPEG").write_bytes(whole[:-300])
    (train / "n0" / "004.JPEG").write_bytes(b"")
    (train / "n1" / "005.JPEG").write_text("<html>404</html>")
    (train / "n2" / "009.JPEG").unlink()
    (train / "n2" / "009.JPEG").symlink_to("nowhere")
    return {
        "n0/003.JPEG": "it does not decode: image file is truncated",
        "n0/004.JPEG": "it is empty",
        "n1/005.JPEG": "it is no JPEG",
        "n2/009.JPEG": "No such file",
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_named_and_replaced(tree, workers, caplog):
    reasons = damage(tree / "train")
    train = loader(tree, batch_size=5, max_broken=0.2, workers=workers)
    epochs = [list(train.batches(epoch)) for epoch in range(2)]
    assert len(train.skipped) == 4
    for record in train.skipped:
        assert record.reason.startswith(reasons.pop(record.file.removeprefix(f"{tree / 'train'}/")))
    assert not reasons
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [  # once in two epochs
        f"skipped {record.file}: {record.reason} ({number} so far)" for number, record in enumerate(train.skipped, 1)
    ]
    assert [len(y) for _, y in epochs[0]] == [5] * 6
    again = loader(tree, batch_size=5, max_broken=0.2)
    same(again.batches(1, start=2), epochs[1][2:])


def test_the_next_good_image_takes_the_place_with_the_draws_of_the_place(original, tree):
    order = identities(loader(original, batch_size=30))
    damage(tree / "train")
    broken = {3, 4, 15, 29}
    taken = []
    for place in range(TRAIN):
        while order[place % TRAIN] in broken:
            place += 1
        taken.append(order[place % TRAIN])
    train = loader(tree, batch_size=30, max_broken=0.2)
    x, y = next(train.batches(0))
    assert y.tolist() == [index // 10 for index in taken]
    intact = loader(original, batch_size=30)
    draws = Epoch(intact.listing, intact.view, np.array(taken), 30, 0, 1, 0, (1, 0, 0))
    plain = (draws[0][0].permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(x, plain)


def test_every_process_knows_what_it_met(tree):
    damage(tree / "train")
    parts = [loader(tree, batch_size=2, max_broken=0.2, rank=rank, world=2) for rank in range(2)]
    whole = loader(tree, batch_size=2, max_broken=0.2)
    same(joined(parts, 0), whole.batches(0))
    assert set(parts[0].skipped) | set(parts[1].skipped) == set(whole.skipped)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_images_are_one_error_that_names_them(tree, workers):
    damage(tree / "train")
    train = loader(tree, batch_size=5, max_broken=0.1, workers=workers)
    with pytest.raises(
        CorruptData, match=r"4 files of ImageNet train .* more than 10.00% of its 30 images.*n\d/00\d.JPEG: it "
    ):
        list(train.batches(0))
    assert list(loader(tree, batch_size=5, max_broken=4 / 30).batches(0))


def test_the_share_is_of_all_that_was_found(tree):
    for number in range(3):
        (tree / "train" / "n0" / f"{number}.txt").write_text("notes")
    assert len(loader(tree, max_broken=3 / 33).skipped) == 3
    with pytest.raises(CorruptData, match=r"3 files of ImageNet train .*0.txt: not called an image"):
        loader(tree, max_broken=0.09)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_wrong_place_is_found_at_once(tree, workers):
    train = loader(tree, max_broken=0.1, workers=workers)
    shutil.rmtree(tree / "train")
    batches = train.batches(0)
    with pytest.raises(CorruptData, match=r"is it the right place\? The first: .*JPEG: No such file or directory; "):
        next(batches)
    assert len(train.skipped) == 4  # one more than may be


def test_a_broken_shard_is_known_before_the_first_batch(tree, caplog):
    shard = tree / "shards" / "train" / "004.tar"
    shard.write_bytes(shard.read_bytes()[:4000])
    with pytest.raises(CorruptData, match=r"files of ImageNet train in 6 shards.*004.tar: cut off or damaged after"):
        loader(tree / "shards")
    train = loader(tree / "shards", max_broken=0.2)
    assert any("004.tar: cut off" in record.getMessage() for record in caplog.records)
    assert 24 < len(train.listing) < 30
    list(train.batches(0))
    caplog.clear()
    loader(tree / "shards", max_broken=0.2, batch_size=2, rank=1, world=2)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]  # the first process says it


def test_a_cut_after_the_listing_is_met_by_the_reader(tree):
    train = loader(tree / "shards", batch_size=5, max_broken=0.3)
    shard = tree / "shards" / "train" / "004.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    assert [len(y) for _, y in train.batches(0)] == [5] * 6
    assert any("its file ends after" in record.reason for record in train.skipped)
    assert all("shards/train/004.tar/n2_" in record.file for record in train.skipped)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"split": "val"}, "split is 'train' or 'test'"),
        ({"batch_size": 31}, "the 30 images of ImageNet train in class folders make no batch of 31"),
        ({"batch_size": 0}, "1 processes cannot share batches of 0 equally"),
        ({"batch_size": 9, "world": 2}, "2 processes cannot share batches of 9 equally"),
        ({"rank": 2, "world": 2}, "rank 2 is none of 2 processes"),
        ({"split": "test", "batch_size": 6, "world": 2}, "7 images in batches of 6 leave 1 .* for 2 processes"),
        ({"seed": -1}, "the seed is at least 0; got -1"),
        ({"max_broken": 1.0}, r"max_broken is a share in \[0, 1\); got 1.0"),
    ],
)
def test_arguments_that_do_not_fit(original, options, error):
    with pytest.raises(ValueError, match=error):
        loader(original, **options)


@pytest.mark.parametrize(("epoch", "start"), [(0, 8), (0, -1), (-1, 0)])
def test_a_batch_that_is_not_there(original, epoch, start):
    with pytest.raises(ValueError, match=rf"no batch {start} in epoch {epoch}: an epoch has 7, counted from 0"):
        loader(original).batches(epoch, start)  # at once, not when the first is asked for


def test_wrong_folders(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere has no folder train/ .*: there is no such folder"):
        loader(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no folder val/ with the test images: it holds n0, n1, n2"):
        loader(tree / "train", "test")
    (tree / "none" / "train").mkdir(parents=True)
    with pytest.raises(CorruptData, match="train holds no class folders"):
        loader(tree / "none")
    (tree / "none" / "train" / "n0").mkdir()
    with pytest.raises(CorruptData, match=r"1 of 1 class folders of .* hold no images .*: n0"):
        loader(tree / "none")
    with pytest.raises(FileNotFoundError, match=r"2 of 8 shards are not in .*: 006.tar, 007.tar"):
        loader(tree / "shards" / "train" / "{000..007}.tar")
    shutil.rmtree(tree / "val" / "n1")
    (tree / "train" / "n3").mkdir()
    with pytest.raises(CorruptData, match=r"4 classes in train and 2 in val .only in train: n1, n3.$"):
        loader(tree)


def test_without_pillow_the_error_says_how_to_get_it(original, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"linfa-lab.imagenet"):
        loader(original)


def test_by_default_there_are_workers_but_no_more_than_cores(original, recwarn):
    train = imagenet(original, batch_size=4, size=SIZE)
    assert 1 <= train.workers <= 4
    next(train.batches(0))


def test_views_agree_with_their_protocol():
    assert RandomCrops().size == CentralCrops().size == 224
    assert RandomCrops(SIZE).steps(10, 4) == 2
    assert CentralCrops(SIZE).steps(10, 4) == 3
    data = content(photo(0))
    assert CentralCrops(SIZE).pixels(data, np.random.default_rng(0)).shape == (SIZE, SIZE, 3)
    assert np.asarray(Image.open(io.BytesIO(data))).shape == (40, 50, 3)
