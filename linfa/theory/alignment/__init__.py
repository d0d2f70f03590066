"""Feedback alignment: fixed feedback of any kind, in two layers."""
