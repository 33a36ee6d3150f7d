"""Other people's suites, run against runv: see docs/oci.md."""
