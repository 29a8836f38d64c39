"""Mail clients, each as a function: an Order in, an Answer out.  Python's own and aiosmtplib, nodemailer, swaks, msmtp, s-nail, curl.

Each is told what a person would tell it, in its own words; the certificate of the server is verified wherever there is TLS.
None of them raises because of what the server says: a refusal is an Answer too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import aiosmtplib
import attrs

from tests.peers.peers import PREFIX
from tests.peers.site import ACCOUNT, PASSWORD, Site

HERE = Path(__file__).resolve().parent
TIMEOUT = 60  # seconds; what they are given
NAME = "client.test"  # in EHLO


@attrs.frozen(slots=True)
class Order:
    """What a client is to do.  mechanism "": it does not log in.  data: with CRLF."""

    site: Site
    folder: Path  # for its files
    port: int
    data: bytes
    to: tuple[str, ...]
    sender: str
    tls: Literal["none", "starttls", "implicit"] = "none"
    mechanism: str = ""
    password: str = PASSWORD


@attrs.frozen(slots=True)
class Answer:
    """What came of it.  said: in the client's words, with the server's reply where it is refused.  data: what was sent."""

    sent: bool
    said: str
    data: bytes
    refused: tuple[str, ...] | None = None  # recipients, where the client tells


Client = Callable[[Order], Answer]


def run(order: Order, *command: str, data: bytes | None = None, sent: bytes | None = None) -> Answer:
    """A program to its end; status 0: sent.  data: for its standard input.  sent: what it sends, the order's data."""
    done = subprocess.run(
        ["timeout", "-k", "2", str(TIMEOUT), *command],
        input=order.data if data is None else data,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HOME": str(order.folder), "LC_ALL": "C.UTF-8"},
        cwd=order.folder,
    )
    return Answer(done.returncode == 0, done.stdout.decode(errors="replace"), order.data if sent is None else sent)


def of_smtplib(order: Order) -> Answer:
    """Python's own."""
    context = order.site.context()
    try:
        client: smtplib.SMTP
        if order.tls == "implicit":
            client = smtplib.SMTP_SSL("localhost", order.port, NAME, timeout=TIMEOUT, context=context)
        else:
            client = smtplib.SMTP("localhost", order.port, NAME, timeout=TIMEOUT)
        with client:
            if order.tls == "starttls":
                client.starttls(context=context)
            client.ehlo()
            if order.mechanism:
                client.user, client.password = ACCOUNT, order.password  # type: ignore[attr-defined]
                client.auth(order.mechanism, getattr(client, "auth_" + order.mechanism.lower().replace("-", "_")))
            refused = client.sendmail(order.sender, order.to, order.data, ["BODY=8BITMIME"])
    except smtplib.SMTPException as error:
        return Answer(False, repr(error), order.data)
    return Answer(True, repr(refused), order.data, tuple(refused))


def of_aiosmtplib(order: Order) -> Answer:
    """In an event loop of its own."""
    return asyncio.run(aiosmtplib_send(order))


async def aiosmtplib_send(order: Order) -> Answer:
    """The same in a loop that runs."""
    client = aiosmtplib.SMTP(
        hostname="localhost",
        port=order.port,
        local_hostname=NAME,
        timeout=TIMEOUT,
        use_tls=order.tls == "implicit",
        start_tls=order.tls == "starttls",
        tls_context=order.site.context() if order.tls != "none" else None,
    )
    try:
        async with client:
            if order.mechanism:
                await client.ehlo()
                log_in = getattr(client, "auth_" + order.mechanism.lower().replace("-", ""))
                await log_in(ACCOUNT, order.password)
            refused, said = await client.sendmail(order.sender, order.to, order.data, mail_options=["BODY=8BITMIME"])
    except aiosmtplib.SMTPException as error:
        return Answer(False, repr(error), order.data)
    return Answer(True, f"{refused} {said}", order.data, tuple(refused))


def of_nodemailer(order: Order) -> Answer:
    """A message that is there already."""
    return nodemailer(order, {"raw": base64.b64encode(order.data).decode()})


def nodemailer(order: Order, mail: dict[str, object]) -> Answer:
    """mail: what its sendMail takes, without the envelope."""
    transport: dict[str, object] = {"host": "localhost", "port": order.port, "name": NAME}
    transport |= {"secure": order.tls == "implicit", "ignoreTLS": order.tls == "none", "requireTLS": order.tls == "starttls"}
    transport |= {"tls": {"ca": order.site.ca.read_text()}}
    if order.mechanism:
        transport |= {"auth": {"user": ACCOUNT, "pass": order.password, "method": order.mechanism}}
    envelope = {"from": order.sender, "to": order.to, "use8BitMime": True}
    told = run(
        order,
        "env",
        f"NODE_PATH={PREFIX}/nodemailer/node_modules",
        "node",
        str(HERE / "nodemailer.cjs"),
        data=json.dumps({"transport": transport, "mail": {**mail, "envelope": envelope}}).encode(),
    )
    if not told.said.startswith("{"):
        return attrs.evolve(told, sent=False)
    result = json.loads(told.said)
    sent = "error" not in result
    return Answer(sent, told.said, base64.b64decode(result.get("sent", "")), tuple(result.get("rejected") or ()))


