"""Encode and decode the messages of `ranking.proto`. Every decoder raises RequestError or returns what adds up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from workbench.units import format_bytes
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.models.config import ModelConfig
from workbench.workloads.inference.protocol.ranking_pb2 import LookupReply, LookupRequest, RankReply, RankRequest
from workbench.workloads.inference.protocol.status import INVALID, RequestError

RANK = "/recsys_workbench.inference.v1.Ranking/Rank"
LOOKUP = "/recsys_workbench.inference.v1.Lookups/Lookup"

MAX_ITEMS = 4096  # DeepRecSys's largest query has 1,024
MAX_MESSAGE_BYTES = 16 << 20

_LENGTH, _ID, _VALUE = np.dtype("<i4"), np.dtype("<i8"), np.dtype("<f4")


@dataclass(frozen=True)
class Request:
    """A ranking request: dense [B, dense_features] float32, and the bags of all the model's tables, in order."""

    dense: np.ndarray
    bags: Bags

    def __len__(self) -> int:
        return len(self.dense)


class RequestFormat:
    """What requests for one model look like."""

    def __init__(self, model: ModelConfig) -> None:
        self.dense_features = model.dense_features
        self.names = [table.name for table in model.tables]
        self.rows = np.array([table.rows for table in model.tables])
        self._positions = {name: position for position, name in enumerate(self.names)}

    def encode(self, request: Request) -> bytes:
        """A RankRequest with all features."""
        return RankRequest(
            items=len(request), dense=request.dense.astype(_VALUE).tobytes(), features=self.names,
            lengths=request.bags.lengths.astype(_LENGTH).tobytes(), ids=request.bags.ids.astype(_ID).tobytes(),
        ).SerializeToString()  # fmt: skip

    def decode(self, message: bytes) -> Request:
        """The request in a RankRequest, its features in the model's order; INVALID_ARGUMENT says what is wrong."""
        found = _parsed(RankRequest, message)
        _check_items(found.items)
        dense = _array("dense", found.dense, _VALUE, (found.items, self.dense_features))
        if not np.isfinite(dense).all():
            item, feature = np.argwhere(~np.isfinite(dense))[0]
            raise RequestError(INVALID, f"dense feature {feature} of item {item} is {dense[item, feature]}")
        features = list(found.features)
        positions = None if features == self.names else self._places(features)
        rows = self.rows if positions is None else self.rows[positions]
        bags = _bags(found.lengths, found.ids, found.items, rows, features)
        return Request(dense, bags if positions is None else self._in_order(bags, positions))

    def _places(self, features: list[str]) -> list[int]:
        """Position of each named feature among the model's."""
        unknown = [name for name in features if name not in self._positions]
        if unknown:
            raise RequestError(INVALID, f"unknown feature {unknown[0]!r}: the model has {len(self.names)} others")
        if len(set(features)) < len(features):
            raise RequestError(INVALID, "a feature is given twice")
        return [self._positions[name] for name in features]

    def _in_order(self, bags: Bags, positions: list[int]) -> Bags:
        """The bags of all the model's tables; features that were not given have no ids."""
        lengths = np.zeros((len(self.names), bags.lengths.shape[1]), dtype=np.int64)
        lengths[positions] = bags.lengths
        return Bags(lengths, bags.tables(np.argsort(positions)).ids)


def encode_scores(scores: np.ndarray) -> bytes:
    """A RankReply of scores [B, outputs]."""
    return RankReply(scores=scores.astype(_VALUE).tobytes()).SerializeToString()


def decode_scores(message: bytes, items: int) -> np.ndarray:
    """Scores [B, outputs] of a RankReply to `items` items."""
    scores = np.frombuffer(_parsed(RankReply, message).scores, dtype=_VALUE)
    return scores.reshape(items, -1)


def encode_lookup(version: str, net: int, bags: Bags) -> bytes:
    """A LookupRequest for the bags of a shard's pieces."""
    return LookupRequest(
        version=version, net=net, items=bags.lengths.shape[1], lengths=bags.lengths.astype(_LENGTH).tobytes(),
        ids=bags.ids.astype(_ID).tobytes(),
    ).SerializeToString()  # fmt: skip


def parse_lookup(message: bytes) -> LookupRequest:
    """A LookupRequest whose arrays are still to be checked, against the pieces that it asks for."""
    found = _parsed(LookupRequest, message)
    _check_items(found.items)
    return found


