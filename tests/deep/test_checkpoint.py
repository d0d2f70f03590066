"""Checkpoints: whole, two of them, and what happens when one is damaged."""

import errno

import pytest
import torch

from deep import checkpoint
from deep.checkpoint import Damaged, load, save


def state(step):
    return {"step": step, "model": {"weight": torch.full((50, 20), float(step))}, "rows": [{"loss": 0.5}]}


def test_the_one_before_is_kept(tmp_path):
    assert load(tmp_path) is None
    for step in (1, 2, 3):
        save(tmp_path, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.before.pt", "checkpoint.pt"]
    assert load(tmp_path)["step"] == 3
    (tmp_path / "checkpoint.pt").unlink()
    assert load(tmp_path)["step"] == 2


def flip(content):
    """One bit, where the numbers are."""
    place = content.index(torch.full((20,), 2.0).numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {"cut": lambda c: c[: len(c) // 2], "empty": lambda c: b"", "another": lambda c: b"x" * len(c), "bit": flip}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_one_before_read(tmp_path, kind):
    save(tmp_path, state(1))
    save(tmp_path, state(2))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damaged := DAMAGE[kind](path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"checkpoint.pt is damaged \(.+\): going on from .*checkpoint.before.pt"):
        assert load(tmp_path)["step"] == 1
    assert (tmp_path / "checkpoint.damaged.pt").read_bytes() == damaged
    save(tmp_path, state(3))
    assert load(tmp_path)["step"] == 3
    path.unlink()
    assert load(tmp_path)["step"] == 1  # which the damaged one did not replace


def test_two_damaged_ones(tmp_path):
    for step in (1, 2):
        save(tmp_path, state(step))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(Damaged, match=r"no checkpoint can be read \(.*checkpoint.pt: .*checkpoint.before.pt: .*copy"):
        load(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_that_does_not_fit_the_disk_leaves_the_last_one(tmp_path, monkeypatch):
    save(tmp_path, state(1))

    def full(error):
        def save(state, path):
            path.write_bytes(b"half")
            raise error

        return save

    for error in OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 128 vs 22"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", full(error))
            with pytest.raises(OSError, match=r"checkpoint.pt could not be written, is the disk full\? .*(left|pos)"):
                save(tmp_path, state(2))
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
        assert load(tmp_path)["step"] == 1
    save(tmp_path, state(3))
    assert not (tmp_path / checkpoint.PART).exists()


def test_a_file_that_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path, state(1))

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "_read", denied)
    with pytest.raises(PermissionError):
        load(tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()


def test_files_are_on_the_disk_before_they_have_their_names(tmp_path, monkeypatch):
    """The content, then the name, then the folder."""
    import os

    calls, inode = [], {}
    replace, fsync = os.replace, os.fsync

    def synced(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def renamed(a, b):
        inode[b.name] = os.stat(a).st_ino
        calls.append(("replace", b.name))
        replace(a, b)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    save(tmp_path, state(1))
    folder = os.stat(tmp_path).st_ino
    assert calls == [("fsync", inode["checkpoint.pt"]), ("replace", "checkpoint.pt"), ("fsync", folder)]
