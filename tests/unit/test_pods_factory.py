"""The policy of the VM factory."""

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.pods.factory import Factory, ReadySize, parse_factory


def test_nothing_keeps_one_after_use() -> None:
    assert parse_factory(" ") == Factory((), 1, True)


def test_policies_of_several_sizes() -> None:
    text = '{"cache":2,"template":true,"cpu":1,"memory":128},{"cache":1,"cpu":2,"memory":512}'
    wanted = (ReadySize(2, 1, 128), ReadySize(1, 2, 512))
    assert parse_factory(text) == Factory(wanted, 0, True)
    assert parse_factory(f"[{text}]") == Factory(wanted, 0, True)


def test_no_cache_and_no_template() -> None:
    assert parse_factory('{"cache":0}') == Factory((), 0, True)
    assert parse_factory('{"cache":0,"template":false}') == Factory((), 0, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON objects"),
        ("3", "is not an object"),
        ('{"cpus":1}', "unknown key 'cpus'"),
        ('{"cache":-1}', "cache: -1"),
        ('{"cache":true}', "cache: True"),
        ('{"cache":65}', "more than 64"),
        ('{"cache":1,"memory":8}', "too little"),
        ('{"cache":1,"cpu":0}', "cpus: 0"),
        ('{"template":"yes"}', "template: 'yes'"),
        ('{"cache":1,"template":false}', "without a template is not supported"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(HyperError, match=said):
        parse_factory(text)
