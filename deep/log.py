"""Files of a run that are whole whenever they are read: those of `linfa.log`."""

from linfa.log import check_claim, claim, move, write, write_rows

__all__ = ["check_claim", "claim", "move", "write", "write_rows"]
