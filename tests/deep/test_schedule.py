"""Learning rates: torch's own schedulers, stepped beside ours, and what every parameter group takes of them."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, MultiStepLR, StepLR

import deep
import linfa
from deep.experiment import Optimizer
from deep.schedule import Schedule

STEPS, EPOCHS = 5, 8
ALL = STEPS * EPOCHS


def followed(make, count, every=1):
    """The factors of a scheduler of torch that is stepped every so many steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler, seen = make(optimizer), []
    for step in range(1, count + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return seen


def factors(schedule):
    return [schedule.factor(step, STEPS, EPOCHS) for step in range(ALL)]


@pytest.mark.parametrize(
    ("schedule", "make", "every"),
    [
        (Schedule("constant"), lambda o: StepLR(o, 1, 1.0), 1),
        (Schedule("cosine"), lambda o: CosineAnnealingLR(o, ALL), 1),
        (Schedule("linear"), lambda o: LinearLR(o, 1.0, 0.0, ALL), 1),
        (Schedule("exponential", rate=0.8), lambda o: ExponentialLR(o, 0.8), STEPS),
        (Schedule("step", rate=0.2), lambda o: MultiStepLR(o, [ALL // 2, ALL * 3 // 4], 0.2), 1),
        (Schedule("step", milestones=(0.25, 0.5, 0.75)), lambda o: StepLR(o, 2, 0.1), STEPS),
    ],
    ids=lambda part: getattr(part, "shape", None),
)
def test_shapes_are_those_of_torch(schedule, make, every):
    assert factors(schedule) == pytest.approx(followed(make, ALL, every), abs=1e-12)


@pytest.mark.parametrize("warmup", [1, 2, 2.4])
def test_warm_up_is_linear_and_the_rest_takes_the_time_that_is_left(warmup):
    warm = round(warmup * STEPS)
    rise = followed(lambda o: LinearLR(o, 1 / warm, 1.0, warm - 1), warm)
    fall = followed(lambda o: CosineAnnealingLR(o, ALL - warm), ALL - warm)
    found = factors(Schedule("cosine", warmup=warmup))
    assert found == pytest.approx(rise + fall, abs=1e-12)
    assert found[0] > 0
    assert found[warm - 1] == found[warm] == 1


def test_warm_up_that_ends_within_a_step():
    assert factors(Schedule("constant", warmup=0.5))[:4] == pytest.approx([0.4, 0.8, 1, 1])


def test_a_shorter_run_ends_as_low():
    for shape in ("linear", "cosine", "exponential", "step"):
        long = Schedule(shape, warmup=2, rate=0.8)
        short = long.stretched(0.25)
        assert short.warmup == 0.5
        assert short.factor(2 * STEPS, STEPS, 2) == pytest.approx(long.factor(8 * STEPS, STEPS, 8), abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "sine"}, "unknown schedule 'sine': choose one of constant, linear, cosine"),
        ({"warmup": -1.0}, "warmup is a number of epochs, at least 0; got -1.0"),
        ({"warmup": float("nan")}, "warmup is a number of epochs"),
        ({"rate": 0.0}, r"rate is in \(0, 1\]; got 0.0"),
        ({"rate": 1.5}, r"rate is in \(0, 1\]; got 1.5"),
        ({"milestones": (0.5, 30)}, r"milestones are shares of the time, in \[0, 1\]; got \(0.5, 30\)"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)


def net(rule):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    model = deep.promote(model, rule, sample=torch.zeros(2, 5, dtype=torch.float64))
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.arange(7) % 3
    deep.loss(model, x, y).backward()
    return model


def moved(model, optimizer):
    """What a step changes of every parameter, by name."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Schedule("constant", warmup=1).set(optimizer, step=0, steps=4, epochs=2)  # a quarter
    optimizer.step()
    return {name: (before[name], p.grad, p.detach() - before[name]) for name, p in model.named_parameters()}


LEARNING = {
    "kolen-pollack": linfa.kolen_pollack(0.0),
    "oja": linfa.ldfa(2),
    "broadcast": linfa.dkp(0.0),
    "local": linfa.sgr(),
}


@pytest.mark.parametrize("rule", LEARNING.values(), ids=LEARNING)
@pytest.mark.parametrize("own", [True, False])
def test_feedback_has_a_rate_and_a_decay_of_its_own(rule, own):
    model = net(rule)
    feedback = {"feedback_lr": 0.03, "feedback_decay": 0.2} if own else {}
    optimizer = Optimizer("sgd", lr=0.1, weight_decay=0.5, momentum=0.0, **feedback).build(model, rule)
    seen = set()
    for name, (before, gradient, step) in moved(model, optimizer).items():
        inside = "feedback" in name
        rate, decay = (0.03, 0.2) if own and inside else (0.1, 0.5)
        torch.testing.assert_close(step, -0.25 * rate * (gradient + decay * before), rtol=1e-9, atol=1e-12)
        seen.add(inside)
    assert seen == {True, False}


def test_feedback_under_muon_has_them_too():
    rule = linfa.muon(linfa.kolen_pollack(0.0))
    model = net(rule)
    settings = Optimizer(
        "sgd", 0.1, 0.5, 0.0, feedback_lr=0.03, feedback_decay=0.2, geometry_lr=0.7, geometry_momentum=0.0
    )
    for name, (before, gradient, step) in moved(model, settings.build(model, rule)).items():
        if name in ("0.weight", "2.weight"):
            U, _, V = torch.linalg.svd(gradient, full_matrices=False)
            expected = -0.25 * 0.7 * U @ V
        else:  # the head is left to the other optimiser
            rate, decay = (0.03, 0.2) if "feedback" in name else (0.1, 0.5)
            expected = -0.25 * rate * (gradient + decay * before)
        torch.testing.assert_close(step, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_first_step_of_adam(name):
    """It is the sign of the gradient, to which adam has added the decay before; adamw decays beside it."""
    rule = linfa.kolen_pollack(0.0)
    model = net(rule)
    optimizer = Optimizer(name, 0.1, 0.5, feedback_lr=0.03, feedback_decay=0.2).build(model, rule)
    for path, (before, gradient, step) in moved(model, optimizer).items():
        rate, decay = (0.03, 0.2) if "feedback" in path else (0.1, 0.5)
        if name == "adam":
            expected = -0.25 * rate * (gradient + decay * before).sign()
        else:
            expected = -0.25 * rate * (gradient.sign() + decay * before)
        torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-6)


def test_groups_keep_their_own_rates_through_a_whole_run():
    model = net(linfa.ldfa(2))
    optimizer = Optimizer(lr=0.1, feedback_lr=0.03).build(model, linfa.ldfa(2))
    schedule = Schedule("cosine", warmup=1)
    for step in range(10):
        schedule.set(optimizer, step, steps=5, epochs=2)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.1 * schedule.factor(step, 5, 2), 0.03 * schedule.factor(step, 5, 2)])
