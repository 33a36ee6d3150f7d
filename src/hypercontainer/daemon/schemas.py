"""JSON schemas of request bodies, for the OpenAPI document (docs/pod-spec.md explains the keys)."""

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_MAP: Schema = {"type": "object", "additionalProperties": _TEXT}


def _integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_RESTART: Schema = {
    "type": "string",
    "pattern": "^(never|no|always|unless-stopped|onFailure|on-failure(:[0-9]{1,6})?)$",
}

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        ("code", "message"), code=_TEXT, message=_TEXT, detail=_TEXT, exit_code={"type": "integer"}
    ),
    "File": _object(
        ("name",),
        name=_TEXT,
        encoding={"type": "string", "enum": ["raw", "base64"]},
        content=_TEXT,
        uri=_TEXT,
    ),
    "Volume": _object(Name=_TEXT, Driver=_TEXT, DriverOpts=_MAP, Labels=_MAP),
    "Network": {
        "type": "object",
        "required": ["Name"],
        "properties": {
            "Name": _TEXT,
            "Driver": {"type": "string", "enum": ["bridge"]},
            "Internal": _FLAG,
            "EnableIPv6": _FLAG,
            "Labels": _MAP,
            "Options": _MAP,
            "IPAM": _object(
                Driver={"type": "string", "enum": ["default"]},
                Config=_array(_object(("Subnet",), Subnet=_TEXT, Gateway=_TEXT, IPRange=_TEXT)),
            ),
        },
    },
    "Connect": _object(
        ("Container", "Network"), Container=_TEXT, Network=_TEXT, EndpointConfig={"type": "object"}
    ),
    "Disconnect": _object(("Container", "Network"), Container=_TEXT, Network=_TEXT, Force=_FLAG),
    "Ports": _array(
        _object(
            ("containerPort",), containerPort=_TEXT, hostPort=_TEXT, protocol=_TEXT, hostIP=_TEXT
        )
    ),
    "Auth": _object(username=_TEXT, password=_TEXT, email=_TEXT, serveraddress=_TEXT),
    "Update": {"type": "object"},
    "PodVolume": {"type": "object", "properties": {"name": _TEXT, "source": _TEXT}},
    "Health": _object(
        ("test",),
        test={"oneOf": [_TEXT, _TEXTS]},
        interval={"type": "number", "minimum": 0.01, "maximum": 86400},
        timeout={"type": "number", "minimum": 0.01, "maximum": 86400},
        startPeriod={"type": "number", "minimum": 0, "maximum": 86400},
        retries=_integer(1, 1000),
    ),
    "Exec": _object(
        ("command",),
        command={"type": "array", "items": _TEXT, "minItems": 1},
        tty=_FLAG,
        stdin=_FLAG,
        detach=_FLAG,
        env=_TEXTS,
        user=_TEXT,
        workdir=_TEXT,
    ),
    "Container": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "name": _TEXT,
            "image": _TEXT,
            "command": _TEXTS,
            "entrypoint": _TEXTS,
            "envs": _array(_object(("env",), env=_TEXT, value=_TEXT)),
            "workdir": _TEXT,
            "user": {
                "oneOf": [
                    _TEXT,
                    _object(("name",), name=_TEXT, group=_TEXT, additionalGroups=_TEXTS),
                ]
            },
            "tty": _FLAG,
            "stdin": _FLAG,
            "readOnly": _FLAG,
            "labels": _MAP,
            "sysctl": _MAP,
            "StopSignal": _TEXT,
            "stopTimeout": _integer(0, 86400),
            "restartPolicy": _RESTART,
            "health": _ref("Health"),
            "volumes": _array({"type": "object", "properties": {"path": _TEXT, "volume": _TEXT}}),
            "files": _array({"type": "object", "properties": {"path": _TEXT, "filename": _TEXT}}),
            "ulimits": _array(
                _object(
                    ("Name",),
                    Name=_TEXT,
                    Soft={"type": "integer"},
                    Hard={"type": "integer"},
                )
            ),
        },
    },
    "Copy": _object(
        id=_TEXT,
        hostname=_TEXT,
        labels=_MAP,
        autoRemove=_FLAG,
        network=_TEXT,
        networks=_array({"type": "object"}),
        portmappings=_array({"type": "object"}),
        publishAllPorts=_FLAG,
    ),
    "Pod": {
        "type": "object",
        "required": ["containers"],
        "properties": {
            "id": _TEXT,
            "hostname": _TEXT,
            "labels": _MAP,
            "resource": _object(vcpu=_integer(0, 64), memory=_integer(0, 1 << 20)),
            "tty": _FLAG,
            "containers": _array(_ref("Container")),
            "volumes": _array(_ref("PodVolume")),
            "files": _array(_ref("File")),
            "dns": _TEXTS,
            "dnsSearch": _TEXTS,
            "dnsOptions": _TEXTS,
            "log": {"type": "object", "properties": {"type": _TEXT, "config": _MAP}},
            "network": _TEXT,
            "autoRemove": _FLAG,
            "restartPolicy": _RESTART,
        },
    },
}
