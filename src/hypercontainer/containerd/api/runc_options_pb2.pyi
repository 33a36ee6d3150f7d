from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Options(_message.Message):
    __slots__ = ("io_uid", "io_gid", "systemd_cgroup")
    IO_UID_FIELD_NUMBER: _ClassVar[int]
    IO_GID_FIELD_NUMBER: _ClassVar[int]
    SYSTEMD_CGROUP_FIELD_NUMBER: _ClassVar[int]
    io_uid: int
    io_gid: int
    systemd_cgroup: bool
    def __init__(self, io_uid: _Optional[int] = ..., io_gid: _Optional[int] = ..., systemd_cgroup: bool = ...) -> None: ...
