"""Images per second of the ImageNet loader, beside plain pillow decoding of the same files in the same run.

    python tests/benchmarks/imagenet_loader.py [--images 1024] [--rounds 5] [--batch 64] [--workers 0 2] [--json FILE]

The files are JPEGs of 500 x 375 pixels and quality 92, of about 110 KB as ImageNet's are: noise in colour with the
amplitudes of photographs, which fall as 1 / frequency, over patches with edges.  Plain pillow opens a file, converts it
to RGB, crops and resizes it to 224 x 224 and makes an array of it, in one process and nothing else.  Batches of bytes,
which is all that a worker makes, are also drawn, mirrored and stacked; the loader then makes numbers of them, on this
processor where there is no other device.  An arm goes through all files once in every round, the start of its workers
included, and arms take turns.  Beside the time on the clock stands that of the processors, workers included, which a
busy machine disturbs less.
"""

import argparse
import io
import json
import os
import platform
import statistics
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from rounds import interleaved, ratios

from deep.data import imagenet
from deep.data.decode import random_box
from deep.data.files import Epoch

W, H = 500, 375


def photograph(seed):
    """A picture with the statistics of a photograph."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(H)[:, None], np.fft.rfftfreq(W))
    spectrum = np.fft.rfft2(rng.standard_normal((3, H, W))) / np.maximum(frequency, 1 / W)
    spectrum[:, 0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(H, W))
    noise = np.einsum("ij,jhw->hwi", [[1, 0.3, 0.2], [1, 0, -0.2], [1, -0.3, 0.1]], noise / noise.std())  # mostly grey
    patches = np.zeros((H, W, 3))
    for _ in range(8):
        x, y, w, h = rng.integers(0, W), rng.integers(0, H), *rng.integers(20, 200, 2)
        patches[y : y + h, x : x + w] = rng.normal(0, 40, 3)
    return Image.fromarray(np.clip(120 + 38 * noise + patches, 0, 255).astype(np.uint8))


def write(root, count):
    """A tree and a shard of the same files; returns their paths and their mean size in KB."""
    paths = []
    for number in range(count):
        for split in ("train", "val"):
            path = root / split / f"n{number % 8}" / f"{number:05d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            if split == "train":
                photograph(number).save(path, quality=92)
                paths.append(path)
            else:
                path.hardlink_to(paths[-1])
    (root / "shards" / "train").mkdir(parents=True)
    with tarfile.open(root / "shards" / "train" / "0.tar", "w") as shard:
        for number, path in enumerate(paths):
            shard.add(path, f"{number:05d}.jpg")
            header = tarfile.TarInfo(f"{number:05d}.cls")
            header.size = 1
            shard.addfile(header, io.BytesIO(b"%d" % (number % 8)))
    return paths, statistics.mean(path.stat().st_size for path in paths) / 1e3


def plain_training(paths):
    from PIL import Image

    for number, path in enumerate(paths):
        x, y, w, h = random_box(W, H, np.random.default_rng(number))
        image = Image.open(path).convert("RGB").crop((x, y, x + w, y + h))
        np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))


def plain_testing(paths):
    from PIL import Image

    for path in paths:
        image = Image.open(path).convert("RGB").resize((256 * W // H, 256), Image.Resampling.BILINEAR)
        left = (image.width - 224) // 2
        np.asarray(image.crop((left, 16, left + 224, 240)))


def processor_time():
    """Seconds of this process and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths, size = write(root, args.images)
        arms = {"pillow, training": lambda: plain_training(paths), "pillow, testing": lambda: plain_testing(paths)}
        epoch = iter(range(10**9))
        training = imagenet(root, "train", args.batch, workers=0)
        order = np.arange(args.images)
        part = Epoch(training.listing, training.view, order, args.batch, 0, 1, 0, (0, 0))
        arms["bytes of a batch, training"] = lambda: [part[step] for step in range(len(part))]
        for workers in args.workers:
            for kind, place, split in (("training", root, "train"), ("testing", root, "test"),
                                       ("training from shards", root / "shards", "train")):  # fmt: skip
                loader = imagenet(place, split, args.batch, workers=workers)
                arms[f"loader, {kind}, {workers} workers"] = lambda loader=loader: list(
                    map(len, loader.batches(next(epoch)))
                )
        used = {name: [] for name in arms}

        def counted(name):
            before = processor_time()
            arms[name]()
            used[name].append(processor_time() - before)

        times = interleaved({name: lambda name=name: counted(name) for name in arms}, args.rounds, "cpu")
    from PIL import features

    about = {"pillow": features.version("pil"), "libjpeg_turbo": features.version_feature("libjpeg_turbo")}
    about |= {"torch": torch.__version__, "machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    about |= {"load": round(os.getloadavg()[0], 1), "images": args.images, "KB": round(size), "rounds": args.rounds}
    print(f"{args.images} JPEGs of {W} x {H}, {size:.0f} KB; {about['cores']} cores, load {about['load']}")
    result = {"about": about, "arms": {}}
    for name, seconds in times.items():
        against = "pillow, testing" if "testing" in name else "pillow, training"
        row = {
            "images/s": round(args.images / statistics.median(seconds), 1),
            "images/s of a processor": round(args.images / statistics.median(used[name]), 1),
            "clock": ratios(seconds, times[against])["time"],
            "processor": ratios(used[name], used[against])["time"],
        }
        result["arms"][name] = row
        (low, high), share = row["processor"]["quartiles"], row["processor"]["median"]
        print(
            f"  {name:<42} {row['images/s']:>7} images/s   {row['images/s of a processor']:>7} a processor second   "
            f"processor time {share:.3f} [{low:.3f}, {high:.3f}]   clock {row['clock']['median']:.3f}"
        )
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
