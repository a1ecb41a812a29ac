"""Defines the messages of Envoy's delta discovery protocol, with only those fields that Slipway uses. The published
packages with all of Envoy's messages lack fields of the Envoy in use, and one of them overwrites the package that Envoy
comes in. In the protocol only the numbers and types of fields matter; both are from Envoy's `.proto` files
(`envoy/service/discovery/v3/discovery.proto`, `envoy/config/endpoint/v3`, `envoy/config/core/v3`,
`envoy/extensions/transport_sockets/tls/v3`).
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, struct_pb2

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "DeltaAggregatedResources"
ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

Fields = dict[str, tuple[int, str]]
"""Name of a field → its number and type: a scalar, an enum or a message. After the type, `[]` stands for repeated, `{}`
for a map from strings.
"""
MESSAGES: dict[str, Fields] = {
    "DeltaDiscoveryRequest": {
        "type_url": (2, "string"),
        "resource_names_subscribe": (3, "string[]"),
        "resource_names_unsubscribe": (4, "string[]"),
        "initial_resource_versions": (5, "string{}"),
        "response_nonce": (6, "string"),
        "error_detail": (7, "Status"),
    },
    "DeltaDiscoveryResponse": {
        "system_version_info": (1, "string"),
        "resources": (2, "Resource[]"),
        "type_url": (4, "string"),
        "nonce": (5, "string"),
        "removed_resources": (6, "string[]"),
    },
    "Status": {"code": (1, "int32"), "message": (2, "string")},
    "Resource": {"version": (1, "string"), "resource": (2, "google.protobuf.Any"), "name": (3, "string")},
    "ClusterLoadAssignment": {"cluster_name": (1, "string"), "endpoints": (2, "LocalityLbEndpoints[]")},
    "LocalityLbEndpoints": {"lb_endpoints": (2, "LbEndpoint[]")},
    "LbEndpoint": {"endpoint": (1, "Endpoint"), "health_status": (2, "HealthStatus"), "metadata": (3, "Metadata")},
    "Endpoint": {"address": (1, "Address"), "health_check_config": (2, "HealthCheckConfig")},
    "Address": {"socket_address": (1, "SocketAddress")},
    "SocketAddress": {"address": (2, "string"), "port_value": (3, "uint32")},
    "HealthCheckConfig": {"hostname": (2, "string"), "disable_active_health_check": (4, "bool")},
    "Secret": {"name": (1, "string"), "tls_certificate": (2, "TlsCertificate")},
    "TlsCertificate": {"certificate_chain": (1, "DataSource"), "private_key": (2, "DataSource")},
    "DataSource": {"inline_string": (3, "string")},
    "Metadata": {"filter_metadata": (1, "google.protobuf.Struct{}")},
}
HEALTH_STATUS = ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED")


def _classes() -> dict[str, Any]:
    """Creates a protobuf class for each message in MESSAGES; returns name → class."""
    file = descriptor_pb2.FileDescriptorProto(name="xds.proto", package="xds", syntax="proto3")
    file.dependency.extend([any_pb2.DESCRIPTOR.name, struct_pb2.DESCRIPTOR.name])
    health = file.enum_type.add(name="HealthStatus")
    for number, value in enumerate(HEALTH_STATUS):
        health.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    for dependency in (any_pb2.DESCRIPTOR, struct_pb2.DESCRIPTOR):
        pool.AddSerializedFile(dependency.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"xds.{name}")) for name in MESSAGES}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number, label=types.LABEL_OPTIONAL)
    if kind.endswith(("[]", "{}")):
        field.label = types.LABEL_REPEATED
    if kind.endswith("{}"):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, kind[:-2])
        field.type, field.type_name = types.TYPE_MESSAGE, f".xds.{message.name}.{entry.name}"
        return
    kind = kind.removesuffix("[]")
    if kind.islower() and "." not in kind:
        field.type = types.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type = types.TYPE_ENUM if kind == "HealthStatus" else types.TYPE_MESSAGE
        field.type_name = f".{kind}" if "." in kind else f".xds.{kind}"


_CLASSES = _classes()
DeltaDiscoveryRequest = _CLASSES["DeltaDiscoveryRequest"]
DeltaDiscoveryResponse = _CLASSES["DeltaDiscoveryResponse"]
ClusterLoadAssignment = _CLASSES["ClusterLoadAssignment"]
Secret = _CLASSES["Secret"]
