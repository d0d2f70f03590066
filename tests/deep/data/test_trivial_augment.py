"""TrivialAugment against Pillow, image by image."""

import numpy as np
import pytest
import torch

from deep.data import OnPixels, trivial_augment
from deep.data.trivial_augment import OPERATIONS, STRENGTHS

LEVELS = range(STRENGTHS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(channels, height=32, width=32, count=3):
    """Smooth fields with some noise, of different ranges."""
    x = torch.rand(count, channels, 5, 5, generator=generator(1))
    x = torch.nn.functional.interpolate(x, (height, width), mode="bicubic")
    x = x + 0.03 * torch.randn(x.shape, generator=generator(2))
    scale = torch.tensor([255.0, 140.0, 90.0])[:count, None, None, None]
    return (20 + x * scale).clamp(0, 255).byte()


def pillow(name, level, sign):
    """The operation on one Pillow image, with the ranges that the authors call wide."""
    from PIL import Image, ImageEnhance, ImageOps

    share = level / (STRENGTHS - 1)
    factor = 0.01 + share * (2.0 - 0.01)

    def moved(*matrix):
        return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix)

    return {
        "identity": lambda image: image,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "rotate": lambda image: image.rotate(sign * int(level * 135 / 30)),
        "solarize": lambda image: ImageOps.solarize(image, 256 - int(level * 256 / 30)),
        "color": lambda image: ImageEnhance.Color(image).enhance(factor),
        "posterize": lambda image: ImageOps.posterize(image, 8 - int(level * 6 / 30)),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(factor),
        "shear_x": moved(1, sign * share * 0.99, 0, 0, 1, 0),
        "shear_y": moved(1, 0, 0, sign * share * 0.99, 1, 0),
        "translate_x": moved(1, 0, sign * int(level * 32 / 30), 0, 1, 0),
        "translate_y": moved(1, 0, 0, 0, 1, sign * int(level * 32 / 30)),
    }[name]


def one_by_one(x, change):
    from PIL import Image

    images = [Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()) for image in x]
    out = [torch.from_numpy(np.array(change(image))) for image in images]
    return torch.stack([image[None] if image.ndim == 2 else image.permute(2, 0, 1) for image in out])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32), (3, 20, 29)], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pillow(name, shape):
    pytest.importorskip("PIL")
    x, changed = pictures(*shape), set()
    square = shape[1] == shape[2]
    for level in LEVELS if square or name != "rotate" else set(LEVELS) - {20}:  # by 90 degrees: all on edges of pixels
        for sign in (1, -1):
            ours = OPERATIONS[name](x.float(), torch.full((3,), level), torch.full((3,), sign))
            theirs = one_by_one(x, pillow(name, level, sign))
            assert ours.shape == x.shape
            assert torch.equal(ours.float(), ours.byte().float())  # whole numbers in 0..255
            apart = (ours.int() - theirs.int()).abs()
            if name == "rotate":  # what falls on the edge of two pixels, as much does by 135 degrees
                assert (apart > 0).float().mean() < (0.025 if level == 30 else 0.005)
            elif name == "autocontrast":  # Pillow rounds its quotients first
                assert apart.max() <= 1
                assert (apart > 0).float().mean() < 0.005
            else:
                assert torch.equal(ours.byte(), theirs)
            changed.add(not torch.equal(ours.byte(), x))
    grey = name == "color" and shape[0] == 1
    assert True not in changed if name == "identity" or grey else True in changed


@pytest.mark.parametrize(
    "name", ["identity", "rotate", "solarize", "posterize", "shear_x", "shear_y", "translate_x", "translate_y"]
)
def test_no_strength_changes_nothing(name):
    x = pictures(3, 20, 29).float()
    assert torch.equal(OPERATIONS[name](x, torch.zeros(3, dtype=int), torch.tensor([1, -1, 1])).float(), x)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("name", OPERATIONS)
