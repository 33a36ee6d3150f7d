"""ttrpc, containerd's small RPC over local sockets: unary calls, which is all that shims need.

The protocol is that of ttrpc's PROTOCOL.md; PyPI has no library of it that is kept.
"""
