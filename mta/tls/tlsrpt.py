"""TLSRPT (RFC 8460) without I/O: who wants reports, what is counted, and what a report says.

`report_addresses` reads the TXT record of `_smtp._tls.DOMAIN` (3), a `Tally` counts the sessions with one domain in one UTC
day (4.2, 4.3), `report` makes the JSON of a day out of it (4.4) and `packed` its gzip (5.2).  A tally is plain data all the
way (`Tally.plain`), so that hints can keep it.  What strangers put into it is bounded in number and length.
`result_type` and `testing_fault` say which of the result types of 4.3 a failure of ours is.  Pure: no I/O, no clock.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import attrs

from mta.tls.mtasts import Mode, StsError, parse_policy

if TYPE_CHECKING:
    from mta.dns.answer import Tlsa
    from mta.tls.policy import Achieved, Required

__all__ = [
    "RESULT_TYPES",
    "Tally",
    "packed",
    "policy_domain",
    "report",
    "report_addresses",
    "report_id",
    "result_type",
    "testing_fault",
    "without_policy",
]

STARTTLS: Final = "starttls-not-supported"
HOST: Final = "certificate-host-mismatch"
EXPIRED: Final = "certificate-expired"
UNTRUSTED: Final = "certificate-not-trusted"
OTHER: Final = "validation-failure"
RESULT_TYPES: Final = frozenset(
    {
        STARTTLS,
        HOST,
        EXPIRED,
        UNTRUSTED,
        OTHER,
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
    }
)

MAX_POLICIES = 10  # of one domain in one day; DANE has one for each MX host
MAX_FAILURES = 50  # different ones under one policy; what comes then is counted by its type alone
MAX_STRINGS = 20  # lines of a policy
MAX_TEXT = 200  # characters of one line, name or reason
MAX_ADDRESSES = 4  # to which one report is sent
MAX_URL = 1000  # characters

_RFC3339: Final = "%Y-%m-%dT%H:%M:%SZ"
_VERSION = re.compile(rb"v=TLSRPTv1[ \t]*;")
_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*=[\t -~]*")

# The words of `policy.judge`, `dane.match` and `owed.py`, the first that occurs.
_WORDS: Final = (
    ("certificate is for none of", HOST),
    ("certificate has expired", EXPIRED),
    ("certificate not trusted", UNTRUSTED),
    ("no valid chain to the authority", UNTRUSTED),
    ("authority of the TLSA record is not valid now", EXPIRED),
    ("TLSA lookup error", "dnssec-invalid"),
    ("no secure TLSA record", "dane-required"),
    ("no usable TLSA record", "tlsa-invalid"),
    ("no TLSA record for", "tlsa-invalid"),
)


def result_type(trouble: str, reason: str) -> str:
    """The result type of 4.3 for a failure.

    trouble: "T1" ... "T10", or "policy" where no connection was made.  reason: what `judge` said at T7, the text of the
    refusal, or a result type itself, which is given back.  What is left is "validation-failure": tell the reason as detail.
    """
    if reason in RESULT_TYPES:
        return reason
    if trouble in ("T1", "T2", "T3", "T4"):  # not offered, or refused: there is no TLS to be had
        return STARTTLS
    if trouble in ("T7", "policy"):
        return next((kind for words, kind in _WORDS if words in reason), OTHER)
    return OTHER


def testing_fault(required: Required, achieved: Achieved) -> str:
    """Why mode "enforce" would have sent nothing in this TLS session, where the policy is in mode "testing" (RFC 8461 5): the
    mail goes, the failure is reported.  "" when nothing is wrong, or nothing is being tested."""
    if not required.policy or required.tlsa:
        return ""
    try:
        policy = parse_policy("0", "\n".join(required.policy).encode())
    except StsError:
        return ""
    if policy.mode is not Mode.TESTING:
        return ""
    if not policy.allows(required.host):
        return f"the MTA-STS policy does not know the host {required.host}"
    if achieved.chain_error:
        return f"certificate not trusted: {achieved.chain_error}"
    return "" if achieved.names_ok else f"certificate is for none of: {', '.join(required.names)}"


def report_addresses(texts: Iterable[bytes]) -> tuple[str, ...]:
    """Where the domain wants its reports, "mailto:..." and "https://..."; () where it wants none (3).

    More than one record, or a broken one, means none.  Unknown fields and schemes are ignored.
    """
    ours = [text for text in texts if _VERSION.match(text)]
    if len(ours) != 1:
        return ()
    _, *fields = [field.strip(" \t") for field in ours[0].decode("latin-1").split(";")]
    if not fields[-1]:  # the delimiter may also stand at the end
        del fields[-1]
    if not all(map(_FIELD.fullmatch, fields)):
        return ()
    rua = next((field for field in fields if field.startswith("rua=")), "rua=")
    addresses = [address.strip(" \t") for address in rua[4:].split(",")]
    wanted = [each for each in addresses if each.lower().startswith(("mailto:", "https://")) and len(each) <= MAX_URL]
    return tuple(dict.fromkeys(wanted))[:MAX_ADDRESSES]


def policy_domain(next_hop: str) -> str:
    """The domain that a report for this next hop goes to, "" for an address literal.  A smarthost stands for itself (1.1)."""
    name = next_hop.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    name = name.removesuffix(".")
    return "" if ":" in name or not name.isascii() or name.rpartition(".")[2].isdigit() else name


class Tally:
    """The sessions with one domain in one day.

    plain: {evidence of the policy: {"policy", "summary", "failure-details": {...}}}, in the words of 4.4.
    """

    __slots__ = ("plain",)

    def __init__(self, plain: object = None) -> None:
        """plain: as another tally had it; what is damaged in it is left out."""
        known = plain if isinstance(plain, dict) else {}
        self.plain: dict[str, Any] = {key: under for key, under in known.items() if _is_sound(under)}

    @property
    def rows(self) -> int:
        """How much is kept: policies and different failures."""
        return sum(1 + len(under["failure-details"]) for under in self.plain.values())

    def succeeded(self, required: Required, room: bool = True) -> bool:
        """One session.  room: a policy not seen yet may be added.  False: there was none, nothing is counted."""
        under = self._under(required, room)
        if under is None:
            return False
        under["summary"]["total-successful-session-count"] += 1
        return True

    def failed(self, required: Required, result: str, detail: str, sending: str = "", room: bool = True) -> bool:
        """One failure.  sending: our own address, "" when it is not known.  Else as `succeeded`."""
        under = self._under(required, room)
        if under is None:
            return False
        result = result if result in RESULT_TYPES else OTHER
        detail = detail[:MAX_TEXT]
        failures = under["failure-details"]
        key = "\n".join((result, required.host, required.address, detail))
        if key not in failures:
            if room and len(failures) < MAX_FAILURES:
                failures[key] = _failure(required, result, detail, sending)
            else:
                key = result
                failures.setdefault(key, {"result-type": result, "failed-session-count": 0})
        failures[key]["failed-session-count"] += 1
        under["summary"]["total-failure-session-count"] += 1
        return True

    def _under(self, required: Required, room: bool) -> dict[str, Any] | None:
        """The counts under the policy that ruled."""
        policy = _policy(required)
        key = f"{policy['policy-type']} {policy['policy-domain']} {required.evidence}"
        if key not in self.plain:
            if not room or len(self.plain) >= MAX_POLICIES:
                return None
            summary = {"total-successful-session-count": 0, "total-failure-session-count": 0}
            self.plain[key] = {"policy": policy, "summary": summary, "failure-details": {}}
        under: dict[str, Any] = self.plain[key]
        return under


def without_policy(required: Required) -> Required:
    """Under what a failure to fetch the MTA-STS policy is counted: a policy of which nothing is known (4.3.2.2)."""
    return attrs.evolve(required, origin="sts", evidence="", policy=(), tlsa=())


def _is_sound(under: object) -> bool:
    match under:
        case {
            "policy": {"policy-type": str(), "policy-string": list(), "policy-domain": str()},
            "summary": {"total-successful-session-count": int(), "total-failure-session-count": int()},
            "failure-details": dict(failures),
        }:
            return all(_is_sound_failure(row) for row in failures.values())
    return False


def _is_sound_failure(row: object) -> bool:
    match row:
        case {"result-type": str(), "failed-session-count": int()}:
            return True
    return False


def _policy(required: Required) -> dict[str, Any]:
    """4.4 "policy".  DANE before MTA-STS, as it ruled; its domain is the TLSA base domain (1.1), which is the SNI."""
    domain = policy_domain(required.next_hop)
    if required.tlsa or required.origin == "dane":
        records = [_presented(record) for record in required.tlsa[:MAX_STRINGS]]
        return {"policy-type": "tlsa", "policy-string": records, "policy-domain": required.sni or required.host}
    if required.policy or required.origin == "sts":
        lines = [line[:MAX_TEXT] for line in required.policy[:MAX_STRINGS]]
        patterns = [line[4:] for line in lines if line.startswith("mx: ")]
        return {"policy-type": "sts", "policy-string": lines, "policy-domain": domain, "mx-host": patterns}
    return {"policy-type": "no-policy-found", "policy-string": [], "policy-domain": domain}


def _presented(record: Tlsa) -> str:
    """RFC 6698 2.2."""
    return f"{record.usage} {record.selector} {record.mtype} {record.data.hex()}"[:MAX_TEXT]


def _failure(required: Required, result: str, detail: str, sending: str) -> dict[str, Any]:
    """4.4 "failure-details"; what is not known is left out."""
    entry: dict[str, Any] = {"result-type": result}
    if sending and ip_address(sending).version == ip_address(required.address).version:
        entry["sending-mta-ip"] = sending
    entry["receiving-mx-hostname"] = required.host[:MAX_TEXT]
    entry["receiving-ip"] = required.address
    entry["failed-session-count"] = 0
    if detail:
        entry["failure-reason-code"] = detail
    return entry


def report_id(domain: str, start: datetime, hostname: str, part: int = 0) -> str:
    """4.4: the same for each attempt to send it, so that a report that arrives twice is known for one.

    part: of several reports on one day, each of a worker of its own.
    """
    return f"{start:%Y-%m-%d}{f'+{part}' if part else ''}.{domain}@{hostname}"


def report(tally: Tally, identity: str, start: datetime, organization: str, contact: str) -> dict[str, Any]:
    """4.4.  start: the first second of the day, UTC."""
    end = start + timedelta(days=1, seconds=-1)
    return {
        "organization-name": organization,
        "date-range": {"start-datetime": f"{start:{_RFC3339}}", "end-datetime": f"{end:{_RFC3339}}"},
        "contact-info": contact,
        "report-id": identity,
        "policies": [_policy_report(under) for under in tally.plain.values()],
    }


def _policy_report(under: dict[str, Any]) -> dict[str, Any]:
    failures = list(under["failure-details"].values())
    known = {"policy": under["policy"], "summary": under["summary"]}
    return {**known, "failure-details": failures} if failures else known


def packed(report: dict[str, Any]) -> bytes:
    """5.2: the report as application/tlsrpt+gzip."""
    return gzip.compress(json.dumps(report).encode("ascii"), mtime=0)
