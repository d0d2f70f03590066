"""Modules with losses of their own: how far local gradients are from backprop, and what reconciles them."""
