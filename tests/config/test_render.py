"""--show: every key, and what is printed loads again to equal settings."""

from __future__ import annotations

import string
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.loader import parse
from mta.config.receiving import AccessRule, Dnsbl, Greylist, RecipientTable
from mta.config.render import render, value_text
from mta.config.schema import is_array, keys_of, row_class, tables
from mta.config.settings import (
    Access,
    DestinationEntry,
    Handover,
    HostListEntry,
    Limits,
    Listen,
    Log,
    Network,
    Queue,
    Retry,
    RouteAuth,
    RouteEntry,
    Seconds,
    Settings,
    SiteEntry,
    Size,
    Sni,
    Tls,
    TlsClient,
    TlsPolicyEntry,
)
from mta.config.structure import structure
from mta.config.units import Client

FILE = Path("/etc/mta/mta.toml")

ACCESS: dict[str, Any] = {
    "rule": (
        AccessRule("r", "reject", client=(ip_network("10.0.0.0/8"),), reply="550 5.7.1 No"),
        AccessRule("s", "warn", "rcpt"),
    ),
    "dnsbl": (Dnsbl("bl.example", -2, (ip_network("127.0.0.2/32"),)),),
    "recipients": (RecipientTable(("x.org",), Path("/x.txt")),),
    "greylist": Greylist(delay=Seconds(1.0), names=("*.a.org",)),
}
FULL = Settings(
    hostname="mx1.example.org",
    data_dir=Path("/var/lib/mta"),
    listen=(Listen("tcp:25:interface=\\:\\:1", "none"), Listen("unix:/run/mta", "starttls")),
    local_domains=("bücher.example", "a.org"),
    tls=Tls(sni=(Sni(("a.org",), Path("/a.pem"), Path("/a.key")), Sni(("*.b.org",), Path("/b.pem"), Path("/b.key")))),
    tls_client=TlsClient(level="verify", fallback_delay=Seconds(0.0)),
    access=Access(relay_from=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")), relay_domains=("x.org",), **ACCESS),
    limits=Limits(message_size=Size(1000)),
    route=(
        RouteEntry(match=("local",), deliver="maildir:/m/{user}", name="here"),
        RouteEntry(match=("a.org",), relay="[a.org]:1", name="r2", auth=RouteAuth("u", Path("/pw"), ("PLAIN",))),
    ),
    tls_policy=(TlsPolicyEntry(match=("a.org", "[b.org]:26"), level="secure", until="2027-01-01"),),
    hostlist=(HostListEntry("ours", ("*.a.org",)),),
    handover=Handover(hosts_pass_tls=("^mx\\d+\\.",)),
    retry=Retry(minimal_backoff=Seconds(0.25)),
    queue=Queue(spool_above_load=2.5),
    destination=(DestinationEntry(("a.org", "route:r2"), 2, 3, "5/s", (Seconds(60.0), Seconds(0.5)), Seconds(86400.0)),),
    site=(SiteEntry(("*.a.org",), 4, "100/min"),),
    log=Log(format="json", file="/var/log/mta.log"),
)


class RenderTests(SynchronousTestCase):
    """`render`."""

    def test_round_trip(self) -> None:
        """Defaults and a file full of settings come back equal."""
        for wanted in (Settings("a.org", Path("/x")), FULL):
            read, findings = structure(tomllib.loads(render(wanted)), FILE.parent)
            self.assertEqual(([], wanted), (findings, read))
        self.assertEqual(Settings("a.org", Path("/x")), parse(render(Settings("a.org", Path("/x"))), FILE))

    def test_every_key_is_there(self) -> None:
        """Those without a value as a comment."""
        text = render(FULL)
        for name, cls in tables().items():
            self.assertRegex(text, rf"(?m)^\[+{name}\]+$")
            for key, hint in keys_of(cls):
                if row_class(hint) is None:
                    self.assertRegex(text, rf"(?m)^(# {key} has no value|{key} = .*)$")
        self.assertIn('\n# auth has no value\nname = "here"\n', text)
        for key, hint in keys_of(Settings):
            if row_class(hint) is None:
                self.assertRegex(text, rf"(?m)^{key} = ")

    @settings(deadline=None, max_examples=200)
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    def test_any_string(self, text: str) -> None:
        """Quotes, controls and DEL are escaped as TOML wants it."""
        self.assertEqual(text, tomllib.loads(f"k = {value_text(str, text)}")["k"])

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_any_settings(self, data: st.DataObject) -> None:
        """Whatever the values are, structure reads back what was rendered."""
        wanted = Settings("a.org", Path("/x"))
        for name, hint in keys_of(Settings):
            if cls := row_class(hint):
                rows = st.lists(any_row(cls), max_size=2).map(tuple) if is_array(hint) else any_row(cls)
                wanted = attrs.evolve(wanted, **{name: data.draw(rows, name)})
        read, findings = structure(tomllib.loads(render(wanted)), FILE.parent)
        self.assertEqual(([], wanted), (findings, read))


def any_row(cls: type) -> st.SearchStrategy[Any]:
    """Any values for the keys of a table, and for the tables in it."""
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for key, hint in keys_of(cls):
        inner = row_class(hint)
        if inner is None:
            parts[key] = DATE if (cls, key) == (TlsPolicyEntry, "until") else VALUES[hint]
        else:
            parts[key] = st.lists(any_row(inner), max_size=2).map(tuple) if is_array(hint) else st.none() | any_row(inner)
    return st.builds(cls, **parts)


DATE = st.just("") | st.dates().map(str)
WORD = st.text(alphabet=string.printable + "é\x7f", max_size=8)
ROUTED = st.ip_addresses().map(lambda address: ip_network(address))
PATH = st.text(alphabet=string.ascii_letters + '" \\', min_size=1, max_size=8).map(lambda text: Path("/") / text)
VALUES = {
    int: st.integers(-(2**62), 2**62),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: WORD,
    Seconds: st.floats(0, 1e8).map(Seconds),
    Size: st.integers(0, 2**40).map(Size),
    Path: PATH,
    Path | None: st.none() | PATH,
    str | None: st.none() | WORD,
    tuple[Seconds, ...]: st.lists(st.floats(0, 1e8).map(Seconds), max_size=3).map(tuple),
    tuple[str, ...]: st.lists(WORD, max_size=3).map(tuple),
    tuple[Path, ...]: st.lists(PATH, max_size=3).map(tuple),
    tuple[Network, ...]: st.lists(ROUTED, max_size=3).map(tuple),
    tuple[Client, ...]: st.lists(ROUTED | WORD.map("+{}".format), max_size=3).map(tuple),
}
