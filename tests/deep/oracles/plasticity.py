"""Feedback that learns: the formula of each plasticity."""

import torch


def plasticity_gradients(plasticity, stored, G=None, e=None, J=None):
    """Minus the velocity of each matrix that an edge stores, by name; without those that stay.

    Args:
        plasticity: of the rule, read for its name and its rates.
        stored: name -> matrix.
        G: (n_e, n_h), the sum of error activity^T over rows of a mean loss.
        e: (N, n_e), those errors dLoss/dy.
        J: (n_e, n_h), the forward map as it shows itself.
    """
    kind, P = type(plasticity).__name__, stored.get("P")
    first = "B" if P is None else "Q"

    def seen(M):
        return M if P is None else M @ P.T

    if kind == "Fixed":
        return {}
    if kind == "KolenPollack":
        return {first: seen(G.T)}
    if kind == "Mirror":
        return {first: plasticity.leak * stored[first] - plasticity.gain * seen(J.T)}
    if kind == "Delta":
        C = _covariance(len(e) * e)  # of the errors of single samples
        return {first: seen(G.T + (stored["B"] if P is None else stored["Q"] @ P) @ C)}
    Q = stored["Q"]
    if kind == "Hebb":
        return {"Q": G.T @ P.T, "P": Q.T @ G.T}
    if kind == "Normative":
        return {"Q": (Q @ P - J.T) @ P.T, "P": Q.T @ (Q @ P - J.T)}
    if kind == "Oja":
        C = _covariance(e)
        C = C / C.diagonal().max()
        return {"Q": G.T @ P.T, "P": P @ C @ P.T @ P - P @ C}
    raise NotImplementedError(f"no formula for {kind}")


def _covariance(e):
    return torch.cov(e.T, correction=0).reshape(e.shape[1], -1)