def test_plain_images_stay_plain(name, value):
    """No division by the range or the frequency of a single value."""
    x = torch.full((2, 3, 8, 8), float(value))
    out = OPERATIONS[name](x, torch.tensor([0, 30]), torch.tensor([1, 1]))
    assert torch.isfinite(out.float()).all()
    assert set(out.unique().tolist()) <= {0.0, *out[:, 0, 4, 4].tolist()}
    if name in ("equalize", "autocontrast"):
        assert torch.equal(out, x)


def test_draws_are_uniform_and_each_image_has_its_own(monkeypatch):
    """Operations that write down what they were given, in images that carry their own number."""

    def note(number):
        def write(x, level, sign):
            out = x.clone()
            out[:, :, 0, 0] = torch.stack([torch.full_like(level, number), level, sign + 1], 1).float()
            return out

        return write

    for number, name in enumerate(OPERATIONS):
        monkeypatch.setitem(OPERATIONS, name, note(number))
    count = 40_000
    x = torch.zeros(count, 3, 1, 3, dtype=torch.uint8)
    x[:, :, 0, 1] = torch.arange(count)[:, None] // 256
    x[:, :, 0, 2] = torch.arange(count)[:, None] % 256
    out = trivial_augment(x, generator(3))
    assert torch.equal(out[..., 1:], x[..., 1:])
    number, level, sign = out[:, :, 0, 0].long().unbind(1)
    table = torch.zeros(len(OPERATIONS), STRENGTHS, 2)
    table.index_put_((number, level, sign // 2), torch.ones(count), accumulate=True)
    assert sorted(sign.unique().tolist()) == [0, 2]
    expected = count / table.numel()  # 46 each
    chi_square = ((table - expected) ** 2 / expected).sum() / table.numel()
    assert abs(chi_square - 1) < 6 * (2 / table.numel()) ** 0.5


def test_each_image_is_changed_by_its_own_draws():
    pytest.importorskip("PIL")
    x = torch.cat([pictures(3)] * 30)
    out = trivial_augment(x, generator(6))
    g = generator(6)
    number, level, sign = (torch.randint(n, (len(x),), generator=g) for n in (len(OPERATIONS), STRENGTHS, 2))
    for i, image in enumerate(x):
        change = pillow(list(OPERATIONS)[number[i]], int(level[i]), 2 * int(sign[i]) - 1)
        apart = (out[i].int() - one_by_one(image[None], change)[0].int()).abs() > 1
        assert apart.float().mean() < 0.025  # on edges of pixels


def test_an_image_does_not_see_the_others():
    x = pictures(3)
    whole = torch.cat([x] * 40)
    other = whole.clone()
    other[1::2] = 255 - other[1::2]
    one, two = (trivial_augment(batch, generator(5)) for batch in (whole, other))
    assert torch.equal(one[::2], two[::2])
    assert not torch.equal(one[1::2], two[1::2])


def test_generator_alone_and_input_kept():
    x = torch.cat([pictures(3)] * 20)
    kept, before = x.clone(), torch.get_rng_state()
    first, again, other = (trivial_augment(x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, kept)
    assert (first.shape, first.dtype) == (x.shape, torch.uint8)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_fewer_images_than_operations(count):
    assert len(trivial_augment(pictures(3)[:1].repeat(count, 1, 1, 1), generator())) == count


def test_bad_images_are_refused():
    with pytest.raises(TypeError, match=r"changes uint8 images, not torch.float32: OnPixels"):
        trivial_augment(torch.zeros(2, 3, 8, 8), generator())
    with pytest.raises(ValueError, match="images of 2 channels have no luma"):
        OPERATIONS["color"](torch.zeros(2, 2, 8, 8), torch.zeros(2), torch.ones(2))


def test_on_normalised_images():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    x = torch.cat([pictures(3)] * 20)
    normalised = (x / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    out = OnPixels(trivial_augment, mean, std)(normalised, generator(4))
    pixels = trivial_augment(x, generator(4)) / 255
    expected = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(out, expected)
    outside = OnPixels(lambda pixels, _: pixels, mean, std)(torch.full((1, 3, 2, 2), 1e6), generator())
    torch.testing.assert_close(outside[0, :, 0, 0], (1 - torch.tensor(mean)) / torch.tensor(std))
