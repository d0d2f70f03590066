"""Files that are whole whenever they are read."""

import errno
import os

import pytest

from linfa import log


def test_a_file_that_does_not_fit_the_disk_is_named_and_leaves_the_old_one(tmp_path, monkeypatch):
    log.write(path := tmp_path / "sweep.csv", "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: log.write(path, "new"), lambda: log.write_csv(path, [{"a": 1}])):
        with pytest.raises(OSError, match=r"No space left on device: '.*sweep.csv'"):
            write()
        assert [file.read_text() for file in tmp_path.iterdir()] == ["old\n"]
