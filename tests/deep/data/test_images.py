"""Batches and augmentation against slow loops."""

import numpy as np
import pytest
import torch

from deep.data import Images, batches, flip, rotate, shift_crop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    x = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=generator())
    return Images(x, torch.arange(23), 23, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "random")


def test_an_epoch_shows_every_image_once(images):
    seen = torch.cat([y for _, y in batches(images, 4, generator())])
    assert len(seen) == 20
    assert len(set(seen.tolist())) == 20


def test_order_follows_the_generator(images):
    def order(seed):
        return torch.cat([y for _, y in batches(images, 5, generator(seed))]).tolist()

    assert order(1) == order(1) != order(2)


def test_batches_are_normalised_images(images):
    x, y = next(batches(images, 6, generator()))
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
