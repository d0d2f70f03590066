"""What a promoted layer becomes: the same module with the same parameters, and another backward.

`Edge` layers deliver their input's error by a layerwise edge.  `Cut` layers take part in the direct route: they detach
their input and hand the live one to the layer at the source of the error, which joins all of them in one fan-out.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch._C._functorch import peek_interpreter_stack

from deep import forward_mode, ops
from deep.scaled import follows
from deep.unsupported import Unsupported
from linfa.rules import Euclidean


def gradient_decay(rule) -> float:
    """The decay in a weight's gradient: none where a direction is to be taken of the gradient alone."""
    return rule.decay if rule.geometry == Euclidean() else 0.0


class Promoted:
    """Mixed into a promoted layer; ``feedback`` holds what its edges store, ``rule`` the rule.

    Of the layers that share a weight, one ``decays`` it.  ``unscaled`` is the rule for a loss that nobody multiplies,
    once `deep.set_loss_scale` has said by what it is.
    """

    decays = True
    unscaled = None

    @property
    def own_rule(self):
        """The rule, whatever the loss is multiplied by."""
        return self.unscaled or self.rule

    def extra_repr(self):
        return f"{super().extra_repr()}, rule={self.rule.name}"

    def __prepare_scriptable__(self):
        raise Unsupported(f"TorchScript knows no {type(self).__name__}, whose backward is Python: {ops.PLAIN_COPY}")

    def decayed_weight(self):
        """The weight with the rule's decay in its gradient, or without it where the optimiser takes it."""
        return self.decayed(self.weight)

    def decayed(self, weight):
        """A weight of the layer, with that decay."""
        self.check_scale()
        return ops.decayed(weight, gradient_decay(self.rule) if self.decays else 0.0)

    def check_scale(self):
        """Raise RuntimeError where a gradient scaler is at work, and what it divides did not come from the loss."""
        device, rule = next(self.parameters()).device.type, self.rule
        if self.unscaled is not None or not torch.is_autocast_enabled(device):
            return
        if torch.get_autocast_dtype(device) == torch.float16 and not follows(rule):
            raise RuntimeError(
                f"{rule.name} has gradients that do not come from the loss, which the gradient scaler of float16 would "
                "divide by its scale: call deep.set_loss_scale(model, scaler.get_scale()) before each step (1.0 "
                "without a scaler), or use bfloat16"
            )


def stored(rule, parameters):
    """What an edge stores, in the order of the rule, with the rule's decay on what learns."""
    if not parameters:
        return ()
    matrices = [parameters[name] for name in rule.feedback.names]
    return tuple(ops.decayed(B, rule.decay) if B.requires_grad else B for B in matrices)


def edge_stored(layer, name=None):
    """What a layer's own edge stores, or the one of a name, drawn anew where the rule says so."""
    rule, feedback = layer.rule, layer.feedback if name is None else layer.feedback[name]
    if rule.feedback.redrawn and layer.training and torch.is_grad_enabled():
        spread = layer.spread if name is None else layer.spread[list(layer.feedback).index(name)]
        drawn = {key: rule.feedback.draw(torch.randn_like(old), spread) for key, old in feedback.items()}
        if not torch.compiler.is_compiling() and peek_interpreter_stack() is None:  # which allow no writing
            with torch.no_grad():
                for key, matrix in drawn.items():
                    feedback[key].copy_(matrix)  # to be read, and for evaluation; under sharding it does not last
        return stored(rule, drawn)
    return stored(rule, feedback)


class EdgeLinear(Promoted, nn.Linear):
    """`nn.Linear` on a layerwise edge; without feedback where its input needs no error."""

    def forward(self, input):
        x, weight, bias, *stored = ops.autocast(input, self.decayed_weight(), self.bias, *edge_stored(self))
        return ops.apply(ops.LinearMap, x, weight, bias, self.rule, *stored)


def padded(conv, x):
    """The input of a convolution with what zeros on both sides cannot pad, and the padding that is left to do."""
    none = (0,) * len(conv.kernel_size)
    if conv.padding_mode != "zeros" or conv.padding == "same":
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        return F.pad(x, conv._reversed_padding_repeated_twice, mode=mode), none
    return x, none if conv.padding == "valid" else conv.padding


def prepared(conv, x, output_size=None):
    """The input of a convolution as a batch, padded as far as needed, and the geometry that `ops.ConvMap` takes."""
    spatial, more = len(conv.kernel_size), conv.output_padding
    if x.dim() == spatial + 1:
        x = x[None]
    x, padding = padded(conv, x)
    if conv.transposed:
        more = conv._output_padding(x, output_size, conv.stride, padding, conv.kernel_size, spatial, conv.dilation)
    return x, (conv.stride, padding, conv.dilation, conv.transposed, tuple(more), conv.groups)


