"""Bytes of a trace file, a block at a time: plain, gzip or zip, told apart by their first bytes, never by the suffix.

A compressed file may expand to far more than memory holds, so nothing is ever expanded as a whole, and a file that
expands like a bomb is refused.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from workbench.errors import InputError

BLOCK_BYTES = 4 << 20
EXPANDED_LIMIT_BYTES = 64 << 30
# Deflate cannot exceed about 1032:1, and real traces stay below 50:1.
RATIO_LIMIT = 1000
RATIO_FREE_BYTES = 1 << 30

_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_GZIP_WINDOW = 31  # zlib's code for "expect a gzip header"


class Blocks:
    """Iterate once over the expanded bytes of `path`; afterwards `notes` says what was odd about the container."""

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, []

    def __iter__(self) -> Iterator[bytes]:
        expanded_bytes = 0
        for block in self._open():
            expanded_bytes += len(block)
            self._check(expanded_bytes)
            yield block

    def _open(self) -> Iterator[bytes]:
        try:
            with open(self.path, "rb") as file:
                magic = file.read(2)
                file.seek(0)
                yield from {_GZIP: self._gzip, _ZIP: self._zip}.get(magic, _plain)(file)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}): give a readable trace file") from None

    def _check(self, expanded_bytes: int) -> None:
        allowed = max(RATIO_FREE_BYTES, RATIO_LIMIT * self.path.stat().st_size)
        if expanded_bytes > min(allowed, EXPANDED_LIMIT_BYTES):
            raise InputError(
                f"{self.path} expands to more than {expanded_bytes >> 20} MiB, over the limit of "
                f"{EXPANDED_LIMIT_BYTES >> 30} GiB or {RATIO_LIMIT} times its size: no profiler writes such a file"
            )

    def _gzip(self, file: BinaryIO) -> Iterator[bytes]:
        """Members one after the other; what a cut or damaged file still holds comes before the note that says so."""
        member = None
        try:
            while packed := file.read(BLOCK_BYTES):
                while packed:
                    member = member or isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
                    block = member.decompress(packed, BLOCK_BYTES)
                    while block:
                        yield block
                        block = b"" if member.eof else member.decompress(member.unconsumed_tail, BLOCK_BYTES)
                    packed, member = (member.unused_data.lstrip(b"\0"), None) if member.eof else (b"", member)
        except isal_zlib.error as error:
            self.notes.append(f"the gzip stream is damaged ({error}); read up to the damage")
            return
        if member is not None:
            self.notes.append("the gzip stream ends early; read as far as it goes")

    def _zip(self, file: BinaryIO) -> Iterator[bytes]:
        try:
            archive = zipfile.ZipFile(file)
            names = [name for name in archive.namelist() if name.endswith(".json")]
            if not names:
                raise InputError(f"{self.path} holds no .json file: zip the trace itself")
            if len(names) > 1:
                self.notes.append(f"read {names[0]}, the first of its {len(names)} .json files")
            with archive.open(names[0]) as member:
                yield from _plain(member)
        except RuntimeError:  # how zipfile says "encrypted"
            raise InputError(f"{self.path} is encrypted: give the trace unencrypted") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise InputError(f"{self.path} is no readable zip file ({error}): zip it again") from None


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block
