"""Freed memory that stays, seen in the pages that the system has to hand out."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from deep.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
def pages(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(n) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
sizes = 2**23, 2**21, 2**22  # 32, 8 and 16 MB
for _ in range(3):
    [pages(n) for n in sizes]
print(sum(pages(n) for _ in range(4) for n in sizes))
"""


def faults(what):
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_a_large_tensor_takes_the_pages_of_the_last_one():
    assert faults("keep") < 100 < faults("give back")
