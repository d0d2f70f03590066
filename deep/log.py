"""Files of a run that are whole whenever they are read: those of `linfa.log`."""

from linfa.log import claim, move, write, write_rows

__all__ = ["claim", "move", "write", "write_rows"]
