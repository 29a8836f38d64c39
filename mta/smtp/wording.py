"""What the receiver says by itself: the replies that no session decides.  RFC 5321 4.2, RFC 3463.

Constants, so that each is put into bytes once; none contains a word of the client's (docs/tls.md).
"""

from __future__ import annotations

from typing import Final

from mta.status import Reply

# ---- done

OK: Final = Reply(250, "2.0.0", "Ok")
BYE: Final = Reply(221, "2.0.0", "Bye")
LOWERED: Final = Reply(250, "2.3.6", "0 is the new priority, a higher one is for those who log in")  # RFC 6710: X.3.6
WILL_TRY: Final = Reply(252, "2.5.0", "Cannot verify, but will accept mail and try to deliver it")  # RFC 5321 3.5.3
HELP: Final = Reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT")
HELP_TLS: Final = Reply(214, "2.0.0", "EHLO HELO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT")

# ---- not understood (RFC 5321 4.2.4)

UNKNOWN: Final = Reply(500, "5.5.1", "Command unrecognized")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Command not implemented")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")  # 4.5.3.1.10
NOT_FRAMED: Final = Reply(500, "5.5.2", "Bare CR, bare LF or NUL in a command")
NOT_SMTP: Final = Reply(554, "5.5.1", "This is a mail server")

# ---- out of order (RFC 5321 4.1.4)

HELLO_FIRST: Final = Reply(503, "5.5.1", "Send EHLO first")
MAIL_FIRST: Final = Reply(503, "5.5.1", "Send MAIL first")
MAIL_GIVEN: Final = Reply(503, "5.5.1", "Sender already given")
RCPT_FIRST: Final = Reply(503, "5.5.1", "Send RCPT first")
BDAT_BEGUN: Final = Reply(503, "5.5.1", "The message comes by BDAT")  # RFC 3030 2
BINARY_NEEDS_BDAT: Final = Reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT")  # RFC 3030 3
RSET_FIRST: Final = Reply(503, "5.5.1", "The transaction has failed, send RSET first")
NO_VALID_RECIPIENT: Final = Reply(554, "5.5.1", "No valid recipients")  # 3.3
NOT_SYNCHRONISED: Final = Reply(554, "5.5.0", "SMTP protocol synchronization")

# ---- too much

TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors")
TOO_MANY_COMMANDS: Final = Reply(421, "4.7.0", "Too many commands")
TOO_MANY_TRANSACTIONS: Final = Reply(421, "4.7.0", "Too many messages in one connection")
TOO_MANY_IN_ALL: Final = Reply(421, "4.7.0", "Too many recipients in one connection")
TOO_MANY_LOGINS: Final = Reply(421, "4.7.0", "Too many failed logins")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")  # 4.5.3.1.10

# ---- XCLIENT and XFORWARD (Postfix's XCLIENT_README)

NOT_ENTITLED: Final = Reply(550, "5.7.0", "Insufficient authorization")

# ---- BDAT (RFC 3030 2)

BDAT_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: BDAT size [LAST]")

# ---- STARTTLS (RFC 3207 4, docs/tls.md)

STARTTLS_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: STARTTLS")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS already active")
IN_TRANSACTION: Final = Reply(503, "5.5.1", "Not within a mail transaction")
TOO_MANY_STARTTLS: Final = Reply(421, "4.7.0", "Too many STARTTLS commands")

# ---- what must be done first (RFC 3207 4, RFC 4954 6, docs/tls.md)

STARTTLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_FIRST: Final = Reply(530, "5.7.0", "Authentication required")
STARTTLS_OR_AUTH_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS or AUTH command first")

# ---- AUTH (RFC 4954 4 and 6)

AUTH_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
AUTH_UNKNOWN: Final = Reply(504, "5.5.4", "Unrecognized authentication type")
AUTH_NEEDS_TLS: Final = Reply(538, "5.7.11", "Encryption required for requested authentication mechanism")
AUTH_DONE: Final = Reply(503, "5.5.1", "Already authenticated")
AUTH_CANCELLED: Final = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_NOT_FIRST: Final = Reply(501, "5.7.0", "No initial response with this mechanism")
AUTH_UNDECODABLE: Final = Reply(501, "5.5.2", "Cannot decode the response")
AUTH_TOO_LONG: Final = Reply(500, "5.5.6", "Authentication exchange line is too long")
