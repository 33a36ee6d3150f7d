"""What the host's kernel offers: processes, system calls, files. Imports nothing heavy."""
