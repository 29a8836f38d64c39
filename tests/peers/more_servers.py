"""Sendmail and OpenSMTPD as next hops: what they are told, and how they are started.

Both take mail for sink.test into one Maildir; Sendmail relays the rest when it is given a next hop.  It offers STARTTLS with
the certificate it is given and, when it is given a user, wants AUTH from everybody.  Debian's OpenSMTPD offers STARTTLS, says
220 and fails every handshake (its issue 1171: built for OpenSSL 1): a real peer with broken TLS.
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
from pathlib import Path

from tests.peers.peers import HERE, Server, require
from tests.ports import free_port

REALM = "peer.test"

SENDMAIL = """\
divert(-1)
divert(0)
define(`_USE_ETC_MAIL_')
include(`/usr/share/sendmail/cf/m4/cf.m4')
OSTYPE(`linux')
define(`confCW_FILE', `-o /etc/mail/cw')
define(`confPID_FILE', `{directory}/pid')
define(`QUEUE_DIR', `{directory}/queue')
define(`STATUS_FILE', `{directory}/stat')
define(`HELP_FILE', `')
define(`ALIAS_FILE', `')
define(`confDONT_PROBE_INTERFACES', `True')
define(`confDOMAIN_NAME', `{realm}')
define(`confDONT_BLAME_SENDMAIL', `GroupWritableDirPathSafe,GroupReadableSASLDBFile')
define(`confDEF_USER_ID', `mtapeer:mtapeer')
define(`confCACERT_PATH', `/etc/mail/tls')
define(`confCACERT', `/etc/mail/tls/cert.pem')
define(`confSERVER_CERT', `/etc/mail/tls/cert.pem')
define(`confSERVER_KEY', `/etc/mail/tls/key.pem')
define(`confTLS_SRV_OPTIONS', `V')
define(`confSERVICE_SWITCH_FILE', `/etc/mail/switch')
define(`confTO_IDENT', `0')
define(`confPRIVACY_FLAGS', `')
define(`confLOG_LEVEL', `14')
{auth}
{relay}
FEATURE(`no_default_msa')
FEATURE(`nocanonify')
FEATURE(`accept_unresolvable_domains')
FEATURE(`accept_unqualified_senders')
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port={port}, Addr=127.0.0.1{modifiers}')
MAILER(`local')
MAILER(`smtp')
MAILER_DEFINITIONS
Msink,\tP={directory}/mda, F=lsDFMn5:/|@qSPh, S=0, R=0, T=DNS/RFC822/X-Unix, U=mtapeer:mtapeer,
\tA=mda $u
LOCAL_CONFIG
LOCAL_RULE_0
R$* < @ sink.test . > $*\t$#sink $@ sink.test $: $1
R$* < @ sink.test > $*\t$#sink $@ sink.test $: $1
"""
AUTH = """\
TRUST_AUTH_MECH(`PLAIN LOGIN CRAM-MD5')
define(`confAUTH_MECHANISMS', `PLAIN LOGIN CRAM-MD5')
define(`confAUTH_REALM', `peer.test')
"""
RELAY = """\
define(`SMART_HOST', `relay:[127.0.0.1]')
define(`RELAY_MAILER_ARGS', `TCP $h {port}')
FEATURE(`promiscuous_relay')
"""
MDA = """\
#!/bin/sh
t=$(mktemp -u m.XXXXXXXX)
cat >{directory}/mail/all/tmp/$t && mv {directory}/mail/all/tmp/$t {directory}/mail/all/new/$t
"""
OPENSMTPD = """\
pki peer cert "{certificate}"
pki peer key "{key}"
table anyone {{ "@" = mtapeer }}
queue ttl 1h
listen on 127.0.0.1 port {port} {tls} hostname peer.test
action "local" maildir "{directory}/mail/all" virtual <anyone>
match from any for domain "sink.test" action "local"
"""


def sasl_user(directory: Path, user: str, password: str, service: str) -> None:
    """An account in a Cyrus SASL database, and the service (`postfix/sasl/smtpd`, `sasl2/Sendmail`) that is to use it."""
    require("saslpasswd2")
    etc = directory / "etc"
    etc.mkdir(exist_ok=True)
    database = etc / "sasldb2"
    command = ["saslpasswd2", "-p", "-c", "-u", REALM, "-f", str(database), user]
    subprocess.run(command, input=password.encode(), check=True, capture_output=True)
    database.chmod(0o644)
    (configuration := etc / f"{service}.conf").parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5\n")


def _maildir(directory: Path) -> None:
    owner = pwd.getpwnam("mtapeer")
    directory.chmod(0o755)
    for folder in ("new", "cur", "tmp"):
        (directory / "mail/all" / folder).mkdir(parents=True)
    for path in (directory / "mail", directory / "mail/all", *(directory / "mail/all").iterdir()):
        shutil.chown(path, owner.pw_uid, owner.pw_gid)


def start_sendmail(
    directory: Path, tls: tuple[Path, Path], *, user: tuple[str, str] | None = None, relay_to: int | None = None
) -> Server:
    """Sendmail with STARTTLS.  user: name and password of the one account; then AUTH comes before MAIL.

    relay_to: a port of this machine that gets the rest of the mail.
    """
    require("sendmail")
    port = free_port()
    _maildir(directory)
    mail = directory / "etc/mail"
    (mail / "tls").mkdir(parents=True)
    shutil.copy(tls[0], mail / "tls/cert.pem")
    shutil.copy(tls[1], mail / "tls/key.pem")
    (mail / "tls/key.pem").chmod(0o600)
    (mail / "cw").write_text("")
    if user is not None:
        sasl_user(directory, *user, service="mail/sasl/Sendmail")
        sasl_user(directory, *user, service="sasl2/Sendmail")
    text = SENDMAIL.format(
        directory=directory,
        realm=REALM,
        port=port,
        auth=AUTH if user else "",
        modifiers=", M=a" if user else "",
        relay=RELAY.format(port=relay_to) if relay_to is not None else "",
    )
    (mail / "sendmail.mc").write_text(text)
    (mda := directory / "mda").write_text(MDA.format(directory=directory))
    mda.chmod(0o755)
    return Server(["bash", str(HERE / "sendmail.sh"), str(directory)], directory, port)


def start_opensmtpd(directory: Path, tls: tuple[Path, Path]) -> Server:
    """OpenSMTPD whose every handshake fails."""
    require("opensmtpd")
    port = free_port()
    _maildir(directory)
    etc = directory / "etc"
    etc.mkdir(exist_ok=True)
    shutil.copy(tls[0], directory / "cert.pem")
    shutil.copy(tls[1], directory / "key.pem")
    (directory / "key.pem").chmod(0o600)  # it refuses a key that others can read
    text = OPENSMTPD.format(
        directory=directory, certificate=directory / "cert.pem", key=directory / "key.pem", port=port, tls="tls pki peer"
    )
    (etc / "smtpd.conf").write_text(text)
    (etc / "smtpd.conf").chmod(0o600)
    return Server(["bash", str(HERE / "opensmtpd.sh"), str(directory)], directory, port)


__all__ = ["REALM", "sasl_user", "start_opensmtpd", "start_sendmail"]
