"""What promotion refuses."""


class Unsupported(TypeError):
    """A layer, a model or a rule that cannot be promoted."""
