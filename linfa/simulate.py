"""Gradient flow and gradient descent on the vector field of a rule."""

import itertools
from collections.abc import Iterator

import numpy as np

from linfa.dynamics import State, like, moves, redraw, start, stored_weights, to_numpy
from linfa.optimizer import Optimizer, Plain
from linfa.progress import bar
from linfa.streams import stream
from linfa.trajectory import Trajectory
from linfa.tree import leaves, tree_map


class Diverged(FloatingPointError):
    """The state left the finite numbers."""


def _check(rule, task, network, feedback, seed) -> State:
    if isinstance(network, State):
        return _continued(rule, task, network, feedback)
    if (network.widths[0], network.widths[-1]) != (task.n_in, task.n_out):
        raise ValueError(
            f"the task maps {task.n_in} inputs to {task.n_out} outputs, the network {network.widths[0]} to "
            f"{network.widths[-1]}"
        )
    _check_ensemble(task, network.batch)
    if feedback is None:
        return start(rule, network, seed)
    return State(stored_weights(rule, network), check_feedback(rule, network, feedback))


def _check_ensemble(task, axes):
    if task.ensemble not in ((), axes):
        raise ValueError(f"an ensemble of tasks has the axes of the networks, {tuple(axes)}; got {task.ensemble}")


def _continued(rule, task, state, feedback) -> State:
    """A state to go on from, after a look at its sizes."""
    if feedback is not None:
        raise ValueError("a state to go on from has feedback of its own: put the one you want into the state")
    names = rule.parameterisation.names
    if any(len(leaves(W)) != len(names) for W in state.weights):
        stored = type(state.weights[0]).__name__
        raise ValueError(f"{rule.name} stores {', '.join(names)} for a weight, and the state has {stored}")
    sizes = state.matrices[0].shape[-1], state.matrices[-1].shape[-2]
    if sizes != (task.n_in, task.n_out):
        raise ValueError(
            f"the task maps {task.n_in} inputs to {task.n_out} outputs, the state {sizes[0]} to {sizes[1]}"
        )
    _check_ensemble(task, state.matrices[0].shape[:-2])
    if len(state.feedback) != len(rule.route.edges(len(state.weights))):
        raise ValueError(f"{rule.name} does not store feedback for {len(state.feedback)} edges at this depth")
    return state


def check_feedback(rule, network, feedback) -> tuple:
    """Feedback that a user gives, as a tuple of tuples of the shapes that the rule stores.

    Raises:
        ValueError: naming the edge and both shapes.
    """
    edges = rule.route.edges(network.depth)
    if len(feedback) != len(edges):
        raise ValueError(
            f"{rule.name} has {len(edges)} edges at depth {network.depth}; got feedback for {len(feedback)}"
        )
    given = []
    for edge, stored in zip(edges, feedback, strict=True):
        stored = tuple(stored) if isinstance(stored, (tuple, list)) else (stored,)
        wanted = rule.feedback.shapes(network.widths[edge.activity], network.widths[edge.source])
        shapes = tuple(tuple(matrix.shape[-2:]) for matrix in stored)
        if shapes != wanted:
            names = ", ".join(rule.feedback.names) or "nothing"
            raise ValueError(f"the edge to cut {edge.activity} stores {names} of shapes {wanted}; got {shapes}")
        given.append(stored)
    return tuple(given)


def _pack(state):
    return np.concatenate([np.ravel(part) for part in leaves(state)])


def _unpack(vector, like: State) -> State:
    """Inverse of `_pack`; further axes of ``vector`` in front (times) stay in front."""
    position = 0

    def take(part):
        nonlocal position
        size = part.size
        out = vector[..., position : position + size].reshape(*vector.shape[:-1], *part.shape)
        position += size
        return out

    return tree_map(take, like)


