"""Training steps on an accelerator that computes nothing, where there is none that does:

    python -m tests.deep.accelerator        prints what became of every rule on every layer, as JSON

torch's fake tensors on a device of their own know shapes, dtypes and devices.  An operation on tensors of two devices
raises, and so does whatever asks the device for a number, for which a real one would have to be waited for.
"""

import json
import warnings

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

import deep
from deep.data import augment
from deep.data.images import Images, normalise
from deep.data.trivial_augment import OPERATIONS
from deep.step import Step

from .matrix import RULES, data, net  # isort: skip

DEVICE, LAYERS = "gpu:0", ("linear", "conv", "block", "attention")


class Backend(backend_registration._DummyBackendModule):
    """What autocast wants to know of a device."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


def to_device(mode, model):
    """The parameters and buffers of a model on the device."""
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            module._parameters[name] = nn.Parameter(mode.from_tensor(value).detach().to(DEVICE), value.requires_grad)
        for name, value in module.named_buffers(recurse=False):
            module._buffers[name] = mode.from_tensor(value).to(DEVICE)


def step(name, layer):
    """What becomes of a step: "moved" or "refused", or what is wrong."""
    x, y = data(layer)
    x = x.float()
    try:
        model = deep.promote(net(layer), RULES[name], sample=x[:2])
    except deep.Unsupported:
        return "refused"
    try:
        with FakeTensorMode() as mode:
            to_device(mode, model)
            take = Step(model, deep.optimizer(model, 0.1), clip=1.0, accumulate=2)
            seen = take(mode.from_tensor(x).to(DEVICE), mode.from_tensor(y).to(DEVICE))
        elsewhere = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.device != p.device]
        learning = sum(p.grad is not None for p in model.parameters())
        return "moved" if seen.device == torch.device(DEVICE) and learning and not elsewhere else str(elsewhere)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def changed(change):
    """Where a batch of bytes is after a change, or what is wrong."""
    try:
        with FakeTensorMode():
            return str(change(torch.empty(4, 3, 8, 8, dtype=torch.uint8, device=DEVICE)).device)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def changes():
    """What happens to images on the device, by name: bytes -> images."""
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.2)
    yield "normalise", lambda x: normalise(x, mean, std)
    yield "grayscale", lambda x: Images(x, x, 2, mean, std, "").grayscale().x
    for change in (augment.flip, augment.shift_crop, augment.rotate, augment.cutout, augment.grayscale):
        yield change.__name__, lambda x, change=change: change(x.float(), None)
    yield "on pixels", lambda x: augment.OnPixels(augment.flip, mean, std)(x.float(), None)
    for name, change in OPERATIONS.items():  # which images each changes is asked of the device
        yield f"trivial {name}", lambda x, change=change: change(x.float(), x[:, 0, 0, 0].long(), x[:, 0, 0, 1].long())


def main():
    warnings.simplefilter("ignore")
    backend_registration._setup_privateuseone_for_python_backend("gpu", Backend())
    steps = {f"{name}, {layer}": step(name, layer) for name in RULES for layer in LAYERS}
    images = {name: changed(change) for name, change in changes()}
    print(json.dumps({"steps": steps, "images": images}))


if __name__ == "__main__":
    main()
