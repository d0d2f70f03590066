"""deep: rules of `linfa` on PyTorch models.

promote.py   (model, rule) -> the same model with another backward, and back
survey.py    the linear maps of a model           apart.py    weights that are used past their layers
coverage.py  the rules and weights that promotion covers
edges.py     which layer gets which feedback      kinds.py     layers by kind
layers.py    what a promoted layer becomes        ops/     the autograd functions
attention.py multi-head attention                 maps.py  the linear maps of a layer
table.py     what each layer's rule, rank and cost are
derivatives.py  shorter ones than torch has
forward_mode.py  tangents that run along in the training forward of directional rules
local.py     local losses, module by module       chain.py  the stages of a model
factored.py  layers that store U, s and V         ranks.py  their rank lowered during training
optimizer.py the step of a rule's geometry        activity.py  normalised outputs
loss_scale.py  what a gradient scaler has to be told   scaled.py   what that changes in a rule
refresh.py   feedback from the weights of now
models/      a few networks                       data/    readers, batches, augmentation
experiment.py  a training run as plain settings   train.py    the loop that trains it
step.py      one step on a batch                  run.py      what a run has come to
schedule.py  learning rates                       precision.py  dtype, layout, compilation
events.py    what happens between steps           interruption.py  Ctrl-C between steps
checkpoint.py  files to go on from                distributed.py  several processes
divergence.py  what is not finite, and where      log.py      the files of a run
curves.py    figures of a run                     progress.py  a line of the terminal
board.py     TensorBoard, optional                memory.py    that a process keeps
commands.py  of the command line                  recipes/    published experiments
bridge.py    the promoted reading of a certificate  demo.py    the demonstration
unsupported.py  what promotion refuses
measure.py   alignment and error rank             record.py   both, and ranks of gradients, while training
"""

from deep.factored import retract
from deep.local import loss, modules
from deep.loss_scale import set_loss_scale
from deep.optimizer import optimizer
from deep.promote import demote, promote
from deep.ranks import scheduled_ranks, shrink
from deep.record import Recorder
from deep.refresh import refresh
from deep.table import table
from deep.unsupported import Unsupported

__all__ = [
    "Recorder", "Unsupported", "demote", "loss", "modules", "optimizer", "promote", "refresh", "retract",
    "scheduled_ranks", "set_loss_scale", "shrink", "table",
]  # fmt: skip