def simulate(
    rule, task, network, time, seed: int = 0, feedback=None, rtol: float = 1e-9, atol: float = 1e-12,
    progress: bool = False,
):  # fmt: skip
    """Integrate the gradient flow of a rule (scipy's DOP853, an 8th-order Runge-Kutta method).

    Args:
        rule: a `Rule`; one that draws its feedback anew at every step has no flow.
        task: a `Task`.
        network: a `Network` at time 0, or a `State` to go on from; leading axes make an ensemble.
        time: the end, giving 201 equidistant times, or an increasing array of times from 0 or later.
        seed: of the feedback.
        feedback: for each edge the matrices to store, instead of drawing them.
        rtol, atol: tolerances of the integrator.
        progress: show a bar of time where the output is a terminal.

    Returns:
        A `Trajectory` at those times.

    Raises:
        ValueError: for negative or decreasing times, shapes that do not match or a rule without a flow.
        Diverged: if the integrator cannot go on.

    >>> import linfa
    >>> task = linfa.Task.from_spectrum([2.0, 1.0])
    >>> run = simulate(linfa.fa(), task, linfa.Network.small((2, 8, 2), seed=1), time=20.0)
    >>> bool(run.loss[-1] < 1e-9 * run.loss[0])
    True
    """
    if rule.feedback.redrawn:
        raise ValueError(
            f"{rule.name} draws its feedback anew at every step and has no flow: use linfa.descend, or a rule with "
            "fixed magnitudes such as linfa.sign_symmetry('uSF')"
        )
    times = _times(time)
    state = _check(rule, task, network, feedback, seed)
    if not all(isinstance(w, np.ndarray) for w in leaves(state.weights)):
        raise TypeError("the flow is integrated in numpy: give numpy weights, or use linfa.descend for torch tensors")
    batch = task.batch

    still = [np.zeros(B.size) for B in leaves(state.feedback)]

    def field(_, y):
        down, learned = moves(rule, _unpack(y, state), batch)
        v = [-D.ravel() for D in leaves(down)]
        v += [zero if dB is None else dB.ravel() for dB, zero in zip(leaves(learned), still, strict=True)]
        return np.concatenate(v)

    kept = list(_flow(rule, field, _pack(state), times, rtol, atol, progress))
    return Trajectory(rule, task, times, _unpack(np.stack(kept), state))


def _flow(rule, field, begin, times, rtol, atol, progress) -> Iterator[np.ndarray]:
    """What the flow has come to at each of the times.

    The integrator lands on every one of them: between its steps, which are long where little happens, its interpolation
    has an error hundreds of times the tolerance.
    """
    from scipy.integrate import DOP853

    with np.errstate(over="ignore", invalid="ignore"):
        solver = DOP853(field, 0.0, begin, times[-1], rtol=rtol, atol=atol)
    with bar(progress, total=times[-1], desc=rule.name, unit_scale=True, unit="") as shown:
        for time in times:
            solver.t_bound, solver.status = time, "running" if time > solver.t else "finished"
            while solver.status == "running":
                before = solver.t
                with np.errstate(over="ignore", invalid="ignore"):
                    message = solver.step()
                if solver.status == "failed" or not np.isfinite(solver.y).all():
                    raise Diverged(
                        f"the flow of {rule.name} left the finite numbers after time {before:.4g}: "
                        f"{message or 'a weight is not finite'}"
                    )
                shown.update(solver.t - before)
            yield solver.y.copy()


def _times(time):
    times = np.linspace(0, float(time), 201) if np.ndim(time) == 0 else np.asarray(time, dtype=float)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) < 0).any():
        raise ValueError(f"time is a number >= 0 or an increasing array of times >= 0; got {time!r}")
    return times


