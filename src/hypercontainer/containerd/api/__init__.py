"""containerd's messages and services: our own description of what goes over the wire.

Each `NAME.proto` has a generated `NAME_pb2.py` beside it, and its types in `NAME_pb2.pyi`. After a
change: `python -m hypercontainer.containerd.api.generate`. Methods of a service are found by its
descriptor (`methods.py`), for ttrpc and gRPC alike, so there are no generated stubs.
"""
