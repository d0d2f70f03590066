"""Backpropagation, the reference: closed forms of its flow."""
