"""Carrying out a Dockerfile: its stages one after the other, each step from the cache or done."""

import asyncio
import codecs
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadRequest, HyperError, NotFound, NotSupported, ProgramError
from ..guest import platforms
from ..guest.platforms import NATIVE
from ..images import Auth, Image
from ..images.pruning import FINAL
from ..images.reference import parse as parse_name
from ..pods.architecture import check_platform
from ..pods.model import now
from ..pods.service import PodService
from .context import leave_out, read_context, small_file
from .copies import Files, request_of, selected
from .copying import NewLayer, fingerprint
from .dockerfile import Line, failed, instruction_of, parse
from .instructions import (
    Arg,
    Copy,
    Dockerfile,
    Instruction,
    Run,
    Value,
)
from .instructions import (
    Program as ProgramInstruction,
)
from .running import Program, ran
from .settings import argv_of, changed, environment, platform_arguments
from .stages import Stage, find_stage, find_stage_by_name, needed, split_stages
from .tree import new_directory, resolve, walk
from .words import expand

Tell = Callable[[dict[str, Any]], None]
_PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Options:
    """What a build was asked for; `memory_mib` is that of the VMs of RUN, `platform` that of images
    for which FROM gives none ("" for the host's), as OS/ARCHITECTURE."""

    tags: Sequence[str] = ()
    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    use_cache: bool = True
    pull: bool = False
    memory_mib: int = 512
    platform: str = ""
    auths: Mapping[str, Auth] = field(default_factory=dict)


