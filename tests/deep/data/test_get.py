"""Downloads from a local server that breaks, lies, stalls and forgets."""

import functools
import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import re
import shlex
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from deep.data import CorruptData, get, load
from deep.data.get import SOURCES, Source, Unreachable
from deep.data.load import OFFICIAL
from linfa import cli

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
CONTENT = np.random.default_rng(0).integers(0, 256, 10_000, dtype=np.uint8).tobytes()


class Server(ThreadingHTTPServer):
    """Files by path, and how they are served.

    breaks: bytes after which a connection ends, one number for each request while there are any.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests, self.breaks = {}, [], []
        self.ranges, self.shift, self.length, self.pause = True, 0, True, 0.0

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, address):
        """A client that has gone is none of the test's."""

    @property
    def asked(self):
        """Paths and the first bytes that were asked for."""
        return [
            (path, header and int(header.removeprefix("bytes=").removesuffix("-"))) for path, header in self.requests
        ]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path, wanted = self.server, self.path.strip("/"), self.headers["Range"]
        server.requests.append((path, wanted))
        time.sleep(server.pause)
        if path not in server.files:
            return self.send_error(404)
        content = server.files[path]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start and start >= len(content):
            return self.send_error(416)
        start = max(0, start - server.shift) if start else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: server.breaks.pop(0)] if server.breaks else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as here:
        threading.Thread(target=here.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield here
        here.shutdown()


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def plain(server):
    server.files["a/file.gz"] = CONTENT
    return Source("set/file.gz", (server.url("a/file.gz"),), md5(CONTENT))


def packed(files, mode="w:gz", links=()):
    """A tar archive with files, by name, and symbolic links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return out.getvalue()


MEMBERS = {"set/one": b"1" * 3000, "set/two": b"2" * 5000, "set/three": b"3"}


def archive_of(server, files=MEMBERS, wanted=MEMBERS, **options):
    server.files["a/set.tar.gz"] = content = packed(files, **options)
    sums = {name: md5(content) for name, content in wanted.items()}
    return Source("set.tar.gz", (server.url("a/set.tar.gz"),), md5(content), sums)


def left(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_file_is_fetched_once(server, plain, tmp_path):
    assert get.get((plain,), tmp_path / "new") == [tmp_path / "new" / "set" / "file.gz"]
    assert (tmp_path / "new" / "set" / "file.gz").read_bytes() == CONTENT
    assert get.get((plain,), tmp_path / "new") == []
    assert server.asked == [("a/file.gz", None)]
    assert left(tmp_path) == ["new/set/file.gz"]


def test_an_archive_is_fetched_and_unpacked_once(server, tmp_path):
    source = archive_of(server, {**MEMBERS, "set/readme": b"not wanted"})
    assert get.get((source,), tmp_path) == [tmp_path / name for name in MEMBERS]
    for name, content in MEMBERS.items():
        assert (tmp_path / name).read_bytes() == content
    assert get.get((source,), tmp_path) == []
    assert len(server.requests) == 1
    assert left(tmp_path) == sorted(MEMBERS)


def test_a_connection_that_breaks_is_taken_up_again(server, plain, tmp_path):
    server.breaks = [1000, 2500, 1]
    get.get((plain,), tmp_path)
    assert (tmp_path / plain.name).read_bytes() == CONTENT
    assert [begin for _, begin in server.asked] == [None, 1000, 3500, 3501]


def test_the_next_call_goes_on(server, plain, tmp_path):
    server.breaks = [4000, 0]
    with pytest.raises(
        Unreachable, match=r"broke after 4000 of 10000 bytes; the next call goes on from the 4000 bytes"
    ):
        get.get((plain,), tmp_path)
    assert left(tmp_path) == ["set/file.gz.part"]
    server.requests.clear()
    get.get((plain,), tmp_path)
    assert server.asked == [("a/file.gz", 4000)]
    assert (tmp_path / plain.name).read_bytes() == CONTENT


def test_the_next_mirror_goes_on(server, plain, tmp_path):
    server.files["b/file.gz"] = CONTENT
    urls = tuple(map(server.url, ("nowhere/file.gz", "a/file.gz", "b/file.gz")))
    server.breaks = [6000, 0]
    get.get((Source(plain.name, urls, plain.md5),), tmp_path)
    assert server.asked == [("nowhere/file.gz", None), ("a/file.gz", None), ("a/file.gz", 6000), ("b/file.gz", 6000)]
    assert (tmp_path / plain.name).read_bytes() == CONTENT


def test_every_mirror_is_in_the_error(server, plain, tmp_path):
    urls = (server.url("nowhere"), "http://127.0.0.1:1/closed")
    with pytest.raises(Unreachable, match=r"published file.gz: .*/nowhere: HTTP Error 404.*; .*/closed: .*refused"):
        get.get((Source(plain.name, urls, plain.md5),), tmp_path)
    assert left(tmp_path) == []


def test_a_mirror_that_is_silent_is_left(server, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(get, "TIMEOUT", 0.1)
    server.pause = 0.5
    with pytest.raises(Unreachable, match="timed out"):
        get.get((plain,), tmp_path)


@pytest.mark.parametrize("answer", ["everything", "another range", "nothing from there on"])
def test_a_server_that_cannot_go_on_starts_again(server, plain, tmp_path, answer, monkeypatch):
    checked, check = [], get._md5
    monkeypatch.setattr(get, "_md5", lambda path: checked.append(check(path)) or checked[-1])
    part = tmp_path / "set" / "file.gz.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:3000])
    if answer == "everything":
        server.ranges = False
    elif answer == "another range":
        server.shift = 100
    else:
        part.write_bytes(CONTENT + b"more")
    get.get((plain,), tmp_path)
    assert (tmp_path / plain.name).read_bytes() == CONTENT
    assert len(server.requests) == 1 + (answer != "everything")
    assert len(checked) == 2  # what was there, and what came: nothing is put together that does not fit


def test_a_server_without_ranges_that_breaks_is_given_up(server, plain, tmp_path):
    server.ranges, server.breaks = False, [3000, 3000, 3000]
    with pytest.raises(Unreachable, match="broke after 3000 of 10000"):
        get.get((plain,), tmp_path)
    assert len(server.requests) == 2
    server.breaks = []
    get.get((plain,), tmp_path)
    assert (tmp_path / plain.name).read_bytes() == CONTENT


def test_a_server_that_does_not_say_how_much(server, plain, tmp_path):
    server.length = False
    get.get((plain,), tmp_path)
    assert (tmp_path / plain.name).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused(server, plain, tmp_path):
    server.files["a/file.gz"] = b"x" + CONTENT[1:]
    with pytest.raises(Unreachable, match=f"gives a file with the MD5 .*, not {plain.md5}; it was deleted$"):
        get.get((plain,), tmp_path)
    assert left(tmp_path) == []
    server.files["b/file.gz"] = CONTENT
    get.get((Source(plain.name, (*plain.urls, server.url("b/file.gz")), plain.md5),), tmp_path)
    assert (tmp_path / plain.name).read_bytes() == CONTENT


def test_a_wrong_beginning_is_fetched_again(server, plain, tmp_path):
    part = tmp_path / "set" / "file.gz.part"
    part.parent.mkdir()
    part.write_bytes(b"<html>log in to this network</html>")
    get.get((plain,), tmp_path)
    assert [begin for _, begin in server.asked] == [35, None]
    assert (tmp_path / plain.name).read_bytes() == CONTENT


def test_interrupted_unpacking_goes_on_without_the_network(server, tmp_path, monkeypatch):
    source, replace = archive_of(server), os.replace

    def interrupt(old, new):
        if Path(new).name == "two":
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get.get((source,), tmp_path)
    assert left(tmp_path) == ["set.tar.gz.part", "set/one", "set/two.part"]
    server.requests.clear()
    assert get.get((source,), tmp_path) == [tmp_path / "set/two", tmp_path / "set/three"]
    assert not server.requests
    assert left(tmp_path) == sorted(MEMBERS)


def test_other_files_of_that_name_stay(server, plain, tmp_path):
    source = archive_of(server)
    for name in ("set/two", "set.tar.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(CorruptData, match=rf"{name} is there, but .* not the published file .*: move it away"):
            get.get((source,), tmp_path)
        assert (tmp_path / name).read_bytes() == b"mine"
        (tmp_path / name).unlink()
    assert not server.requests


def test_an_archive_of_the_user_serves_and_stays(server, tmp_path):
    source = archive_of(server)
    (tmp_path / "set.tar.gz").write_bytes(server.files["a/set.tar.gz"])
    get.get((source,), tmp_path)
    assert left(tmp_path) == sorted(["set.tar.gz", *MEMBERS])
    assert not server.requests


@pytest.mark.parametrize("wanted", [{"set/one": b"root"}, {"../outside": b"x"}])
def test_a_hostile_archive_writes_nowhere_else(server, tmp_path, wanted):
    """Absolute paths, paths upwards and links are never followed: what is not asked for is not unpacked."""
    target = tmp_path / "elsewhere"
    files = {"../outside": b"x", f"{tmp_path}/absolute": b"x", "set/two": b"2"}
    source = archive_of(server, files, {"set/two": b"2", "set/one": b"1"}, links=[("set/one", str(target))])
    with pytest.raises(CorruptData, match=r"set\.tar\.gz\.part holds no file set/one$"):
        get.get((source,), tmp_path / "in")
    assert left(tmp_path) == ["in/set.tar.gz.part", "in/set/two"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"no archive", lambda b: b[:-9] + b"\0" * 9])
def test_an_archive_that_is_none(server, tmp_path, damage):
    whole = packed({name: os.urandom(9000) for name in MEMBERS})
    server.files["a/set.tar.gz"] = damage(whole)
    source = Source("set.tar.gz", (server.url("a/set.tar.gz"),), md5(damage(whole)), {"set/last": "0" * 32})
    with pytest.raises(CorruptData, match=r"is not a whole tar archive|holds no file set/last"):
        get.get((source,), tmp_path)


def test_a_member_with_another_checksum(server, tmp_path):
    source = archive_of(server, wanted={**MEMBERS, "set/two": b"other"})
    with pytest.raises(CorruptData, match=rf"holds a set/two with the MD5 .*, not {md5(b'other')}"):
        get.get((source,), tmp_path)
    assert left(tmp_path) == ["set.tar.gz.part", "set/one"]


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_fetched_is_what_is_read(tmp_path, name):
    sums = [md5 for source in SOURCES[name] for md5 in (source.md5, *source.members.values())]
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)
    assert len(set(sums)) == len(sums)
    places = [tmp_path / place for source in SOURCES[name] for place in source.members or (source.name,)]
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.touch()
    read = {path for split in ("train", "test") for path in OFFICIAL[name].files(tmp_path, split)}
    assert read <= set(places)
    assert {p.name for p in set(places) - read} <= {"batches.meta", "meta"}
    assert all(url.endswith(Path(source.name).name) and "://" in url for source in SOURCES[name] for url in source.urls)


def call(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(args))
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


def test_command(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SOURCES, "cifar10", (archive_of(server),))
    place = tmp_path / "my data"
    code, out, err = call(capsys, "data", "get", "cifar10", "--out", str(place))
    assert (code, err) == (0, "")
    said, use = out.splitlines()
    assert said == f"cifar10 is in {place}, as published"
    name, *args = shlex.split(use)
    assert name == "linfa"
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *args)  # the command is there, and looks where the files are
    assert code == 2
    assert f"{place} holds no CIFAR-10 train set" in err
    again = call(capsys, "data", "get", "cifar10", "--out", str(place))
    assert again == (0, f"cifar10 was in {place} already\n  {use.strip()}\n", "")


def test_command_that_fails_or_is_interrupted(server, plain, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SOURCES, "mnist", (plain,))
    (tmp_path / "file").touch()
    code, _, err = call(capsys, "data", "get", "mnist", "--out", str(tmp_path / "file"))
    assert code == 2
    assert "Not a directory" in err
    server.files.clear()
    code, _, err = call(capsys, "data", "get", "mnist", "--out", str(tmp_path))
    assert code == 2
    assert err.startswith("linfa: no mirror gives the published file.gz")
    assert err.count("\n") == 1

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(get, "get", interrupt)
    code, _, err = call(capsys, "data", "get", "mnist", "--out", str(tmp_path))
    assert code == 130
    assert "goes on from here" in err


@pytest.fixture(scope="module")
def unpack():
    """What writes the images beside the checkout in their official layouts."""
    if not (SHARED / "unpack.py").exists():
        pytest.skip("needs the image shards beside the checkout")
    pytest.importorskip("PIL", reason="the shards are unpacked with pillow")
    spec = importlib.util.spec_from_file_location("unpack", SHARED / "unpack.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_real_cifar10_from_server_to_images(server, unpack, tmp_path):
    x, shard = unpack.images("cifar10_test")
    table = {b"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), b"labels": shard["label"].tolist()}
    files = {"cifar-10-batches-py/test_batch": pickle.dumps(table, protocol=2)}
    source = archive_of(server, files, files, mode="w")
    server.breaks = [10_000_000]
    get.get((source,), tmp_path)
    for _ in range(2):
        images = load("cifar10", tmp_path, "test")
        assert images.source == "CIFAR-10, 104 images from a JPEG copy"
        np.testing.assert_array_equal(images.x, x.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(images.y, shard["label"])


def test_real_fashion_mnist_from_server_to_images(server, unpack, tmp_path, monkeypatch):
    monkeypatch.setattr(unpack.gzip, "open", functools.partial(gzip.open, compresslevel=1))  # 9 takes 20 seconds
    unpack.fashion_mnist(tmp_path / "there")
    sources = []
    for path in sorted((tmp_path / "there" / "fashion-mnist").iterdir()):
        server.files[path.name] = path.read_bytes()
        sources.append(Source(f"fashion-mnist/{path.name}", (server.url(path.name),), md5(path.read_bytes())))
    get.get(tuple(sources), tmp_path / "here")
    assert load("fashion-mnist", tmp_path / "here", "test").source == "Fashion-MNIST"
    assert load("fashion-mnist", tmp_path / "here").source == "Fashion-MNIST, first 20,000 training images"
