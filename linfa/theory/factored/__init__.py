"""Weights in factors U diag(s) V^T: what their gradients are, what holds them together, how fast a mode is learned."""
