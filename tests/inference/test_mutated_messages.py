"""Whatever bytes arrive, the servers answer with scores or with a reason."""

import asyncio
import random

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import plan_for, serving_of, some_requests

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.main_shard import Admission, MainShard
from workbench.workloads.inference.network import Link
from workbench.workloads.inference.protocol import messages
from workbench.workloads.inference.protocol.messages import RequestFormat, encode_lookup, lookup_bags, parse_lookup
from workbench.workloads.inference.protocol.ranking_pb2 import LookupReply, LookupRequest, RankReply, RankRequest
from workbench.workloads.inference.routing import NetRouting
from workbench.workloads.inference.sparse_shard import SparseShard
from workbench.workloads.inference.workers import Workers

MUTATIONS = 10_000  # of each kind of message


class Aborted(Exception):
    pass


class Call:
    """What a servicer asks of gRPC about one call."""

    def invocation_metadata(self):
        return ()

    def time_remaining(self):
        return None

    async def abort(self, code, reason):
        raise Aborted(code, reason)


def mutated(message: bytes, draw: random.Random) -> bytes:
    """The message with a few bytes flipped, cut out, repeated or put in, or one field set to nonsense."""
    changed = bytearray(message)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(changed) + 1)
        stop = min(start + draw.randint(1, 12), len(changed))
        how = draw.randrange(5)
        if how == 0 and start < len(changed):
            changed[start] ^= 1 << draw.randrange(8)
        elif how == 1:
            del changed[start:stop]
        elif how == 2:
            changed[start:start] = changed[start:stop]
        elif how == 3:
            changed[start:start] = draw.randbytes(draw.randint(1, 8))
        else:
            del changed[start:]
    return bytes(changed)


def field_changed(message, draw: random.Random) -> bytes:
    """A message that protobuf can read, with one field that does not fit the others."""
    found = type(message).FromString(message.SerializeToString())
    field = draw.choice([f.name for f in found.DESCRIPTOR.fields])
    value = getattr(found, field)
    if isinstance(value, int):
        setattr(found, field, draw.choice([0, value + 1, 4097, 2**31, 2**32 - 1]))
    elif isinstance(value, bytes):
        setattr(found, field, mutated(value, draw))
    elif isinstance(value, str):
        setattr(found, field, draw.choice(["", "other"]))
    else:
        value[draw.randrange(len(value))] = draw.choice(["", "unheard_of", value[0]])
    return found.SerializeToString()


async def answered(handler, kind, whole: bytes, reply, valid) -> dict[str, int]:
    """How often each status was the answer to a mutated message; `valid(reply)` must hold for those with an answer."""
    draw, statuses = random.Random(0), {}
    parsed = kind.FromString(whole)
    for _ in range(MUTATIONS):
        message = mutated(whole, draw) if draw.random() < 0.5 else field_changed(parsed, draw)
        try:
            answer = await handler(message, Call())
        except Aborted as error:
            code, reason = error.args
            assert reason and "\n" not in reason
            status = code.name
        else:
            assert valid(reply.FromString(answer))
            status = "OK"
        statuses[status] = statuses.get(status, 0) + 1
    return statuses


def test_mutated_ranking_requests(tiny):
    model, exported = tiny
    (request,) = some_requests(model.config, 1, items=2)

    def valid(reply):
        scores = np.frombuffer(reply.scores, dtype=np.float32)
        return len(scores) and ((scores >= 0) & (scores <= 1)).all()

    async def play():
        workers = Workers(1)
        main = MainShard(Recorder(None), workers, Admission(1, 0), None, 1.0)
        main.serving = serving_of(exported, plan_for(model.config, "singular", 1), Link(), None)
        whole = RequestFormat(model.config).encode(request)
        statuses = await answered(main.rank, RankRequest, whole, RankReply, valid)
        workers.close()
        return statuses

    statuses = asyncio.run(play())
    assert statuses["INVALID_ARGUMENT"] > MUTATIONS // 2 and statuses["OK"] > MUTATIONS // 50
    assert set(statuses) <= {"OK", "INVALID_ARGUMENT", "INTERNAL"}  # internal: huge features whose score overflows


