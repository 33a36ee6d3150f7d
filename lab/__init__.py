"""Whole machines, emulated: for what a host may not have, such as a KVM that works."""
