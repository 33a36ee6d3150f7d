"""The table of commands: what main dispatches on, the help shows and the reference lists."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

DAEMON_FAILURE = 125
"""Exit code for hyper's own failures where another would be the container's."""


class Command:
    """A command: the module that has it, what it does, and its exit code for failures."""

    __slots__ = ("failure", "module", "summary")

    def __init__(self, module: str, summary: str, failure: int = 1) -> None:
        self.module = module
        self.summary = summary
        self.failure = failure

    def load(self) -> ModuleType:
        """Import the module: it has `configure_NAME(parser)` and, unless that makes
        subcommands, `command_NAME(session, args)`."""
        from importlib import import_module

        return import_module(f".{self.module}", __package__)


COMMANDS = {
    "run": Command("run", "create a container from an image and run it", DAEMON_FAILURE),
    "create": Command("run", "create a container without starting it", DAEMON_FAILURE),
    "start": Command("attached", "start created or stopped containers"),
    "exec": Command("attached", "run another command in a running container", DAEMON_FAILURE),
    "attach": Command("attached", "attach to a running container", DAEMON_FAILURE),
    "stop": Command("containers", "stop containers, by force after a grace period"),
    "restart": Command("containers", "stop containers and start them again"),
    "rename": Command("containers", "give a container another name"),
    "kill": Command("containers", "send a signal to containers"),
    "pause": Command("containers", "freeze the virtual machines of containers"),
    "unpause": Command("containers", "let paused containers go on"),
    "rm": Command("containers", "remove containers"),
    "snapshot": Command("snapshots", "save running containers with what runs in them"),
    "fork": Command("snapshots", "make copies of a running container, which go on by themselves"),
    "update": Command("update", "change limits and restart policies of containers"),
    "port": Command("containers", "show the published ports of a container"),
    "system": Command("prune", "df: what takes the disk; prune: remove what is not needed"),
    "prune": Command("prune", "remove all containers that do not run"),
    "wait": Command("containers", "wait for containers to end and print their exit codes"),
    "list": Command("listing", "list containers"),
    "logs": Command("logs", "show what a container wrote"),
    "stats": Command("stats", "show what containers use, as it changes"),
    "top": Command("stats", "show the processes of a container"),
    "events": Command("events", "show what happens to containers, images and the like"),
    "inspect": Command("listing", "show everything about containers or images, as JSON"),
    "cp": Command("copying", "copy files from or to a container"),
    "export": Command("copying", "write a container's file system as a tar archive"),
    "diff": Command("copying", "show what a container changed in its file system"),
    "pod": Command("pods", "list, start, stop and remove pods of containers"),
    "images": Command("images", "list images"),
    "pull": Command("images", "pull images from a registry"),
    "build": Command("build", "build an image of a Dockerfile"),
    "push": Command("registries", "push images to their registries"),
    "tag": Command("imagefiles", "give an image one more name"),
    "save": Command("imagefiles", "write images as an archive (docker load or OCI)"),
    "load": Command("images", "load images from an archive (docker save or OCI)"),
    "import": Command("making", "make an image of a root file system's archive"),
    "commit": Command("making", "make an image of a container's changes"),
    "history": Command("making", "show how an image came about"),
    "image": Command("imagewords", "Docker's words for commands on images"),
    "rmi": Command("images", "remove images"),
    "login": Command("registries", "keep the user and password for a registry"),
    "logout": Command("registries", "forget the user and password for a registry"),
    "volume": Command("volumes", "make, list and remove volumes"),
    "network": Command("networks", "make, list and remove networks, and put containers in them"),
    "ports": Command("networks", "list, add and delete a pod's published ports"),
    "template": Command("templates", "make, list and remove VMs that others are clones of"),
    "info": Command("information", "show what hyperd has and where"),
    "version": Command("information", "show the versions of hyper and hyperd"),
    "doctor": Command("doctor", "say what this machine can do, and what to do about the rest"),
    "help": Command("information", "show how a command is used"),
}

ALIASES = {"ls": "list", "ps": "list"}