class EdgeConv(Promoted):
    """A convolution on a layerwise edge."""

    def forward(self, input, output_size=None):
        x, geometry = prepared(self, input, output_size)
        x, weight, bias, *stored = ops.autocast(x, self.decayed_weight(), self.bias, *edge_stored(self))
        y = ops.apply(ops.ConvMap, x, weight, bias, self.rule, geometry, *stored)
        return y if input.dim() == y.dim() else y[0]


class EdgeConv1d(EdgeConv, nn.Conv1d):
    """`nn.Conv1d` on a layerwise edge."""


class EdgeConv2d(EdgeConv, nn.Conv2d):
    """`nn.Conv2d` on a layerwise edge."""


class EdgeConv3d(EdgeConv, nn.Conv3d):
    """`nn.Conv3d` on a layerwise edge."""


class EdgeConvTranspose1d(EdgeConv, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` on a layerwise edge."""


class EdgeConvTranspose2d(EdgeConv, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` on a layerwise edge."""


class EdgeConvTranspose3d(EdgeConv, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` on a layerwise edge."""


def leading(module, dim):
    """How many axes of an input number its samples: all but the last, where positions and channels are not apart."""
    return 1 if isinstance(module, nn.modules.conv._ConvNd) else dim - 1


class Cut(Promoted):
    """A layer of the direct route.

    ``cuts`` is one dictionary that all layers of a promoted model share during a single forward: every cut layer puts
    its live input there and the source layer takes them all out again.  ``first`` is the layer that runs first,
    ``is_cut`` whether the layer's input carries a teaching signal, ``is_passed`` whether the broadcast passes it by
    because its input needed none on the sample, and the source has ``edges`` (module path -> key in
    ``feedback``).  Where the plasticity reads the edges' forward maps and the model trains, every cut sends a random
    direction along, see `deep.forward_mode`.
    """

    def _replicate_for_data_parallel(self):
        raise Unsupported(
            f"the copies that DataParallel makes of {self.path} run at the same time and would mix up their cuts: use "
            "DistributedDataParallel"
        )

    @property
    def probes(self):
        """Whether random directions start here, or are read here."""
        return self.training and "J" in self.rule.plasticity.reads

    def linear_map(self, x, *args, **kwargs):
        """The map itself, left to autograd but for the rule's decay."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its linear map is")

    def forward(self, input, *args, **kwargs):
        x = input
        if not torch.is_grad_enabled():
            return self.linear_map(x, *args, **kwargs)
        if self.first:
            self.cuts.clear()
        if self.is_passed and x.requires_grad:
            raise RuntimeError(
                f"a gradient of {self.rule.name} is asked for at the input of {self.path}, to which no error is "
                "broadcast because on the sample given to promote it needed none: demote the model, let what is to "
                "learn require grad, or the sample, and promote it again"
            )
        if self.is_cut:
            if self.path in self.cuts:
                raise RuntimeError(
                    f"{self.path} ran twice in one forward pass: a direct rule needs a layer of its own for every cut; "
                    f"name it in exact=('{self.path}',) to leave it on backpropagation"
                )
            live, probe, x = forward_mode.perturb(x) if self.probes else (x, None, ops.detach(x))
            self.cuts[self.path] = live, probe
        if not self.edges:
            return self.linear_map(x, *args, **kwargs)
        if self.source_is_input:
            return self.linear_map(self.fan_out(x), *args, **kwargs)
        return self.fan_out(self.linear_map(x, *args, **kwargs))

    def fan_out(self, signal):
        """Join the cuts of this forward pass to the signal whose error they receive."""
        missing = [path for path in self.edges if path not in self.cuts]
        if missing:
            raise RuntimeError(
                f"the layers {', '.join(missing)} did not run before {self.path} in this forward pass, with gradients "
                "on: a direct rule needs every cut in the same pass (re-entrant checkpointing hides them: use "
                "use_reentrant=False)"
            )
        lead = leading(self, signal.dim())
        activities, probes, matrices = [], [], []
        for path, key in self.edges.items():
            x, probe = self.cuts.pop(path)
            if x.shape[:lead] != signal.shape[:lead]:
                raise RuntimeError(
                    f"the input of {path} has shape {tuple(x.shape)}, but the error at {self.path} comes for samples "
                    f"{tuple(signal.shape[:lead])}"
                )
            units = len(self.feedback[key][self.rule.feedback.names[0]])
            if units not in (x.shape[lead:].numel(), x.shape[lead:][:1].numel()):
                raise RuntimeError(
                    f"the input of {path} has shape {tuple(x.shape)}, but its feedback is for {units} units a sample: "
                    "broadcast feedback knows one size, pad or crop to that of the sample given to promote"
                )
            activities.append(x)
            probes.append(probe)
            matrices.extend(stored(self.rule, self.feedback[key]))
        maps = [None] * len(probes)
        if self.probes:
            signal, d = forward_mode.arrived(signal, [probe for probe in probes if probe])
            sizes = [len(self.feedback[key][self.rule.feedback.names[0]]) for key in self.edges.values()]
            maps = [p and ops.mean_product(d, p.v, lead, units) for p, units in zip(probes, sizes, strict=True)]
        return ops.apply(ops.FanOut, signal, self.rule, lead, len(activities), *activities, *maps, *matrices)


class CutLinear(Cut, nn.Linear):
    """`nn.Linear` on the direct route."""

    def linear_map(self, x):
        return F.linear(x, self.decayed_weight(), self.bias)


class CutConv(Cut):
    """A convolution on the direct route."""

    def linear_map(self, x, output_size=None):
        inputs, geometry = prepared(self, x, output_size)
        tensors = ops.autocast(inputs, self.decayed_weight(), self.bias)  # autocast on CPUs does not know convolution
        y = torch.convolution(*tensors, *geometry)
        return y if x.dim() == y.dim() else y[0]


class CutConv1d(CutConv, nn.Conv1d):
    """`nn.Conv1d` on the direct route."""


class CutConv2d(CutConv, nn.Conv2d):
    """`nn.Conv2d` on the direct route."""


class CutConv3d(CutConv, nn.Conv3d):
    """`nn.Conv3d` on the direct route."""


class CutConvTranspose1d(CutConv, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` on the direct route."""


class CutConvTranspose2d(CutConv, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` on the direct route."""


class CutConvTranspose3d(CutConv, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` on the direct route."""


class Normalised(Promoted):
    """Mixed in before a promoted layer whose output is normalised, by the module ``normalisation``.

    Under autocast a layer whose output is whitened works in the precision of its weight: what is rounded fills every
    direction, and whitening makes all of them equally large.
    """

    def forward(self, input, *args, **kwargs):
        device = input.device.type
        if not (self.normalisation.activity.basis_free and torch.is_autocast_enabled(device)):
            return self.normalisation(super().forward(input, *args, **kwargs))
        with torch.autocast(device, enabled=False):
            return self.normalisation(super().forward(input.to(self.normalisation.mean.dtype), *args, **kwargs))


def slowly(module, inputs):
    """A hook without effect: `nn.TransformerEncoderLayer` has a fast path past the forward of its layers, but not past
    a hook."""


LAYERWISE = {
    nn.Linear: EdgeLinear,
    nn.Conv1d: EdgeConv1d, nn.Conv2d: EdgeConv2d, nn.Conv3d: EdgeConv3d,
    nn.ConvTranspose1d: EdgeConvTranspose1d, nn.ConvTranspose2d: EdgeConvTranspose2d,
    nn.ConvTranspose3d: EdgeConvTranspose3d,
}  # fmt: skip
"""What a layer becomes on the layerwise route."""

DIRECT = {
    nn.Linear: CutLinear,
    nn.Conv1d: CutConv1d, nn.Conv2d: CutConv2d, nn.Conv3d: CutConv3d,
    nn.ConvTranspose1d: CutConvTranspose1d, nn.ConvTranspose2d: CutConvTranspose2d,
    nn.ConvTranspose3d: CutConvTranspose3d,
}  # fmt: skip
"""What a layer becomes on the direct route."""


def _normalised(kind):
    """The class of a promoted layer whose output is normalised."""
    about = {"__module__": __name__, "__doc__": f"`{kind.__name__}`, normalised."}
    return type(f"Normalised{kind.__name__}", (Normalised, kind), about)


NORMALISED = {kind: _normalised(kind) for kind in (*LAYERWISE.values(), *DIRECT.values())}
"""The class of a promoted layer with a normalised output."""

globals().update({kind.__name__: kind for kind in NORMALISED.values()})  # pickle finds a class by its name

PLAIN = {kind: plain for table in (LAYERWISE, DIRECT) for plain, kind in table.items()}
PLAIN |= {NORMALISED[kind]: plain for kind, plain in PLAIN.items()}
"""The class that each promoted class goes back to."""