def descend(
    rule,
    task,
    network,
    lr: float,
    steps: int,
    batch_size: int | None = None,
    seed: int = 0,
    feedback=None,
    record: int = 1,
    optimizer: Optimizer = Plain(),  # noqa: B008  frozen
):
    """Run discrete descent: state <- state + lr * velocity(state), and the rule's retraction if it has one.

    The arrays stay what the network's are: numpy, or torch tensors on their device.

    Args:
        rule: a `Rule`.
        task: a `Task`, or an ensemble of them that fits the network's.
        network: a `Network` at step 0, or a `State` to go on from; leading axes make an ensemble.
        lr: learning rate, of weights and feedback alike.
        steps: number of steps.
        batch_size: None for the exact moments of the task, else samples drawn for each step.
        seed: of the feedback, of the mini-batches, and of sampled directions.  An array of seeds, one for each member
            of an ensemble, gives each what it gives alone.
        feedback: for each edge the matrices to store, instead of drawing them.
        record: keep every so many steps, and the last.
        optimizer: what a step makes of the velocity; `linfa.optimizer.Adam` is the other.

    Returns:
        A `Trajectory` whose times are lr * step.

    Raises:
        ValueError: for a learning rate or a number of steps that is not positive, or shapes that do not match.
        Diverged: naming the step, if a weight is no longer finite.

    >>> import linfa
    >>> task = linfa.Task.from_spectrum([2.0, 1.0])
    >>> run = descend(linfa.bp(), task, linfa.Network.small((2, 4, 2), scale=0.5), lr=0.05, steps=400)
    >>> bool(run.loss[-1] < 1e-9)
    True
    """
    if not (lr > 0 and np.isfinite(lr)):
        raise ValueError(f"lr is a positive number; got {lr}")
    if steps < 0 or record < 1:
        raise ValueError(f"steps is at least 0 and record at least 1; got {steps} and {record}")
    begin = _check(rule, task, network, feedback, seed)
    kept, times = [begin], [0.0]
    path = descent(rule, task, begin, lr, batch_size, seed, optimizer)
    for step, state in enumerate(itertools.islice(path, steps), 1):
        if not _finite(state):
            raise Diverged(f"{rule.name} diverged at step {step} with lr={lr:g}: use a smaller learning rate")
        if step % record == 0 or step == steps:
            kept.append(state)
            times.append(lr * step)
    return Trajectory(rule, task, np.array(times), _stack(kept))


def descent(
    rule, task, state: State, lr, batch_size: int | None = None, seed=0, optimizer: Optimizer = Plain()  # noqa: B008
) -> Iterator[State]:  # fmt: skip
    """The state after each step of descent, without end.

    Members of an ensemble never meet: one that diverges becomes inf and nan, and leaves the others as they are.

    Args:
        rule, task, batch_size, optimizer: as in `descend`.
        state: at step 0.
        lr: learning rate; an array (..., 1, 1) has one for each member.
        seed: of the mini-batches, of feedback that is drawn anew and of sampled directions, as in `descend`.
    """
    draws, redraws, directions = (stream(seed, number) for number in (1, 2, 3))
    population, memory = batch_like(state, task.batch), optimizer.start(state)
    _keep_memory()
    while True:
        batch = population if batch_size is None else batch_like(state, task.sample(batch_size, draws))
        if rule.feedback.redrawn:
            state = redraw(rule, state, redraws)
        with np.errstate(over="ignore", invalid="ignore"):
            (down, feedback), memory = optimizer.step(memory, moves(rule, state, batch, directions))
            state = State(advance(state.weights, down, -lr), advance(state.feedback, feedback, lr))
            state = retract(rule, state)
        yield state


def _keep_memory():
    """Have the C library keep the memory of the arrays of a step for those of the next.

    glibc hands large blocks back to the system as soon as they are free, and a step would spend up to half its time on
    faulting their pages in again.  It keeps those below the largest, up to 32 MiB, that it has seen freed: one is.
    """
    np.empty(2**25 - 2**15, np.uint8)


def _finite(state) -> bool:
    """Whether no weight has left the finite numbers, by the sum of squares: one pass, and nothing is stored."""
    with np.errstate(over="ignore", invalid="ignore"):
        return all(bool(w.ravel() @ w.ravel() < 1e300) for w in leaves(state.weights))


def advance(state, v, lr):
    """One explicit Euler step of a state or a part of it, state + lr * v; what has no velocity, None, stays."""
    return tree_map(lambda x, dx: x if dx is None else x + lr * dx, state, v)


def retract(rule, state: State) -> State:
    """The state after a step, its weights led back to where the rule's parameterisation keeps them."""
    return State(tuple(map(rule.parameterisation.retract, state.weights)), state.feedback)


def batch_like(state, batch):
    """The batch in the library, dtype and device of the state."""
    first = leaves(state)[0]
    return type(batch)(*(None if part is None else like(first, part) for part in batch))


def _stack(states) -> State:
    """States along a new first axis, as numpy arrays."""

    def stack(*parts):
        return np.stack([to_numpy(part) for part in parts])

    return tree_map(stack, *states)
