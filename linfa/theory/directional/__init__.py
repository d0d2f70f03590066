"""Feedback that follows the forward map through random directions: directional DFA and the weight mirror."""
