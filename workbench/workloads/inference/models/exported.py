"""An exported model: a folder of plain arrays that every process maps into memory, sharing the pages.

    model.json              the configuration, and size and CRC-32 of every array
    tables/<table>.npy      [rows, dim] float32
    nets/<parameter>.npy    weights and biases of the dense layers

Nothing is ever unpickled. `version` names the content: shards serve a version, never "the model".
"""

import hashlib
import re
import shutil
import zlib
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from workbench.errors import InputError
from workbench.workloads.inference.models.config import ModelConfig, TableType
from workbench.workloads.inference.models.nets import make_nets
from workbench.workloads.inference.models.ranker import Ranker

MANIFEST = "model.json"
SCHEMA_VERSION = 1
_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


class Manifest(msgspec.Struct, kw_only=True):
    """`model.json`. `checksums` are CRC-32 of the arrays' bytes, by path in the folder."""

    schema: int
    config: ModelConfig
    checksums: dict[str, int]


def export_model(model: Ranker, path: Path) -> "ExportedModel":
    """Write `model` to the new folder `path`, whole or not at all; InputError where it cannot be."""
    for table in model.config.tables:
        if not _FILE_NAME.fullmatch(table.name):
            raise InputError(f"table {table.name!r} cannot name a file: use letters, digits, '_', '-' and '.'")
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists: export into a new folder")
    arrays = {f"tables/{t.name}.npy": w for t, w in zip(model.config.tables, model.weights, strict=True)}
    arrays |= {f"nets/{name}.npy": tensor.detach().numpy() for name, tensor in model.nets.named_parameters()}
    scratch = path.with_name(f".{path.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for folder in ("tables", "nets"):
            (scratch / folder).mkdir(parents=True)
        for name, array in arrays.items():
            np.save(scratch / name, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
        checksums = {name: zlib.crc32(np.ascontiguousarray(array)) for name, array in arrays.items()}
        manifest = Manifest(schema=SCHEMA_VERSION, config=model.config, checksums=checksums)
        (scratch / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        scratch.rename(path)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise InputError(f"cannot export to {path}: {error.strerror}") from None
    return ExportedModel(path)


def load_model(path: Path, table_type: TableType = "fp32") -> Ranker:
    """The exported model as one module in this process."""
    exported = ExportedModel(path)
    weights = [exported.rows(table.name) for table in exported.config.tables]
    return Ranker(exported.config, exported.nets(), weights, table_type)


class ExportedModel:
    """A model folder, opened: `config`, and its arrays on demand. InputError names the file that is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        manifest = self.path / MANIFEST
        try:
            content = manifest.read_bytes()
            found = msgspec.json.decode(content, type=Manifest)
        except OSError as error:
            raise InputError(f"{path} is no exported model: {manifest.name}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise InputError(f"{manifest} is no exported model's manifest: {error}") from None
        if found.schema > SCHEMA_VERSION:
            raise InputError(f"{manifest} has schema {found.schema}; this workbench reads up to {SCHEMA_VERSION}")
        self.config = found.config
        self.version = hashlib.sha256(content).hexdigest()[:16]
        self._shapes = {f"tables/{table.name}.npy": (table.rows, table.dim) for table in self.config.tables}

    def rows(self, table: str, piece: int = 0, pieces: int = 1) -> np.ndarray:
        """Rows piece, piece + pieces, ... of one table: [rows, dim], mapped, not read."""
        name = f"tables/{table}.npy"
        return self._array(name, self._shapes[name])[piece::pieces]

    def nets(self) -> nn.ModuleList:
        """The dense layers."""
        nets = make_nets(self.config)
        with torch.no_grad():
            for name, parameter in nets.named_parameters():
                parameter.copy_(torch.from_numpy(self._array(f"nets/{name}.npy", tuple(parameter.shape))))
        return nets

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.path / name
        try:
            array = np.load(path, mmap_mode="c", allow_pickle=False)  # "c": torch takes no read-only memory
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} is no array: {error}") from None
        if array.shape != shape or array.dtype != np.float32:
            raise InputError(f"{path} holds {array.dtype} {array.shape}: the model needs float32 {shape}")
        return array
