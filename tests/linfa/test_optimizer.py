"""Optimisers of descent: Adam is torch's, and directional feedback finds the forward map through it."""

import numpy as np
import pytest

import linfa
from linfa.dynamics import velocity
from linfa.optimizer import Adam, Plain
from linfa.rules import Dense, Direct, LayerRates, Mirror, RandomFactors, Rule

TASK = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, noise=0.3, seed=1)
NETWORK = linfa.Network.small((4, 6, 5, 3), 0.7, seed=2)


@pytest.mark.parametrize("rule", [linfa.fa(), linfa.kolen_pollack(0.2), linfa.factored(linfa.ldfa(2), 3)])
@pytest.mark.parametrize("settings", [{}, {"betas": (0.5, 0.9), "eps": 1e-3}, {"betas": (0.0, 0.0)}])
def test_adam_is_torchs(rule, settings):
    torch = pytest.importorskip("torch")
    run = linfa.descend(rule, TASK, NETWORK, 0.02, 30, optimizer=Adam(**settings))
    leaves = linfa.tree.leaves(run.at(0))
    parameters = [torch.nn.Parameter(torch.as_tensor(x.copy())) for x in leaves]
    theirs = torch.optim.Adam(parameters, lr=0.02, **settings)
    for step in range(30):
        for parameter, v in zip(parameters, linfa.tree.leaves(velocity(rule, run.at(step), TASK.batch)), strict=True):
            parameter.grad = torch.as_tensor(-v)
        theirs.step()
        for parameter, mine in zip(parameters, linfa.tree.leaves(run.at(step + 1)), strict=True):
            assert np.allclose(parameter.detach().numpy(), mine, rtol=1e-12, atol=1e-12)


def test_plain_is_the_default():
    args = linfa.dfa(), TASK, NETWORK, 0.05, 40
    assert np.array_equal(linfa.descend(*args).map, linfa.descend(*args, optimizer=Plain()).map)


@pytest.mark.parametrize("feedback", [Dense(), RandomFactors(2)])
def test_adam_takes_directional_feedback_to_the_forward_map(feedback):
    """The Adam form of directional DFA on frozen weights: its steps, of the size of lr, scatter around Q = J^T P^T."""
    frozen = Rule(Direct(), feedback, Mirror(directions=8), geometry=LayerRates((0.0, 0.0, 0.0)))
    errors = []
    for lr in (8e-3, 2e-3):
        run = linfa.descend(frozen, TASK, NETWORK, lr, 4000, record=20, optimizer=Adam())
        (_, W2, W3), edges = run.at(0).weights, run.states.feedback
        gaps = []
        for stored, J in zip(edges, (W3 @ W2, W3), strict=True):
            end = J.T if len(stored) == 1 else J.T @ stored[1][0].T
            gaps.append(stored[0][100:] - end)  # from step 2000 on
            assert np.abs(gaps[-1].mean(0)).max() < 0.5 * lr**0.5
        errors.append(np.sqrt(np.mean([np.mean(gap**2) for gap in gaps])))
    assert errors[0] < 0.1
    assert errors[1] < 0.6 * errors[0]


def test_adam_trains_with_sampled_directions_as_backprop_does():
    task = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, seed=1)
    rule = linfa.directional_dfa(directions=16)
    run = linfa.descend(rule, task, NETWORK, 0.01, 2500, record=100, optimizer=Adam())
    assert run.loss[-1] < 1e-3 * run.loss[0]
    assert run.update_alignment[-6:].mean() > 0.95


@pytest.mark.parametrize("settings", [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": 0.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="betas lie in"):
        Adam(**settings)
