"""Making images: Dockerfiles read and carried out, containers committed."""
