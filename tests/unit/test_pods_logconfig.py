"""Log drivers and their options."""

import pytest

from hypercontainer.errors import BadRequest, HyperError, NotSupported
from hypercontainer.pods.logconfig import LogConfig, fill_tag, parse_address, parse_log


def parse(kind: str, **options: str) -> LogConfig:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return parse_log(kind, given, "log.type", "log.config.")


@pytest.mark.parametrize(
    ("kind", "options", "error", "says"),
    [
        ("fluentd", {}, NotSupported, "log.type: log driver fluentd is not supported"),
        ("jsonfile", {}, BadRequest, "log.type: 'jsonfile' is none of json-file,"),
        ("json-file", {"max_sise": "1"}, BadRequest, "log.config.max-sise: json-file has no such"),
        ("none", {"tag": "x"}, BadRequest, "log.config.tag: none has no such option; it has: none"),
        ("local", {"max_file": "0"}, BadRequest, "log.config.max-file: '0' is not a number"),
        ("json-file", {"mode": "blocking"}, NotSupported, "log.config.mode: a log never holds"),
        ("json-file", {"compress": "true"}, NotSupported, "log.config.compress: compressed"),
        ("syslog", {"tag": "{{.Nam}}"}, BadRequest, "log.config.tag: {{.Nam}} is not known"),
        ("syslog", {"tag": "{{json .}}"}, BadRequest, "log.config.tag: '{{json .}}' is not a tag"),
        ("syslog", {"syslog_address": "tcp+tls://a:1"}, NotSupported, "tcp+tls is not supported"),
        ("syslog", {"syslog_address": "/dev/log"}, BadRequest, "syslog-address: '/dev/log' is not"),
        ("syslog", {"syslog_address": "unix://x"}, BadRequest, "has no absolute path"),
        ("syslog", {"syslog_address": "tcp://h:99999"}, BadRequest, "syslog-address: "),
        ("syslog", {"syslog_facility": "daemons"}, BadRequest, "syslog-facility: 'daemons'"),
        ("syslog", {"syslog_tls_cert": "/x"}, NotSupported, "syslog-tls-cert: TLS to a syslog"),
        ("journald", {"labels": "a,,b"}, BadRequest, "labels: 'a,,b' is not a list"),
        ("json-file", {"syslog_format": ""}, BadRequest, "json-file has no such option"),
    ],
)
def test_what_is_refused(
    kind: str, options: dict[str, str], error: type[HyperError], says: str
) -> None:
    with pytest.raises(error) as caught:
        parse(kind, **options)
    assert says in caught.value.message


def test_the_configuration_holds_for_its_driver_only() -> None:
    default = parse("json-file", max_size="10m", max_file="3")
    assert LogConfig().over(default).rotation == (10 << 20, 3)
    assert parse("", max_file="4").over(default).rotation == (10 << 20, 4)
    assert parse("local").over(default).rotation == (20 << 20, 5)
    assert parse("syslog").over(default).rotation == (20 << 20, 5)
    assert parse("syslog").over(parse("syslog", tag="x")).options == {"tag": "x"}
    assert LogConfig().over(LogConfig()) == LogConfig("json-file", {})
    assert parse("json-file", max_size="-1").rotation == (0, 1)


def test_what_keeps_a_file() -> None:
    assert parse("json-file").keeps
    assert parse("syslog").keeps
    assert not parse("syslog", cache_disabled="true").keeps
    assert not parse("none").keeps


def test_tags_and_addresses() -> None:
    assert fill_tag("{{.Name}}/{{ .ID }}", {"Name": "web", "ID": "12"}) == "web/12"
    assert parse_address("") == ("local", "")
    assert parse_address("udp://[::1]") == ("udp", ("::1", 514))
    assert parse_address("tcp://host:99") == ("tcp", ("host", 99))
    assert parse_address("unixgram:///run/x") == ("unixgram", "/run/x")
