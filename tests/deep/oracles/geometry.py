"""The direction that orthogonalised steps take."""

import torch


def polar(matrix):
    """U V^T of an SVD, on the directions that there are: the errors of a softmax sum to zero."""
    U, s, Vt = torch.linalg.svd(matrix, full_matrices=False)
    return (U * (s > 1e-10 * s[0])) @ Vt