@dataclass
class State:
    """How far a stage is. `image` has the layers; `document` is its whole configuration."""

    image: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    has_cmd: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What containers get."""
        found: dict[str, Any] = self.document.get("config") or {}
        return found

    def note(self, instruction: Instruction, *, empty: bool = True) -> None:
        """Add an entry to the history."""
        entry: dict[str, Any] = {"created": now(), "created_by": instruction.text[:4096]}
        if empty:
            entry["empty_layer"] = True
        self.document["history"] = [*(self.document.get("history") or []), entry]

    def chain(self, *facts: object) -> None:
        """Make the key that of the next step."""
        text = json.dumps([self.key, *facts], sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def copy(self) -> "State":
        """For a stage that begins with this one."""
        return State(self.image, dict(self.document), self.key)


class Builder:
    """One build."""

    def __init__(
        self, service: PodService, options: Options, folder: Path, raw: Path, tell: Tell
    ) -> None:
        """`folder` is for temporary files, `raw` is the context's archive; it is removed."""
        self._service = service
        self._images = service.images
        self._options = options
        self._raw = raw
        self._tell = tell
        self._states: dict[int, State] = {}
        self._files = Files(self._images, folder)
        self._count = self._total = 0
        self._used: set[str] = set()
        self._escape = "\\"
        self._context = new_directory()

    def _say(self, text: str) -> None:
        self._tell({"stream": text})

    def _announce(self, instruction: Instruction) -> None:
        self._count += 1
        self._say(f"Step {self._count}/{self._total} : {instruction.text}\n")

    async def run(self) -> Image:
        """Build, and name the result. Raises BadRequest with the line, ProgramError and others."""
        options = self._options
        self._context = await asyncio.to_thread(read_context, self._raw)
        data = await asyncio.to_thread(small_file, self._context, options.dockerfile)
        if data is None:
            raise BadRequest(f"there is no {options.dockerfile} in the context")
        file = parse(data)
        self._escape = file.escape
        await asyncio.to_thread(leave_out, self._context, options.dockerfile)
        globals_ = self._global_arguments(file)
        stages = split_stages(file.instructions)
        bases = [self._expanded(stage.begin, stage.begin.image, globals_) for stage in stages]
        wanted = needed(stages, options.target, bases)
        self._total = sum(1 + len(stage.instructions) for stage in wanted)
        for stage in wanted:
            state = await self._begin(stage, stages, bases[stage.number], globals_)
            for trigger in self._triggers(state, stage):
                self._say(f"Trigger : {trigger.text}\n")
                await self._step(state, trigger, stages, globals_)
            for instruction in stage.instructions:
                self._announce(instruction)
                await self._step(state, instruction, stages, globals_)
            self._states[stage.number] = state
        return await self._finish(self._states[wanted[-1].number])

    def _global_arguments(self, file: Dockerfile) -> dict[str, str]:
        found = platform_arguments(self._options.platform)
        for instruction in file.arguments:
            for name, default in instruction.arguments:
                if name in self._options.arguments:
                    self._used.add(name)
                    found[name] = self._options.arguments[name]
                elif default is not None:
                    found[name] = self._expanded(instruction, default, found)
        return found

    def _expanded(self, instruction: Instruction, text: str, variables: Mapping[str, str]) -> str:
        try:
            return expand(text, variables, self._escape)
        except BadRequest as error:
            raise failed(instruction.line, error.message) from None

    def _variables(self, state: State) -> dict[str, str]:
        return {**state.arguments, **environment(state.config)}

    # The begin and the end of a stage

    async def _begin(
        self,
        stage: Stage,
        stages: Sequence[Stage],
        base: str,
        globals_: Mapping[str, str],
    ) -> State:
        begin = stage.begin
        self._announce(begin)
        platform = self._expanded(begin, begin.platform, globals_) or self._options.platform
        try:
            platform = platforms.normal(platform)
        except NotSupported as error:
            raise NotSupported(failed(begin.line, error.message).message) from None
        if not base:
            raise failed(begin.line, "the image's name is empty")
        earlier = find_stage_by_name(stages[: stage.number], base)
        if earlier is not None:
            return self._states[earlier.number].copy()
        if base == "scratch":
            architecture = platform.rpartition("/")[2] or NATIVE
            about = {"os": "linux", "architecture": architecture}
            return State(document=about, key=f"scratch {architecture}")
        try:
            image = await self._base_image(base, platform)
        except HyperError as error:
            error.message = failed(begin.line, error.message).message
            raise
        self._say(f" ---> {image.id[7:19]}\n")
        document = {k: v for k, v in image.config.items() if k != "rootfs"}
        return State(image.id, document, image.id)

    async def _base_image(self, name: str, platform: str) -> Image:
        """An image that is here, or is pulled; with a `platform`, the one for that.

        Raises what a pull does.
        """
        try:
            if not self._options.pull:
                image = self._images.get(name)
                check_platform(image, platform, name)
                return image
        except NotFound:
            pass
        auth = self._options.auths.get(parse_name(name).host)
        return await self._images.pull(name, auth=auth, progress=self._tell, platform=platform)

    def _triggers(self, state: State, stage: Stage) -> list[Instruction]:
        """The ONBUILD instructions of the base image, which hold once."""
        texts = state.config.get("OnBuild") or []
        if not texts:
            return []
        state.document["config"] = {**state.config, "OnBuild": None}
        return [instruction_of(Line(stage.begin.line, str(text)), self._escape) for text in texts]

    async def _finish(self, state: State) -> Image:
        options = self._options
        if options.labels:
            labels = {**(state.config.get("Labels") or {}), **options.labels}
            state.document["config"] = {**state.config, "Labels": labels}
        unused = [
            name
            for name in options.arguments
            if name not in self._used and name.upper() not in _PREDEFINED
        ]
        if unused:
            self._say(f"[Warning] build arguments that no ARG names: {', '.join(unused)}\n")
        state.chain("final", state.document.get("config"), state.document.get("author"))
        step = FINAL + state.key
        image = self._images.find_step(step) if options.use_cache else None
        if image is None:
            document = {**state.document, "created": now()}
            image = await self._images.make(
                document, base=state.image, names=options.tags, step=step
            )
        else:
            for tag in options.tags:
                await self._images.tag(image.id, tag)
        self._tell({"aux": {"ID": image.id}})
        self._say(f"Successfully built {image.id[7:19]}\n")
        for tag in options.tags:
            self._say(f"Successfully tagged {tag}\n")
        return image

    # Steps

    async def _step(
        self,
        state: State,
        instruction: Instruction,
        stages: Sequence[Stage],
        globals_: Mapping[str, str],
    ) -> None:
        try:
            match instruction:
                case Arg():
                    self._declare(state, instruction, globals_)
                case Run():
                    await self._run(state, instruction)
                case Copy():
                    await self._copy(state, instruction, stages)
                case Value(name="MAINTAINER", value=author):
                    state.document["author"] = author
                    state.chain("MAINTAINER", author)
                    state.note(instruction)
                case _:
                    await self._configure(state, instruction)
        except HyperError as error:
            prefix = f"Dockerfile line {instruction.line}: "
            if instruction.line and not error.message.startswith(prefix):
                error.message = prefix + error.message
            raise

    def _declare(self, state: State, instruction: Arg, globals_: Mapping[str, str]) -> None:
        for name, default in instruction.arguments:
            if name in self._options.arguments:
                self._used.add(name)
                state.arguments[name] = self._options.arguments[name]
            elif default is not None:
                state.arguments[name] = expand(default, self._variables(state), self._escape)
            elif name in globals_:
                state.arguments[name] = globals_[name]
        state.note(instruction)

    async def _configure(self, state: State, instruction: Instruction) -> None:
        config = changed(state.config, instruction, self._variables(state), self._escape)
        if isinstance(instruction, ProgramInstruction):
            if instruction.name == "ENTRYPOINT" and not state.has_cmd:
                config["Cmd"] = None
            state.has_cmd = state.has_cmd or instruction.name == "CMD"
        state.document["config"] = config
        state.chain(instruction.text, config)
        if isinstance(instruction, Value) and instruction.name == "WORKDIR":
            await self._make_workdir(state, instruction, config["WorkingDir"])
        else:
            state.note(instruction)

    async def _make_workdir(self, state: State, instruction: Instruction, path: str) -> None:
        """WORKDIR makes its directory."""
        if self._from_cache(state):
            return
        tree = await self._files.tree(state.image)
        _, node = resolve(tree, path.encode())
        if node is not None and node.is_directory:
            state.note(instruction)
            return
        layer = NewLayer(tree, None, None)
        layer.directory(path.strip("/").encode())
        await self._add(state, instruction, layer)

    def _from_cache(self, state: State) -> bool:
        """Go on from the image that an earlier build made at this step, if there is one."""
        found = self._images.find_step(state.key) if self._options.use_cache else None
        if found is None:
            return False
        state.image = found.id
        state.document["history"] = found.config.get("history") or []
        self._say(f" ---> Using cache\n ---> {found.id[7:19]}\n")
        return True

    async def _add(self, state: State, instruction: Instruction, layer: NewLayer) -> None:
        state.note(instruction, empty=False)
        self._took(state, await self._make(state, layer.tar()))

    async def _make(self, state: State, layer: Any) -> Image:
        document = {**state.document, "created": now()}
        return await self._images.make(document, base=state.image, layer=layer, step=state.key)

    def _took(self, state: State, image: Image) -> None:
        state.image = image.id
        state.document["history"] = image.config.get("history") or []
        self._say(f" ---> {image.id[7:19]}\n")

    async def _run(self, state: State, instruction: Run) -> None:
        argv = argv_of(instruction.command, state.config)
        if not any(argv):
            raise BadRequest("RUN has no command")
        proxies = {
            name: value
            for name, value in self._options.arguments.items()
            if name.upper() in _PREDEFINED
        }
        arguments = dict(sorted(state.arguments.items()))
        state.chain("RUN", argv, arguments, state.config)
        if self._from_cache(state):
            return
        if not state.image:
            raise BadRequest("RUN: there is no program yet in an image from scratch")
        program = Program(
            state.image,
            argv,
            {**proxies, **arguments, **environment(state.config)},
            state.config.get("WorkingDir") or "/",
            state.config.get("User") or "",
            self._options.memory_mib,
        )
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        state.note(instruction, empty=False)
        try:
            async with ran(
                self._service, program, lambda data: self._say(decoder.decode(data))
            ) as layer:
                image = await self._make(state, layer)
        except ProgramError as error:
            if error.exit_code in (126, 127) and "returned" not in error.message:
                raise
            shown = instruction.text.partition("\n")[0][:200]
            raise ProgramError(
                f"{shown}: returned a non-zero code: {error.exit_code}", error.exit_code
            ) from error
        self._took(state, image)

    async def _copy(self, state: State, instruction: Copy, stages: Sequence[Stage]) -> None:
        variables = self._variables(state)
        wanted = request_of(instruction, state.config, variables, self._escape)
        image, found = "", []
        if instruction.stage:
            image = await self._source(instruction.stage, stages)
            state.chain(*wanted.facts(), image, wanted.sources)
        else:
            found = selected(wanted, self._context, "the context")
            state.chain(*wanted.facts(), await asyncio.to_thread(fingerprint, found))
        if self._from_cache(state):
            return
        if instruction.stage:
            tree, where = await self._files.tree(image), f"--from={instruction.stage}"
            found = await asyncio.to_thread(selected, wanted, tree, where)
            await self._files.bring([node for path, top in found for _, node in walk(top, path)])
        below = await self._files.tree(state.image)
        await self._add(state, instruction, await self._files.layer(wanted, found, below))

    async def _source(self, name: str, stages: Sequence[Stage]) -> str:
        """The image of an earlier stage, or another image."""
        stage = find_stage(stages, name)
        if stage is None:
            return (await self._base_image(name, self._options.platform)).id
        if stage.number not in self._states:
            raise BadRequest(f"COPY --from={name}: that stage is not before this one")
        return self._states[stage.number].image