def test_mutated_lookups(tiny):
    model, exported = tiny
    plan = plan_for(model.config, "load_balanced", 2)
    shard = SparseShard("shard-0", Recorder(None))
    version = shard.load(exported, plan)
    route = NetRouting(model.config.nets[1], plan)
    (request,) = some_requests(model.config, 1, items=2)
    bags = route.cut(request.bags.tables(model.config.table_ranges[1]))[0]
    whole = encode_lookup(version, 1, bags)

    def valid(reply):
        return reply.version == version and len(reply.pooled) % (4 * route.widths[0]) == 0

    statuses = asyncio.run(answered(shard.lookup, LookupRequest, whole, LookupReply, valid))
    assert statuses["INVALID_ARGUMENT"] > MUTATIONS // 2 and statuses["OK"] > MUTATIONS // 50
    assert set(statuses) == {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.features.__setitem__(0, "colour"), "unknown feature 'colour'"),
        (lambda m: m.features.__setitem__(0, m.features[1]), "a feature is given twice"),
        (lambda m: setattr(m, "items", 0), "0 items: a request has 1 to 4096"),
        (lambda m: setattr(m, "items", 5000), "5000 items"),
        (lambda m: setattr(m, "dense", m.dense[:-4]), "dense has 100 bytes: 2 x 13 need 104"),
        (lambda m: setattr(m, "dense", np.float32("nan").tobytes() + m.dense[4:]), "dense feature 0 of item 0 is nan"),
        (lambda m: setattr(m, "ids", m.ids[:-8]), "lengths add up to"),
        (lambda m: setattr(m, "ids", m.ids[:-3]), "lengths add up to"),
        (lambda m: setattr(m, "ids", np.int64(10**6).tobytes() + m.ids[8:]), "feature user_0: id 1000000 is not below"),
        (lambda m: setattr(m, "ids", np.int64(-1).tobytes() + m.ids[8:]), "feature user_0: id -1 is not below"),
        (lambda m: setattr(m, "lengths", np.int32(-2).tobytes() + m.lengths[4:]), "user_0, item 0: a length of -2"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(tiny, change, reason):
    model, _ = tiny
    (request,) = some_requests(model.config, 1, items=2)
    format = RequestFormat(model.config)
    message = RankRequest.FromString(format.encode(request))
    change(message)
    with pytest.raises(messages.RequestError) as error:
        format.decode(message.SerializeToString())
    assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT and reason in error.value.reason


@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(any),
    place=st.integers(0, 10**6),
    beyond=st.sampled_from([0, 10**12, None]),
)
def test_an_id_that_its_table_lacks_is_found_wherever_it_is(lengths, place, beyond):
    """Table t has t + 1 rows and one bag; all ids are its last row, but for one at `place`."""
    rows = np.arange(1, len(lengths) + 1)
    ids = np.repeat(rows - 1, lengths)
    place %= len(ids)
    table = int(np.repeat(np.arange(len(lengths)), lengths)[place])
    bags = Bags(np.array(lengths)[:, None], ids)

    def decoded():
        return lookup_bags(parse_lookup(encode_lookup("", 0, bags)), rows, [f"t{row}" for row in rows])

    np.testing.assert_array_equal(decoded().ids, ids)
    ids[place] = -1 if beyond is None else rows[table] + beyond
    with pytest.raises(messages.RequestError) as error:
        decoded()
    assert error.value.reason == f"feature t{table + 1}: id {ids[place]} is not below {table + 1} rows"


def test_an_oversized_message_is_refused_with_its_limit(tiny):
    with pytest.raises(messages.RequestError, match=r"16\.0 MiB"):
        RequestFormat(tiny[0].config).decode(bytes(messages.MAX_MESSAGE_BYTES + 1))


def test_requests_survive_the_wire(tiny):
    model, _ = tiny
    format = RequestFormat(model.config)
    for request in some_requests(model.config, 5):
        found = format.decode(format.encode(request))
        np.testing.assert_array_equal(found.dense, request.dense)
        np.testing.assert_array_equal(found.bags.lengths, request.bags.lengths)
        np.testing.assert_array_equal(found.bags.ids, request.bags.ids)


def test_features_may_come_in_any_order_and_be_left_out(tiny):
    model, _ = tiny
    format = RequestFormat(model.config)
    (request,) = some_requests(model.config, 1)
    given = [6, 0, 3]
    part = request.bags.tables(given)
    message = RankRequest(
        items=len(request), dense=request.dense.tobytes(), features=[format.names[table] for table in given],
        lengths=part.lengths.astype(np.int32).tobytes(), ids=part.ids.tobytes(),
    )  # fmt: skip
    found = format.decode(message.SerializeToString()).bags
    empty = Bags(np.zeros((1, len(request)), dtype=np.int64), np.zeros(0, dtype=np.int64))
    for table in range(len(format.names)):
        expected = request.bags.tables([table]) if table in given else empty
        np.testing.assert_array_equal(found.tables([table]).ids, expected.ids)
        np.testing.assert_array_equal(found.tables([table]).lengths, expected.lengths)
