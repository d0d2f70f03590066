"""Time of a CIFAR batch, flipped, shifted and cut out, as a share of the training step that it feeds.

    python tests/benchmarks/loader.py [--rounds 13] [--models cnn resnet20] [--batch 128] [--device cpu] [--data FOLDER]

The images are 50,000 of random bytes, or those of the folder, mapped into memory.  The batch and the steps are taken
in every round, in rotated order; the learning rate is 0.
"""

import argparse
import itertools
import json
import platform

import torch
import torch.nn.functional as F
from rounds import interleaved, ratios

from deep.data import Images, OnPixels, Shuffled, cutout, flip, load, shift_crop, trivial_augment
from deep.models import build


def augment(x, generator):
    return cutout(shift_crop(flip(x, generator), generator), generator)


def noise() -> Images:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Images(x, torch.arange(len(x)) % 10, 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "random bytes")


def feed(images, batch, change):
    """Takes the next batch, epoch after epoch."""
    loader = Shuffled(images, batch, augment=change)
    batches = itertools.chain.from_iterable(loader.batches(epoch) for epoch in itertools.count())
    return lambda: next(batches)


def training(name, x, y):
    """Takes a step on one batch."""
    model = build(name, 3, 32, 10).to(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet20"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", help="folder with the official CIFAR-10 files")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    images = (load("cifar10", args.data) if args.data else noise()).to(args.device)
    trivial = OnPixels(trivial_augment, images.mean, images.std)
    changes = {"batch": augment, "batch, not augmented": None, "batch, TrivialAugment": trivial}
    arms = {name: feed(images, args.batch, change) for name, change in changes.items()}
    x, y = arms["batch"]()
    arms |= {name: training(name, x, y) for name in args.models}
    for arm in arms.values():
        arm()
        arm()
    times = interleaved(arms, args.rounds, args.device)
    about = {"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads()}
    about |= {"device": args.device, "batch": args.batch, "rounds": args.rounds, "data": images.source}
    result = {"about": about, "models": {}}
    for name in args.models:
        result["models"][name] = rows = {change: ratios(times[change], times[name]) for change in changes}
        print(f"share of a step of {name}, {1e3 * sorted(times[name])[args.rounds // 2]:.0f} ms (median [quartiles])")
        for change, row in rows.items():
            low, high = row["time"]["quartiles"]
            print(f"  {change:<22} {row['time']['median']:.3f} [{low:.3f}, {high:.3f}]   {row['step ms']:.1f} ms")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
