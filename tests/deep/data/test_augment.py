"""Augmentation of batches against loops over images, and the picture of it."""

import numpy as np
import pytest
import torch

from deep.data import cutout, flip, grayscale, shift_crop
from deep.data.images import luma


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hole(height, width, row, column, size):
    """Where a square of some size around a pixel lies, edges cut off."""
    mask = np.zeros((height, width), bool)
    for i in range(height):
        for j in range(width):
            mask[i, j] = 0 <= i - row + size // 2 < size and 0 <= j - column + size // 2 < size
    return mask


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_cutout_is_a_square_around_a_random_pixel(size):
    H, W, count = 6, 9, 3000
    x = 1 + torch.rand(count, 2, H, W, generator=generator())
    y = cutout(x, generator(1), size)
    holes = {hole(H, W, i, j, size).tobytes(): (i, j) for i in range(H) for j in range(W)}
    centres = np.zeros((H, W))
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        mask = after[0] == 0
        assert np.array_equal(after, np.where(mask, 0, before))
        centres[holes[mask.tobytes()]] += 1
    if size < 9:  # each hole has a pixel of its own
        assert len(holes) == H * W
        expected = count / (H * W)
        assert np.abs(centres - expected).max() < 5 * expected**0.5


def test_nothing_is_cut_out_at_size_0():
    x = torch.rand(20, 3, 8, 8, generator=generator()) + 1
    assert torch.equal(cutout(x, generator(), size=0), x)


def test_grayscale_is_the_luma_of_pillow():
    Image = pytest.importorskip("PIL.Image")
    x = torch.randint(0, 256, (40, 3, 5, 7), dtype=torch.uint8, generator=generator())
    y = grayscale(x, generator(), probability=1.0)
    for before, after in zip(x, y, strict=True):
        grey = np.array(Image.fromarray(before.permute(1, 2, 0).numpy()).convert("L"))
        for channel in after:
            np.testing.assert_array_equal(channel, grey)


def test_grayscale_of_fractions_is_the_same_sum():
    x = torch.rand(4, 3, 5, 7, generator=generator())
    y = grayscale(x, generator(), probability=1.0)
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        grey = 0.299 * before[0] + 0.587 * before[1] + 0.114 * before[2]
        for channel in after:
            np.testing.assert_allclose(channel, grey, atol=1e-5)


def test_grayscale_chooses_images():
    x = torch.rand(2000, 3, 2, 2, generator=generator())
    assert torch.equal(grayscale(x, generator(), probability=0.0), x)
    changed = (grayscale(x, generator(1), probability=0.3) != x).flatten(1).any(1)
    assert abs(changed.float().mean() - 0.3) < 0.05
    one = x[:, :1]
    assert torch.equal(grayscale(one, generator(), probability=1.0), one)
    with pytest.raises(ValueError, match="images of 4 channels have no luma: it takes 1 or 3"):
        luma(torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("augment", [cutout, flip, grayscale, shift_crop])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_type_and_shape_stay(augment, dtype):
    x = torch.randint(0, 256, (5, 3, 6, 9), generator=generator()).to(dtype)
    y = augment(x, generator())
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
