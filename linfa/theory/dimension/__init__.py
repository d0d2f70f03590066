"""The dimension of the error: low-dimensional feedback, fixed or learned."""
