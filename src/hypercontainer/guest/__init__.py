"""The host's side of the guest: its boot files and its protocol (docs/guest-protocol.md)."""
