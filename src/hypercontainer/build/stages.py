"""A Dockerfile's stages: which there are, and which a build needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import BadRequest
from .dockerfile import failed
from .instructions import Copy, From, Instruction


@dataclass
class Stage:
    """A FROM and what follows; `base` and the `--from`s are not expanded."""

    number: int
    begin: From
    instructions: list[Instruction] = field(default_factory=list)


def split_stages(instructions: Sequence[Instruction]) -> list[Stage]:
    """The stages in order. Raises BadRequest when two have one name."""
    stages: list[Stage] = []
    names: set[str] = set()
    for instruction in instructions:
        if isinstance(instruction, From):
            if instruction.alias and instruction.alias in names:
                raise failed(instruction.line, f"the stage {instruction.alias} is there already")
            names.add(instruction.alias)
            stages.append(Stage(len(stages), instruction))
        else:
            stages[-1].instructions.append(instruction)
    return stages


def find_stage(stages: Sequence[Stage], name: str) -> Stage | None:
    """A stage by its name or number."""
    for stage in stages:
        if stage.begin.alias and stage.begin.alias == name.lower():
            return stage
    if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(stages):
        return stages[int(name)]
    return None


def needed(stages: Sequence[Stage], target: str, images: Sequence[str]) -> list[Stage]:
    """The stages that the target (the last one unless named) is made of, in order.

    `images` are the stages' base images with variables replaced. Raises BadRequest.
    """
    wanted = find_stage(stages, target) if target else stages[-1]
    if wanted is None:
        raise BadRequest(f"no stage {target!r} in the Dockerfile")
    found: set[int] = set()
    todo = [wanted]
    while todo:
        stage = todo.pop()
        if stage.number in found:
            continue
        found.add(stage.number)
        before = stages[: stage.number]
        if (base := find_stage_by_name(before, images[stage.number])) is not None:
            todo.append(base)
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.stage:
                other = find_stage(before, instruction.stage)
                if other is not None:
                    todo.append(other)
                elif instruction.stage.isdigit():
                    raise failed(instruction.line, f"no stage {instruction.stage} before this one")
    return [stage for stage in stages if stage.number in found]


def find_stage_by_name(stages: Sequence[Stage], name: str) -> Stage | None:
    """An earlier stage that FROM names (numbers are not taken there)."""
    return find_stage(stages, name) if not name.isdigit() else None