def lookup_bags(request: LookupRequest, rows: np.ndarray, names: Sequence[str]) -> Bags:
    """The bags of a LookupRequest for pieces that are called `names` and have `rows` [pieces]."""
    return _bags(request.lengths, request.ids, request.items, rows, names)


def encode_pooled(version: str, pooled: np.ndarray) -> bytes:
    """A LookupReply of pooled rows [B, sum of widths]."""
    return LookupReply(version=version, pooled=pooled.astype(_VALUE, copy=False).tobytes()).SerializeToString()


def decode_pooled(message: bytes, version: str, items: int, width: int) -> np.ndarray:
    """Pooled rows [items, width] of a LookupReply; DATA_LOSS when it is not what was asked for."""
    try:
        found = LookupReply.FromString(message)
    except DecodeError:
        raise RequestError(grpc.StatusCode.DATA_LOSS, "its answer is no LookupReply") from None
    if found.version != version:
        raise RequestError(grpc.StatusCode.DATA_LOSS, f"it answered for version {found.version!r}, not {version}")
    if len(found.pooled) != items * width * _VALUE.itemsize:
        raise RequestError(grpc.StatusCode.DATA_LOSS, f"it answered {len(found.pooled)} bytes for {items} x {width}")
    pooled = np.frombuffer(found.pooled, dtype=_VALUE).reshape(items, width)
    if not np.isfinite(pooled.sum(dtype=np.float64)):
        raise RequestError(grpc.StatusCode.DATA_LOSS, "its pooled rows are not finite")
    return pooled


def _parsed(kind: type, message: bytes):
    if len(message) > MAX_MESSAGE_BYTES:
        limit = format_bytes(MAX_MESSAGE_BYTES)
        raise RequestError(INVALID, f"a message of {format_bytes(len(message))} is above the limit of {limit}")
    try:
        return kind.FromString(message)
    except DecodeError:
        raise RequestError(INVALID, f"{len(message)} bytes that are no {kind.__name__}") from None


def _check_items(items: int) -> None:
    if not 1 <= items <= MAX_ITEMS:
        raise RequestError(INVALID, f"{items} items: a request has 1 to {MAX_ITEMS}")


def _array(what: str, content: bytes, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
    expected = shape[0] * shape[1] * dtype.itemsize
    if len(content) != expected:
        raise RequestError(INVALID, f"{what} has {len(content)} bytes: {shape[0]} x {shape[1]} need {expected}")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def _bags(lengths: bytes, ids: bytes, items: int, rows: np.ndarray, names: Sequence[str]) -> Bags:
    """Bags of tables `names` with `rows` [tables] whose lengths add up and whose ids exist.

    As unsigned numbers negative ones are large, so one comparison finds them too; which is wrong, and how, is asked
    only then."""
    counts = _array("lengths", lengths, _LENGTH, (len(names), items))
    of_table = counts.view(np.uint32).sum(axis=1, dtype=np.int64)
    total = int(of_table.sum())
    if len(ids) != total * _ID.itemsize:
        _refuse_lengths(counts, ids, names)
    found = np.frombuffer(ids, dtype=_ID).astype(np.int64)  # a copy: the kernels take no read-only memory
    if total:
        filled = slice(None) if of_table.all() else np.flatnonzero(of_table)
        begins = (np.cumsum(of_table) - of_table)[filled]
        highest = np.maximum.reduceat(found.view(np.uint64), begins)
        if (highest >= rows[filled].view(np.uint64)).any():
            _refuse_ids(found, of_table, rows, names)
    return Bags(counts.astype(np.int64), found)


def _refuse_lengths(counts: np.ndarray, ids: bytes, names: Sequence[str]) -> NoReturn:
    negative = np.argwhere(counts < 0)
    if len(negative):
        table, item = negative[0]
        raise RequestError(INVALID, f"feature {names[table]}, item {item}: a length of {counts[table, item]}")
    total = counts.sum(dtype=np.int64)
    raise RequestError(INVALID, f"lengths add up to {total} ids, but ids has {len(ids)} bytes (8 each)")


def _refuse_ids(ids: np.ndarray, of_table: np.ndarray, rows: np.ndarray, names: Sequence[str]) -> NoReturn:
    tables = np.repeat(np.arange(len(rows)), of_table)
    first = np.flatnonzero((ids < 0) | (ids >= rows[tables]))[0]
    table = tables[first]
    raise RequestError(INVALID, f"feature {names[table]}: id {ids[first]} is not below {rows[table]} rows")
