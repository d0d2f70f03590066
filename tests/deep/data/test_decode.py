"""Crops against pillow's own, and files that are not what they are called."""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep.data import CorruptData, decode

from .photos import content, photo  # isort: skip

Image = pytest.importorskip("PIL.Image", reason="image files are read with pillow: pip install 'linfa-lab[imagenet]'")


def opened(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def crop(data, size=16, seed=0):
    return decode.random_resized_crop(data, size, np.random.default_rng(seed))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(50, 40), (40, 50), (37, 37), (30, 95), (120, 31), (20, 18), (200, 150)])
def test_the_centre_is_that_of_the_resized_whole(size, form):
    data = content(photo(1, size), form)
    whole = opened(data)
    short = 37  # 256/224 of 32
    w, h = (short, int(short * size[1] / size[0])) if size[0] <= size[1] else (int(short * size[0] / size[1]), short)
    left, top = round((w - 32) / 2), round((h - 32) / 2)
    expected = whole.resize((w, h), Image.Resampling.BILINEAR).crop((left, top, left + 32, top + 32))
    np.testing.assert_array_equal(decode.center_crop(data, 32), np.asarray(expected))


@pytest.mark.parametrize("seed", range(6))
def test_the_random_crop_is_a_box_resized_and_mirrored(seed):
    data = content(photo(seed))
    x, y, w, h = decode.random_box(50, 40, rng := np.random.default_rng(seed))
    expected = opened(data).crop((x, y, x + w, y + h)).resize((32, 32), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_array_equal(crop(data, 32, seed), np.asarray(expected))


def test_half_of_the_crops_are_mirrored():
    data = content(Image.linear_gradient("L").rotate(90), "PNG")  # its brightness falls from left to right, or rises
    rises = [np.diff(crop(data, 8, seed)[4, :, 0].astype(int)).sum() > 0 for seed in range(200)]
    assert 70 < sum(rises) < 130


@pytest.mark.parametrize("seed", range(8))
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_and_looks_the_same(seed, monkeypatch):
    data = content(photo(seed, (430, 331)), quality=95)
    x, y, w, h = decode.random_box(430, 331, rng := np.random.default_rng(seed))
    expected = opened(data).crop((x, y, x + w, y + h)).resize((24, 24), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sizes = []
    monkeypatch.setattr(decode, "_rgb", lambda part: sizes.append(part.size) or part)
    found = crop(data, 24, seed)
    assert all(24 <= side < 64 for side in sizes[0]) or max(w, h) < 64
    assert sizes[0][0] < w or min(w, h) < 48
    assert np.abs(found.astype(int) - np.asarray(expected, int)).mean() < 2.5


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32))
def test_a_box_is_in_the_image(W, H, seed):
    x, y, w, h = decode.random_box(W, H, np.random.default_rng(seed))
    assert w > 0
    assert h > 0
    assert x >= 0
    assert y >= 0
    assert x + w <= W
    assert y + h <= H
    if min(W, H) > 50 and 0.75 < W / H < 1.33:
        assert 0.07 < w * h / (W * H) <= 1
        assert 0.72 < w / h < 1.38


def test_boxes_have_the_published_distribution():
    rng = np.random.default_rng(0)
    W, H, n = 500, 375, 20_000
    boxes = np.array([decode.random_box(W, H, rng) for _ in range(4000)], float)
    area, ratio = rng.uniform(0.08, 1, n) * W * H, np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    fits = (np.sqrt(area * ratio) <= W) & (np.sqrt(area / ratio) <= H)  # what does not fit is drawn again
    got = boxes[:, 2] * boxes[:, 3] / (W * H), boxes[:, 2] / boxes[:, 3], boxes[:, 0] / (W - boxes[:, 2] + 1)
    for ours, theirs in zip(got, (area[fits] / (W * H), ratio[fits], rng.random(n)), strict=True):
        np.testing.assert_allclose(
            np.quantile(ours, [0.1, 0.25, 0.5, 0.75, 0.9]), np.quantile(theirs, [0.1, 0.25, 0.5, 0.75, 0.9]), atol=0.035
        )


