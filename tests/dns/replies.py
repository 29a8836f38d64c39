"""Replies of name servers, made by dnspython."""

import dns.message
import dns.rcode
import dns.rrset


def reply_to(question, *answer, rcode="NOERROR", ident=7, authority=(), additional=(), flags=0, options=()):
    """A server's reply on the wire; records as (name, ttl, "IN", type, text ...)."""
    message = dns.message.make_response(dns.message.from_wire(question.to_wire(ident)), recursion_available=True)
    message.answer = [dns.rrset.from_text(*each) for each in answer]
    message.authority = [dns.rrset.from_text(*each) for each in authority]
    message.additional = [dns.rrset.from_text(*each) for each in additional]
    message.flags |= flags
    message.set_rcode(dns.rcode.from_text(rcode))
    if options:
        message.use_edns(0, options=list(options))
    return message.to_wire(max_size=65535)


def soa(minimum=60, ttl=3600):
    return ("test.", ttl, "IN", "SOA", f"ns.test. admin.test. 1 3600 600 86400 {minimum}")
