"""Files of a run that are whole whenever they are read: those of `linfa.log`."""

from linfa.log import write, write_rows

__all__ = ["write", "write_rows"]
