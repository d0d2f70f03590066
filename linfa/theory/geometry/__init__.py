"""Other directions than the gradient's, and activities that are normalised."""