@pytest.mark.parametrize(("W", "H", "box"), [(1000, 10, (493, 0, 13, 10)), (10, 1000, (0, 493, 10, 13)), (1, 1, None)])
def test_where_no_box_fits_it_is_the_largest_central_one(W, H, box):
    found = decode.random_box(W, H, np.random.default_rng(0))
    assert found == (box or (0, 0, 1, 1))


@pytest.mark.parametrize("read", [crop, lambda data: decode.center_crop(data, 16)])
@pytest.mark.parametrize(
    "data",
    [
        lambda: content(photo(3, mode="L")),
        lambda: content(photo(3, mode="CMYK")),
        lambda: content(photo(3), progressive=True),
        lambda: content(photo(3), "PNG"),
        lambda: content(photo(3, mode="RGBA"), "PNG"),
        lambda: content(photo(3, mode="P"), "PNG", transparency=b"\x00" * 200),
        lambda: content(photo(3, mode="P"), "GIF"),
        lambda: content(photo(3), "BMP"),
    ],
    ids=["grey", "CMYK", "progressive", "PNG", "alpha", "palette", "GIF", "BMP"],
)
def test_other_kinds_of_images_come_out_in_colour(read, data):
    data = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pillow's about palettes, which ours does not pass on
        plain = read(content(opened(data), "PNG"))
    found = read(data)
    assert found.shape == (16, 16, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - plain).mean() < 2.5  # a JPEG may have been decoded at a fraction


def exif(orientation):
    record = Image.Exif()
    record[0x0112] = orientation
    return record.tobytes()


@pytest.mark.parametrize("read", [lambda data: crop(data, 8), lambda data: decode.center_crop(data, 8)])
def test_sixteen_bits_of_grey_keep_the_highest_eight(read):
    for value in (0, 300, 40_000, 65_535):
        data = content(Image.fromarray(np.full((20, 30), value, np.uint16)), "PNG")
        assert np.unique(read(data)).tolist() == [value >> 8]


def test_exif_does_not_turn_an_image():
    turned = content(photo(3), exif=exif(6))
    np.testing.assert_array_equal(decode.center_crop(turned, 16), decode.center_crop(content(photo(3)), 16))


def test_damaged_exif_does_not_matter():
    damaged = content(photo(3), exif=exif(6)[:-14])
    with pytest.warns(UserWarning, match="(?i)exif|read"):
        Image.open(io.BytesIO(damaged)).getexif()
    np.testing.assert_array_equal(crop(damaged), crop(content(photo(3))))


def png_header(W, H):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")


@pytest.mark.parametrize("read", [crop, lambda data: decode.center_crop(data, 16)])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: content(photo(3))[:-200], "does not decode: image file is truncated"),
        (lambda: content(photo(3))[:300], "no JPEG|does not decode"),
        (lambda: content(photo(3), "PNG")[:-500], "does not decode"),
        (lambda: b"404 Not Found", "it is no JPEG, PNG, GIF, BMP or WebP"),
        (lambda: b"", "it is no JPEG"),
        (lambda: content(photo(3), "EPS"), "it is no JPEG"),
        (lambda: png_header(60_000, 60_000), "decompression bomb"),
        (lambda: png_header(60, 60), "does not decode"),
    ],
    ids=["truncated", "header", "PNG", "text", "empty", "EPS", "bomb", "no pixels"],
)
def test_what_does_not_decode_says_so(read, data, reason):
    with pytest.raises(CorruptData, match=reason):
        read(data())


@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 3))
def test_a_flipped_byte_gives_pixels_or_one_kind_of_error(place, value, kind):
    data = bytearray(content(photo(3), ["JPEG", "PNG", "GIF", "BMP"][kind]))
    data[place % len(data)] = value
    with contextlib.suppress(CorruptData):
        assert crop(bytes(data)).shape == (16, 16, 3)


def test_a_thin_image_does_not_take_all_memory():
    data = content(Image.new("L", (60_000, 1), 9), "PNG")
    assert crop(data).shape == (16, 16, 3)
    with pytest.raises(CorruptData, match="60000 x 1 pixels are too thin to be resized to 15360000 x 256"):
        decode.center_crop(data, 224)
