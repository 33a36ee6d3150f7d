"""Names: which are valid, and random ones like Docker's."""

import re
import secrets
import string
from collections.abc import Callable

from ..errors import BadRequest

MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)

_ADJECTIVES = (
    "agile amber brave bright brisk calm candid cheerful clever crisp curious dapper deft eager"
    " earnest fair fancy fluent frank fresh gentle glad golden graceful happy hardy honest humble"
    " jolly keen kind lively lucid lucky mellow merry modest neat nimble noble patient placid"
    " plucky polite prompt proud quick quiet ready robust rosy serene sharp silent sincere smart"
    " snappy sober solid spry steady sturdy sunny swift tender tidy upbeat vivid warm wise witty"
).split()
_SURNAMES = (
    "abel agnesi ampere babbage banach bernoulli bohr boole cantor cauchy cavendish celsius"
    " chandra church curie darwin dedekind dijkstra dirac ebert einstein erdos euclid euler"
    " faraday fermat fermi feynman fourier franklin galileo galois gauss germain goedel hamilton"
    " hamming herschel hilbert hopper hubble huygens hypatia jacobi joliot joule kelvin kepler"
    " knuth kovalevskaya lagrange lamarr lamport laplace leavitt leibniz liskov lovelace maxwell"
    " mcclintock meitner mendel mirzakhani newton noether ohm pascal pasteur pauli perlman planck"
    " poincare ptolemy raman ramanujan riemann ritchie rubin sagan shannon tesla thompson torvalds"
    " turing volta wiles wozniak wu yalow"
).split()


def check_name(value: str, where: str) -> str:
    """A name of a pod, container or volume. Raises BadRequest naming `where`."""
    if len(value) > MAX_NAME or not _NAME.fullmatch(value):
        raise BadRequest(
            f"{where}: {value!r} is not a valid name: up to {MAX_NAME} letters, digits, '_', '.'"
            " or '-', beginning with a letter or digit"
        )
    return value


def check_hostname(value: str, where: str) -> str:
    """A host name of dot-separated DNS labels (RFC 1123). Raises BadRequest naming `where`."""
    if len(value) > 63:
        raise BadRequest(f"{where}: {value!r} is longer than 63 characters")
    if not all(_LABEL.fullmatch(part) for part in value.split(".")):
        raise BadRequest(
            f"{where}: {value!r} is not a host name: parts of a-z, 0-9 and '-', joined by '.'"
        )
    return value


def random_name(taken: Callable[[str], bool]) -> str:
    """A free `adjective_surname`, with a number once those run out."""
    for attempt in range(40):
        name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
        if attempt > 20:
            name += str(secrets.randbelow(1000))
        if not taken(name):
            return name
    return random_id("pod")


def random_id(kind: str) -> str:
    """`KIND-` and ten random letters, the form of the original's identifiers."""
    return kind + "-" + "".join(secrets.choice(string.ascii_letters) for _ in range(10))


def container_id() -> str:
    """64 hexadecimal digits, not all decimal in the first 12 (they would pass for a number)."""
    while True:
        cid = secrets.token_hex(32)
        if not cid[:12].isdigit():
            return cid
