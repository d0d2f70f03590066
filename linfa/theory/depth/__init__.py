"""Feedback alignment in more than two layers."""
