"""Files with an address a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.address_list import key_of, read_addresses


class AddressListTests(SynchronousTestCase):
    """`read_addresses` and `key_of`."""

    def test_right(self) -> None:
        """Comments, blanks, any end of line, any case, quoted local parts, U-labels."""
        text = '# ours\n\n Ann@Friend.Example \r\n"a b"@friend.example\nx@bücher.example'
        wanted = {"ann@friend.example", '"a b"@friend.example', "x@xn--bcher-kva.example"}
        self.assertEqual(wanted, read_addresses(text.encode()))

    def test_byte_order_mark(self) -> None:
        """Some editors put one in front: it is no part of the first address."""
        self.assertEqual({"a@b.example"}, read_addresses(b"\xef\xbb\xbfa@b.example\r\n"))

    def test_wrong(self) -> None:
        """With the number of the line."""
        for text, said in (
            (b"a@b.example\nbob\n", "wrong in line 2; user@domain is wanted"),
            (b"postmaster\n", "wrong in line 1; user@domain is wanted"),
            (b"a b@x\n", "wrong in line 1; user@domain is wanted"),
            (b"\xff@x\n", "not in UTF-8"),
        ):
            self.assertEqual(said, str(self.assertRaises(ValueError, read_addresses, text)))

    def test_keys(self) -> None:
        """The address in one spelling, with its domain."""
        self.assertEqual(("a@b.example", "b.example"), key_of("A@B.Example"))
        self.assertEqual(("postmaster", ""), key_of("Postmaster"))

    @hypothesis_settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
    def test_whatever_it_is(self, text: bytes) -> None:
        """It is read, or it is a ValueError; what was read is spelled as it will be asked for."""
        try:
            addresses = read_addresses(text)
        except ValueError:
            return
        self.assertEqual(addresses, {key_of(address)[0] for address in addresses})
