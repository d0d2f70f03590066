"""Batches and augmentation against slow loops."""

import numpy as np
import pytest
import torch

from deep.data import Images, InOrder, Shuffled, flip, rotate, shift_crop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    x = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=generator())
    return Images(x, torch.arange(23), 23, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "random")


def labels(loader, epoch=0, start=0):
    return torch.cat([y for _, y in loader.batches(epoch, start)]).tolist()


def test_an_epoch_shows_every_image_once(images):
    loader = Shuffled(images, 4)
    seen = labels(loader)
    assert len(seen) == 20 == 4 * loader.steps
    assert len(set(seen)) == 20


def test_order_follows_seed_and_epoch(images):
    orders = {(seed, epoch): tuple(labels(Shuffled(images, 5, seed), epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert list(orders[1, 1]) == labels(Shuffled(images, 5, 1), 1)


@pytest.mark.parametrize("augment", [None, flip])
def test_an_epoch_goes_on_in_its_middle(images, augment):
    loader = Shuffled(images, 4, 3, augment)
    whole = list(loader.batches(2))
    for start in range(6):
        rest = list(loader.batches(2, start))
        assert len(rest) == 5 - start
        for (x, y), (u, v) in zip(whole[start:], rest, strict=True):
            assert torch.equal(x, u)
            assert torch.equal(y, v)


def test_processes_share_each_batch(images):
    whole = list(Shuffled(images, 6).batches(1))
    parts = [list(Shuffled(images, 6, rank=rank, world=3).batches(1)) for rank in range(3)]
    for number, (_, y) in enumerate(whole):
        assert torch.equal(torch.cat([part[number][1] for part in parts]), y)
    with pytest.raises(ValueError, match="4 processes cannot share batches of 6 equally"):
        Shuffled(images, 6, world=4)


def test_in_order_shows_all_of_them(images):
    loader = InOrder(images, 10)
    assert loader.steps == 3 == len(list(loader.batches(0)))
    assert labels(loader) == images.y.tolist()
    assert labels(loader, 1, 2) == images.y[20:].tolist()
    torch.testing.assert_close(torch.cat([x for x, _ in loader.batches(0)]), images.normalised())


def test_batches_are_normalised_images(images):
    x, y = next(Shuffled(images, 6).batches(0))
    for image, label in zip(x, y, strict=True):
        raw = images.x[label].numpy() / 255
        expected = (raw - np.array(images.mean)[:, None, None]) / np.array(images.std)[:, None, None]
        np.testing.assert_allclose(image, expected, atol=1e-5)


def test_subset(images):
    assert images.subset(5).source == "random, first 5 images"
    for count in (0, 24):
        with pytest.raises(ValueError, match="does not fit 23"):
            images.subset(count)


def test_flip_mirrors_half(images):
    x = images.x.float().repeat(20, 1, 1, 1)
    y = flip(x, generator(3))
    mirrored = 0
    for a, b in zip(x.numpy(), y.numpy(), strict=True):
        turned = np.array_equal(b, a[:, :, ::-1])
        assert turned or np.array_equal(b, a)
        mirrored += turned
    assert abs(mirrored / len(x) - 0.5) < 0.1


def test_shift_crop_is_a_crop_of_the_padded_image(images):
    x = images.x.float() + 1
    y = shift_crop(x, generator(5), padding=2).numpy()
    places = set()
    for a, b in zip(x.numpy(), y, strict=True):
        padded = np.pad(a, ((0, 0), (2, 2), (2, 2)))
        found = [
            (i, j) for i in range(5) for j in range(5) if np.array_equal(padded[:, i : i + 8, j : j + 8], b)
        ]  # fmt: skip
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 5


def test_rotate():
    x = torch.zeros(40, 1, 33, 33)
    x[:, :, 16, 28] = 1.0  # 12 pixels to the right of the centre
    torch.testing.assert_close(rotate(x, generator(), degrees=0.0), x, atol=1e-4, rtol=0)
    turned = rotate(x, generator(1), degrees=30.0)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    mass = turned.sum((1, 2))
    dy, dx = ((turned * (g - 16)).sum((1, 2)) / mass for g in (rows, columns))
    angle = torch.rad2deg(torch.atan2(dy, dx))
    torch.testing.assert_close((dy**2 + dx**2).sqrt(), torch.full((40,), 12.0), atol=0.3, rtol=0)
    assert angle.abs().max() < 31
    assert angle.std() > 10


def test_constant_images_stay_constant_inside():
    x = torch.ones(5, 2, 32, 32)
    assert (rotate(x, generator(), 10.0)[:, :, 8:24, 8:24] - 1).abs().max() < 1e-5


def test_batches_of_one_show_the_whole_set(images):
    seen = labels(Shuffled(images, 1))
    assert sorted(seen) == list(range(23))
    assert seen != list(range(23))
    for size in (0, 24):
        with pytest.raises(ValueError, match=f"23 training images make no batch of {size}"):
            Shuffled(images, size)


def test_augmentation_sees_normalised_batches_with_draws_of_their_own(images):
    draws, seen = [], []

    def augment(x, given):
        draws.append(float(torch.rand((), generator=given)))
        seen.append(x.clone())
        return x + 1

    for rank in (0, 1):
        for epoch in (0, 1):
            for x, y in Shuffled(images, 10, 0, augment, rank, 2).batches(epoch):
                assert len(y) == 5
                torch.testing.assert_close(x, seen[-1] + 1)
                torch.testing.assert_close(seen[-1], images.normalised(y))
    assert len(set(draws)) == len(draws) == 8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalising_leaves_the_images_alone(images, dtype):
    mine = Images(images.x.to(dtype), images.y, 23, images.mean, images.std, "random")
    out = mine.normalised()
    assert out.dtype == torch.float32
    assert torch.equal(mine.x, images.x.to(dtype))


@pytest.mark.parametrize("augment", [flip, shift_crop, rotate])
def test_augmentation_draws_from_its_generator_alone(images, augment):
    x = images.x.float()
    before, kept = torch.get_rng_state(), x.clone()
    first, again, other = augment(x, generator(1)), augment(x, generator(1)), augment(x, generator(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, kept)
    assert first.shape == x.shape


def test_images_that_are_not_square():
    x = torch.rand(12, 2, 5, 9, generator=generator()) + 1
    for a, b in zip(x.numpy(), flip(x, generator(1)).numpy(), strict=True):
        assert np.array_equal(b, a) or np.array_equal(b, a[:, :, ::-1])
    for a, b in zip(x.numpy(), shift_crop(x, generator(1), padding=3).numpy(), strict=True):
        padded = np.pad(a, ((0, 0), (3, 3), (3, 3)))
        assert any(np.array_equal(padded[:, i : i + 5, j : j + 9], b) for i in range(7) for j in range(7))
