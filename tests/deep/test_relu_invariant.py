"""A promoted ReLU network keeps the invariant of every unit, and not the matrix that a linear network keeps."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deep
import linfa
from linfa.theory.alignment.relu import relu_invariant

LR = 0.1


def values(model):
    """By hidden layer, the invariant of its units with their biases."""
    layers = model[0], model[2], model[4]
    return [
        relu_invariant(*(p.detach().numpy() for p in (a.weight, b.weight, b.feedback["B"], a.bias)))
        for a, b in itertools.pairwise(layers)
    ]


def network(rule, activation=nn.ReLU):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 7), activation(), nn.Linear(7, 6), activation(), nn.Linear(6, 3)).double()
    return deep.promote(model, rule, sample=torch.zeros(1, 4, dtype=torch.float64))


def step(model):
    """One step on a fresh mini-batch; gives its gradients by layer."""
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= LR * p.grad
    return [torch.cat([m.weight.grad, m.bias.grad[:, None]], 1) for m in (model[0], model[2])]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_drift_is_the_square_of_the_step(activation):
    model = network(linfa.fa(), activation)
    for _ in range(10):
        before = values(model)
        gradients = step(model)
        for old, now, G in zip(before, values(model), gradients, strict=True):
            assert now - old == pytest.approx(LR**2 * (G**2).sum(1).numpy(), rel=1e-9, abs=1e-14)


def test_other_units_and_other_rules_do_not():
    """tanh is not homogeneous, and feedback that follows the weights obeys another law."""
    for model in (network(linfa.fa(), nn.Tanh), network(linfa.kolen_pollack(0.0))):
        before = values(model)
        gradients = step(model)
        gaps = [abs(now - old - LR**2 * (G**2).sum(1).numpy()).max() for old, now, G in
                zip(before, values(model), gradients, strict=True)]  # fmt: skip
        assert max(gaps) > 1e-4


def test_the_rest_of_the_matrix_moves():
    model = network(linfa.fa())
    a, b = model[0], model[2]

    def matrix():
        W, V, B = (p.detach().clone() for p in (a.weight, b.weight, b.feedback["B"]))
        return W @ W.T - B @ V - (B @ V).T

    before = matrix()
    step(model)
    off = (matrix() - before).fill_diagonal_(0)
    assert off.abs().max() > 1e-3
