"""What a rule adds to the gradient of the loss: decay and penalties."""

from torch.autograd import Function

from deep.ops.function import apply, identity_form
from linfa.tree import tree_map


class Decayed(Function):
    """The identity on a matrix whose gradient receives decay times the matrix."""

    @staticmethod
    def forward(matrix, decay):
        return matrix.view_as(matrix)

    @staticmethod
    def setup_context(ctx, inputs, output):
        matrix, ctx.decay = inputs
        ctx.save_for_backward(matrix)

    @staticmethod
    def backward(ctx, gradient):
        (matrix,) = ctx.saved_tensors
        return gradient + ctx.decay * matrix, None


identity_form(Decayed, 0)


class Objective(Function):
    """The identity on what a layer stores; its gradient receives what the rule adds to that of the loss.

    These are penalties and decay; where the rule retracts, what leads away from orthonormal frames is taken out.

    Args:
        rule: a rule.
        frame: (..., n_out, r) that U is aligned with, or None.
        matrices: what the rule's parameterisation stores.
    """

    @staticmethod
    def forward(rule, frame, *matrices):
        return tuple(matrix.view_as(matrix) for matrix in matrices)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.rule, frame, *matrices = inputs
        ctx.save_for_backward(frame, *matrices)

    @staticmethod
    def backward(ctx, *gradients):
        frame, *matrices = ctx.saved_tensors
        part, decay = ctx.rule.parameterisation, ctx.rule.decay
        stored = part.build(*matrices)
        gradient = part.objective(stored, part.build(*gradients), frame)
        if decay:
            gradient = tree_map(lambda g, matrix: g + decay * matrix, gradient, stored)
        return None, None, *part.tangent(stored, gradient)


identity_form(Objective, slice(2, None))


def decayed(matrix, decay):
    """The matrix itself, with decay in its gradient."""
    return apply(Decayed, matrix, decay) if decay else matrix
