"""Training runs in plain settings."""

import pytest

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.schedule import Schedule
from deep.unsupported import Unsupported


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data("cifar11"), "unknown data 'cifar11': choose one of cifar10, cifar100, mnist"),
        (lambda: Data(limit=0), "limit is at least 1, or None; got 0"),
        (lambda: Data(classes=-3), "classes is at least 1, or None; got -3"),
        (lambda: Data(augment=("flip", "mirror")), "unknown augmentation mirror: choose from flip"),
        (lambda: Optimizer("sdg"), "unknown optimiser 'sdg': choose one of adam, adamw, sgd"),
        (lambda: Optimizer(lr=-1e-3), "^lr is at least 0; got -0.001"),
        (lambda: Optimizer(lr=float("nan")), "^lr is at least 0; got nan"),
        (lambda: Optimizer(weight_decay=-1), "weight_decay is at least 0; got -1"),
        (lambda: Optimizer(feedback_lr=-1), "feedback_lr is at least 0; got -1"),
        (lambda: Optimizer(feedback_decay=-1), "feedback_decay is at least 0; got -1"),
        (lambda: Optimizer(geometry_lr=-1), "geometry_lr is at least 0; got -1"),
        (lambda: Optimizer(momentum=1.0), r"^momentum is in \[0, 1\); got 1.0"),
        (lambda: Optimizer(geometry_momentum=1.0), r"geometry_momentum is in \[0, 1\); got 1.0"),
        (lambda: Optimizer("sgd", amsgrad=True), "amsgrad is of adam and adamw, and the optimiser is sgd"),
        (lambda: Experiment(linfa.fa(), "cnm"), "unknown model 'cnm': choose one of mlp, cnn"),
        (lambda: Experiment(linfa.fa(), epochs=0), "epochs is at least 1; got 0"),
        (lambda: Experiment(linfa.fa(), batch_size=0), "batch_size is at least 1; got 0"),
        (lambda: Experiment(linfa.fa(), seed=-1), "seed is at least 0; got -1"),
        (lambda: Experiment(linfa.fa(), label_smoothing=1.0), r"label_smoothing is in \[0, 1\); got 1.0"),
        (
            lambda: Experiment(linfa.fa(), epochs=3, schedule=Schedule(warmup=3)),
            "a warm-up of 3 epochs leaves nothing of 3",
        ),
        (
            lambda: Experiment(linfa.fa(), optimizer=Optimizer(feedback_lr=0.1)),
            "the feedback of fa does not learn: leave feedback_lr and feedback_decay out",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_rule_that_does_not_promote_is_refused_before_data_are_read(tmp_path):
    with pytest.raises(Unsupported, match="direct and local routes so far"):
        Experiment(linfa.pepita(), data=Data("cifar10", tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("share", "epochs", "limit"), [(1, 10, None), (0.25, 2, None), (0.05, 1, 2500), (1e-6, 1, 128)]
)
def test_a_share_of_the_budget(share, epochs, limit):
    short = Experiment(linfa.fa(), epochs=10, schedule=Schedule("cosine", warmup=2)).scaled(share)
    assert (short.epochs, short.data.limit) == (epochs, limit)
    assert short.schedule.warmup == pytest.approx(2 * epochs / 10)


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_no_share(share):
    with pytest.raises(ValueError, match=r"a share of the budget is in \(0, 1\]; got"):
        Experiment(linfa.fa()).scaled(share)
