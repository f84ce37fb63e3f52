"""The generated module says what the .proto beside it says."""

import re
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor

from workbench.workloads.inference.protocol import ranking_pb2
from workbench.workloads.inference.protocol.messages import LOOKUP, RANK

PROTO = Path(ranking_pb2.__file__).with_name("ranking.proto")
_WORD_OF_TYPE = {
    FieldDescriptor.TYPE_UINT32: "uint32", FieldDescriptor.TYPE_BYTES: "bytes", FieldDescriptor.TYPE_STRING: "string",
}  # fmt: skip


def source() -> str:
    return re.sub(r"//.*", "", PROTO.read_text())


def test_messages_have_the_fields_of_the_source():
    written = {
        name: [(bool(repeated), word, field, int(number)) for repeated, word, field, number in
               re.findall(r"(repeated )?(\w+) (\w+) = (\d+);", body)]
        for name, body in re.findall(r"message (\w+) \{(.*?)\}", source(), re.DOTALL)
    }  # fmt: skip
    generated = {
        name: [(field.is_repeated, _WORD_OF_TYPE[field.type], field.name, field.number) for field in message.fields]
        for name, message in ranking_pb2.DESCRIPTOR.message_types_by_name.items()
    }
    assert written and generated == written


def test_methods_are_called_by_their_full_names():
    services = ranking_pb2.DESCRIPTOR.services_by_name.values()
    generated = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    package = re.search(r"package ([\w.]+);", source())[1]
    written = re.findall(r"service (\w+) \{\s*rpc (\w+)\(", source())
    assert generated == {f"/{package}.{service}/{method}" for service, method in written} == {RANK, LOOKUP}
