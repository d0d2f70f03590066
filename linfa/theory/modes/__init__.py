"""One mode of the task at a time: feedback aligned with the task, and scalar chains."""
