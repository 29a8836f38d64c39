"""Which certificate a client sees that asks for a name: exact, by a wildcard for one label, or the default.

RFC 6066 3 (server_name), RFC 5890 (A-labels), RFC 7672 8.1 (a server may answer an unknown name with its default).  Names
are compared in lower case without final dot.  There may be thousands: a name's files are read and tested when a client
first asks for it, and only so many contexts are kept, those used last.  One that cannot be used is reported once, the
client sees the default certificate (or the one from before), and the files are tried again after the next `look`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

import idna
from OpenSSL import SSL
from twisted.logger import Logger

from mta.config.settings import Sni
from mta.status import MailError
from mta.tls.certificate import ContextMaker, Loaded, Pair, Stamp, mistake, stamp_of

__all__ = ["Contexts", "Names", "Selection"]

Report = Callable[[Sequence[Pair], str], None]  # the pairs that cannot be used, and why

_bugs = Logger()


class Names:
    """Name -> the certificates for it.  Entries with the same name add up: an ECDSA and an RSA certificate for it."""

    __slots__ = ("_known", "everywhere")

    def __init__(self, entries: Iterable[Sni]) -> None:
        """MailError for what is no name.  everywhere: the certificates of "*", which join the default one."""
        known: dict[str, tuple[Pair, ...]] = {}
        for entry in entries:
            pair = Pair(entry.certificate, entry.key)
            for name in dict.fromkeys(map(_a_label, entry.names)):
                pairs = known.get(name, ())
                known[name] = pairs if pair in pairs else (*pairs, pair)
        self.everywhere = known.pop("*", ())
        self._known = known

    def add_default(self, names: Iterable[str]) -> None:
        """These too are known: names of the default certificate."""
        for name in names:
            self._known.setdefault(name.lower(), ())

    def find(self, asked: bytes) -> tuple[Pair, ...] | None:
        """The certificates for a name as the client sent it; () is the default, None an unknown name."""
        name = asked.decode("ascii", "replace").lower().removesuffix(".")
        found = self._known.get(name)
        if found is None:
            label, _, parent = name.partition(".")
            found = self._known.get(f"*.{parent}") if label else None
        return found

    @property
    def pairs(self) -> frozenset[tuple[Pair, ...]]:
        """Everything that `find` can find, but for the default."""
        return frozenset(filter(None, self._known.values()))


def _a_label(name: str) -> str:
    """A configured name as clients send it."""
    plain = name.lower().removesuffix(".")
    if plain.isascii():
        return plain
    wildcard = "*." if plain.startswith("*.") else ""
    try:
        return wildcard + idna.encode(plain.removeprefix("*."), uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise mistake(f"tls.sni: {name!r} is not a name: {error}") from error


class _Slot:
    """A context in memory.  due: the files are to be read before it is used again."""

    __slots__ = ("due", "fault", "loaded", "pairs", "stamp")

    def __init__(self, pairs: tuple[Pair, ...]) -> None:
        self.pairs = pairs
        self.loaded: Loaded | None = None
        self.stamp: Stamp = ()
        self.fault = ""
        self.due = True

    def stamp_now(self) -> Stamp:
        return stamp_of(path for pair in self.pairs for path in (pair.certificate, pair.key))


class Contexts:
    """The contexts of further names, read when they are first used, at most `limit` of them."""

    __slots__ = ("_limit", "_maker", "_report", "_slots")

    def __init__(self, maker: ContextMaker, limit: int, report: Report) -> None:
        self._maker = maker
        self._limit = max(1, limit)
        self._report = report
        self._slots: OrderedDict[tuple[Pair, ...], _Slot] = OrderedDict()

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._slots)

    def loaded(self) -> Iterator[Loaded]:
        """Those that can be used."""
        return (slot.loaded for slot in self._slots.values() if slot.loaded is not None)

    def faults(self) -> Iterator[tuple[Sequence[Pair], str]]:
        """Those whose files, as last read, cannot be used, and why."""
        return ((slot.pairs, slot.fault) for slot in self._slots.values() if slot.fault)

    def context(self, pairs: tuple[Pair, ...]) -> SSL.Context | None:
        """The context for these certificates; None where there never was a good one."""
        slot = self._slots.get(pairs)
        if slot is None:
            slot = self._slots[pairs] = _Slot(pairs)
            if len(self._slots) > self._limit:
                self._slots.popitem(last=False)
        else:
            self._slots.move_to_end(pairs)
        if slot.due:
            self._load(slot)
        return slot.loaded.context if slot.loaded is not None else None

    def _load(self, slot: _Slot) -> None:
        slot.due = False
        slot.stamp = slot.stamp_now()
        try:
            slot.loaded, fault = self._maker.make(slot.pairs), ""
        except MailError as error:
            fault = error.reason
        if fault and fault != slot.fault:
            self._report(slot.pairs, fault)
        slot.fault = fault

    def look(self) -> None:
        """Files that have changed, or could not be used, are read again when somebody asks for their names."""
        for slot in self._slots.values():
            if slot.fault or slot.stamp_now() != slot.stamp:
                slot.due = True

    def adopt(self, others: Contexts, wanted: frozenset[tuple[Pair, ...]]) -> None:
        """Go on with what an older configuration has in memory, where it would be made the same now."""
        if self._maker.makes_the_same(others._maker):
            for pairs, slot in list(others._slots.items())[-self._limit :]:
                if pairs in wanted:
                    self._slots[pairs] = slot
            self.look()


class Selection:
    """What the default context asks when a client hello was read.  refusing: for unknown names, None for the default."""

    __slots__ = ("contexts", "names", "refusing")

    def __init__(self, names: Names, contexts: Contexts, refusing: SSL.Context | None) -> None:
        self.names = names
        self.contexts = contexts
        self.refusing = refusing

    def choose(self, connection: SSL.Connection) -> None:
        """Put the right context in the place of the default one.  Never raises: pyOpenSSL would print a traceback."""
        try:
            asked = connection.get_servername()
            if asked is None:
                return
            pairs = self.names.find(asked)
            context = self.refusing if pairs is None else self.contexts.context(pairs) if pairs else None
            if context is not None:
                connection.set_context(context)
        except Exception:
            _bugs.failure("no certificate could be chosen; the default one is shown")
