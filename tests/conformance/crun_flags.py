"""crun's command line as runc's: drops `--cgroup-manager`, makes a bundle of `--config FILE`."""

import os
import sys


def main() -> None:
    """Become the runtime that the first argument names."""
    runtime, *arguments = sys.argv[1:]
    command: list[str] = []
    while arguments:
        word = arguments.pop(0)
        if word == "--cgroup-manager":
            if arguments.pop(0) == "systemd":
                command.insert(0, "--systemd-cgroup")
        elif word == "--config":
            path = arguments.pop(0)
            if path != "config.json" and not os.path.exists("config.json"):
                os.symlink(path, "config.json")
        else:
            command.append(word)
    os.execv(runtime, [runtime, *command])


if __name__ == "__main__":
    main()
