"""What a training run may count on: the same batches for the same seed and place, and a part for every process."""

import pytest
import torch

from deep.data import Images, InOrder, Shuffled, cutout, flip, shift_crop


@pytest.fixture
def images():
    x = torch.randint(0, 256, (53, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(x, torch.arange(53), 53, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "random")


def augment(x, generator):
    return cutout(shift_crop(flip(x, generator), generator, 1), generator, 3)


def draws(x, generator):
    """Numbers in the place of images, fewer or more of them by the images."""
    torch.rand(int(x[0, 0, 0, 0] * 10) % 7, generator=generator)
    return torch.rand(len(x), generator=generator)


@pytest.mark.parametrize("loader", [lambda x: Shuffled(x, 10, augment=augment), lambda x: InOrder(x, 10)])
def test_a_loader_says_what_it_gives(images, loader):
    loader = loader(images)
    assert (loader.source, loader.classes, loader.shape) == ("random", 53, (3, 8, 8))
    batches = list(loader.batches(0))
    assert len(batches) == loader.steps
    for x, y in batches:
        assert x.shape == (len(y), *loader.shape)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("world", [2, 5])
def test_processes_together_see_what_one_sees(images, world):
    for start in (0, 2):
        whole = list(Shuffled(images, 10, seed=4).batches(3, start))
        parts = [list(Shuffled(images, 10, seed=4, rank=rank, world=world).batches(3, start)) for rank in range(world)]
        assert len(whole) == 5 - start
        for (x, y), *shares in zip(whole, *parts, strict=True):
            assert torch.equal(torch.cat([u for u, _ in shares]), x)
            assert torch.equal(torch.cat([v for _, v in shares]), y)


def test_every_draw_has_a_place_of_its_own(images):
    """Seed, epoch, batch and process each change every number that an augmentation draws."""
    seen = [
        number
        for seed in (0, 1)
        for rank in (0, 1)
        for epoch in (0, 1, 2)
        for x, _ in Shuffled(images, 10, seed, draws, rank, world=2).batches(epoch)
        for number in x.tolist()
    ]
    assert len(set(seen)) == len(seen) == 2 * 2 * 3 * 5 * 5


def test_what_was_drawn_before_changes_nothing(images):
    whole = [x for x, _ in Shuffled(images, 10, 0, draws).batches(1)]
    for start in range(6):
        torch.rand(3)
        rest = [x for x, _ in Shuffled(images, 10, 0, draws).batches(1, start)]
        assert len(rest) == 5 - start
        assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_the_order_is_drawn_on_the_processor(images, monkeypatch):
    """So that it is the same everywhere: a device that draws nothing has it, too, and asks for no other order."""
    orders, real = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *args, **kwargs: orders.append(real(*args, **kwargs)) or orders[-1])
    shapes = [x.shape for loader in (images, images.to("meta")) for x, _ in Shuffled(loader, 10, 3).batches(2)]
    assert shapes == 10 * [(10, 3, 8, 8)]
    assert orders[0].device == orders[1].device == torch.device("cpu")
    assert torch.equal(*orders)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_order_is_that_of_a_gpu(images):
    for (x, y), (u, v) in zip(Shuffled(images, 10).batches(1), Shuffled(images.to("cuda"), 10).batches(1), strict=True):
        torch.testing.assert_close(u.cpu(), x)
        assert torch.equal(v.cpu(), y)


def test_the_world_draws_nothing(images):
    before = torch.get_rng_state()
    list(Shuffled(images, 10, 0, augment).batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_settings_are_one_error(images):
    for size in (0, 54):
        with pytest.raises(ValueError, match=f"53 training images make no batch of {size}"):
            Shuffled(images, size)
    with pytest.raises(ValueError, match="3 processes cannot share batches of 10 equally"):
        Shuffled(images, 10, world=3)
    for rank in (-1, 2):
        with pytest.raises(ValueError, match=rf"ranks of 2 processes are 0 .. 1; got {rank}"):
            Shuffled(images, 10, rank=rank, world=2)