def of_swaks(order: Order, *more: str) -> Answer:
    """more: further options.  With what it does to data left as it is by default: it puts the end of the last line before the dot itself."""
    (order.folder / "data").write_bytes(order.data.removesuffix(b"\r\n"))
    words = ["swaks", "--server", "localhost", "--port", str(order.port), "--ehlo", NAME, "--from", order.sender]
    words += ["--to", ",".join(order.to), "--data", f"@{order.folder}/data", "--suppress-data"]
    if order.tls != "none":
        words += ["--tls" if order.tls == "starttls" else "--tls-on-connect"]
        words += ["--tls-verify", "--tls-ca-path", str(order.site.ca)]
    if order.mechanism:
        words += ["--auth", order.mechanism, "--auth-user", ACCOUNT, "--auth-password", order.password]
    return run(order, *words, *more, data=b"")


def of_msmtp(order: Order) -> Answer:
    """By its configuration file; --debug shows the dialogue."""
    lines = ["account default", "host localhost", f"port {order.port}", f"domain {NAME}", f"from {order.sender}"]
    lines += [f"timeout {TIMEOUT}"]
    if order.tls != "none":
        lines += ["tls on", f"tls_starttls {'on' if order.tls == 'starttls' else 'off'}", f"tls_trust_file {order.site.ca}"]
    if order.mechanism:
        lines += [f"auth {order.mechanism.lower()}", f"user {ACCOUNT}", f"password {order.password}"]
    if order.mechanism == "EXTERNAL":
        certificate, key = order.site.certificate
        lines += [f"tls_cert_file {certificate}", f"tls_key_file {key}"]
    path = order.folder / "msmtprc"
    path.write_text("\n".join([*lines, ""]))
    path.chmod(0o600)
    return run(order, "msmtp", "-C", str(path), "--debug", "--", *order.to, data=order.data.replace(b"\r\n", b"\n"))


def of_s_nail(order: Order) -> Answer:
    """It composes: of the data only the body is its; what it says it sent is what it has put into its record."""
    return s_nail(order)


def s_nail(order: Order, *more: str) -> Answer:
    """more: further options."""
    body = order.data.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n").replace(b"\xff\xfe\n", b"")  # UTF-8 only
    record = order.folder / "record"
    scheme, login = ("smtps" if order.tls == "implicit" else "smtp"), ""
    settings = ["v15-compat=yes", f"from={order.sender}", f"hostname={NAME}", f"record={record}", "mime-encoding=8bit"]
    settings += [f"DEAD={order.folder}/dead"]
    settings += ["sendwait", "ttycharset=utf-8", "verbose=2", "socket-connect-timeout=20"]
    if order.tls != "none":
        settings += [f"tls-ca-file={order.site.ca}", "tls-ca-no-defaults", "tls-verify=strict"]
    if order.tls == "starttls":
        settings += ["smtp-use-starttls"]
    if order.mechanism:
        settings += [f"smtp-auth={order.mechanism.lower()}"]
        login = f"{ACCOUNT}:{quote(order.password, safe='')}@"
    else:
        settings += ["smtp-auth=none"]
    if order.mechanism == "EXTERNAL":
        certificate, key = order.site.certificate
        settings += [f"tls-config-pairs=Certificate={certificate},PrivateKey={key}"]
        login = f"{ACCOUNT}@"
    settings += [f"mta={scheme}://{login}localhost:{order.port}"]
    options = [word for setting in settings for word in ("-S", setting)]
    answer = run(order, "s-nail", "-:/", *options, "-s", "from s-nail", *more, *order.to, data=body)
    return attrs.evolve(answer, data=_recorded(record))


def _recorded(record: Path) -> bytes:
    """The message in its mailbox file (mboxrd)."""
    if not record.exists():
        return b""
    lines = record.read_bytes().removesuffix(b"\n\n").split(b"\n")[1:]  # without "From " and the empty line between messages
    return b"".join((line[1:] if re.match(b">+From ", line) else line) + b"\r\n" for line in lines)


def of_curl(order: Order) -> Answer:
    """--upload-file, as it stands."""
    (order.folder / "data").write_bytes(order.data)
    scheme = "smtps" if order.tls == "implicit" else "smtp"
    words = ["curl", "-sSv", "--max-time", str(TIMEOUT), "--url", f"{scheme}://localhost:{order.port}/{NAME}"]
    words += ["--mail-from", order.sender, "--mail-rcpt-allowfails", "--upload-file", str(order.folder / "data")]
    words += [word for address in order.to for word in ("--mail-rcpt", address)]
    if order.tls != "none":
        words += ["--ssl-reqd", "--cacert", str(order.site.ca)]
    if order.mechanism:
        words += ["--user", f"{ACCOUNT}:{order.password}", "--login-options", f"AUTH={order.mechanism}"]
    if order.mechanism == "EXTERNAL":
        certificate, key = order.site.certificate
        words += ["--cert", str(certificate), "--key", str(key)]
        words[words.index("--user") + 1] = f"{ACCOUNT}:"
    return run(order, *words, data=b"")


def gsasl(order: Order, *, binding: bool = False) -> Answer:
    """GNU SASL's own program, which only logs in.  binding: also where the mechanism does not bind to TLS, it says that it could."""
    words = ["gsasl", "--smtp", "--connect", f"localhost:{order.port}", "--mechanism", order.mechanism, "--verbose"]
    words += ["--authentication-id", ACCOUNT, "--password", order.password, "--hostname", "localhost"]
    words += ["--x509-ca-file", str(order.site.ca)]
    if order.mechanism == "SCRAM-SHA-256" and not binding:
        words += ["--no-cb"]
    if order.mechanism == "EXTERNAL":
        certificate, key = order.site.certificate
        words += ["--x509-cert-file", str(certificate), "--x509-key-file", str(key)]
    return run(order, *words, data=b"")
