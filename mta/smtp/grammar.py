"""The grammar of SMTP: sizes and character classes, in the order of RFC 5321 (4.1.2 to 4.5.3).

Everything here is a constant; the parsers that use them are in address.py, command.py, reply.py and data.py.  The
classes are for text that was decoded from UTF-8: RFC 6531 3.3 adds all of UTF-8 beyond ASCII to atext, qtextSMTP and
sub-domain (we leave the C1 controls out: nobody's name has them and terminals obey them).  Whether an address *may*
use that is a question of the transaction (SMTPUTF8), answered in address.py.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "CONTROL",
    "DOMAIN",
    "DOT_STRING",
    "HELLO_NAME",
    "KEYWORD",
    "MAX_AUTH_LINE",
    "MAX_COMMAND_LINE",
    "MAX_COMMAND_LINE_SENT",
    "MAX_DOMAIN",
    "MAX_LABEL",
    "MAX_LOCAL_PART",
    "MAX_PATH",
    "MAX_REPLY",
    "MAX_REPLY_LINE",
    "MAX_REPLY_LINES",
    "MAX_REPLY_LINE_READ",
    "MAX_TEXT_LINE",
    "PARAMETER",
    "PATH",
    "TERMINATOR",
]

# ---- sizes, in octets (RFC 5321 4.5.3.1)

MAX_LOCAL_PART: Final = 64  # 4.5.3.1.1
MAX_DOMAIN: Final = 255  # 4.5.3.1.2
MAX_LABEL: Final = 63  # RFC 1035 2.3.4
MAX_PATH: Final = 256  # 4.5.3.1.3, with its brackets
# 4.5.3.1.4 asks for 512 with CRLF, extensions add to it (SIZE 26, 8BITMIME 17, SMTPUTF8 10, DSN 600 ...), and 4.5.3.1
# asks not to impose limits needlessly.  So one limit for every command: longer lines get 500 and are skipped.
MAX_COMMAND_LINE: Final = 2048
MAX_COMMAND_LINE_SENT: Final = 512  # where we have the choice
MAX_AUTH_LINE: Final = 12_288  # RFC 4954 4, with CRLF: a response to a challenge
MAX_REPLY_LINE: Final = 512  # 4.5.3.1.5, with CRLF: what we send
MAX_REPLY_LINE_READ: Final = 2048  # what we read: servers that say more than 512 exist, and their mail shall not wait
MAX_REPLY_LINES: Final = 512  # ours: an endless reply is an attack
MAX_REPLY: Final = 65_536  # ours: bytes of one reply
MAX_TEXT_LINE: Final = 1000  # 4.5.3.1.6, with CRLF, without the dot added for transparency

# ---- the end of mail data (RFC 5321 4.1.1.4): this and nothing else

TERMINATOR: Final = b"\r\n.\r\n"

# ---- addresses (RFC 5321 4.1.2, RFC 6531 3.3).  Every repetition below is unambiguous: matching is linear.
#
# The classes say what is not in them: so much of UTF-8 is in them that to list it would take the compiler of expressions ten
# times as long, at every start.

_NEVER = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # controls, and surrogates, which no UTF-8 has
_ATEXT = rf'[^{_NEVER} ()<>\[\]:;@\\,."]'  # without the specials of RFC 5322 3.2.3
_LET_DIG = rf"[^{_NEVER} -/:-@\[-^`{{-~]"  # the underscore is no letter of RFC 5321, but of names in use
_DOMAIN = rf"{_LET_DIG}+(?:(?:-+|\.){_LET_DIG}+)*"  # sub-domains, no hyphen at either end of one
_LITERAL = r"\[[0-9A-Za-z:.]+\]"  # 4.1.3; what is inside is judged by `ipaddress`
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QUOTED_STRING = rf'"(?:[^{_NEVER}"\\]|\\[ -~])*"'
_A_D_L = rf"@{_DOMAIN}(?:,@{_DOMAIN})*:"  # source route: accepted and ignored (4.1.1.3, appendix C)

DOMAIN: Final = re.compile(_DOMAIN)
DOT_STRING: Final = re.compile(_DOT_STRING)
PATH: Final = re.compile(rf"<(?:(?:{_A_D_L})?({_DOT_STRING}|{_QUOTED_STRING})(?:@({_DOMAIN}|{_LITERAL}))?)?>")

# ---- commands (RFC 5321 4.1.1)

# Domain or address literal; wider than 4.1.2, for what clients really say, but nothing that means something in a
# Received header line: no blanks, quotes, brackets <>, parentheses, commas, semicolons, backslashes.
HELLO_NAME: Final = re.compile(rb"[!#-'*+\-./0-:=?-\[\]-~]+")
KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # esmtp-keyword, ehlo-keyword
PARAMETER: Final = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")  # esmtp-param; UTF-8: RFC 6531 3.3

# ---- text

CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")  # HT is text (4.2: textstring)
