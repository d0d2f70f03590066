"""Feedback that learns, weights that decay, targets and inputs that teach."""
