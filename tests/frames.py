"""Frames as they are on the wire, and a program that sends them from a guest without tools."""

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
_BASE, _HEADERS = 0x400000, 64 + 56  # where it is loaded, bytes of ELF's two headers


def frame(to: str, source: str, kind: int, payload: bytes) -> bytes:
    """Ethernet: `kind` is the EtherType, or the length of IEEE 802.3."""
    return _mac(to) + _mac(source) + struct.pack("!H", kind) + payload.ljust(46, b"\0")


def arp(operation: int, mac: str, address: str, target: str, name: bytes) -> bytes:
    """RFC 826: 1 asks, 2 answers. The name is in what follows it."""
    sender = _mac(mac) + ipaddress.IPv4Address(address).packed
    asked = bytes(6) + ipaddress.IPv4Address(target).packed
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender + asked + name


def udp(source: str, target: str, ports: tuple[int, int], data: bytes) -> bytes:
    """RFC 768 in RFC 791; a checksum of zero is none."""
    segment = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
    ends = [ipaddress.IPv4Address(end).packed for end in (source, target)]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, 17, 0)
    words = struct.unpack("!10H", header + b"".join(ends))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF)
    return header + b"".join(ends) + segment


def advertisement(name: bytes) -> bytes:
    """A router's, RFC 4861, to all nodes; its checksum is nothing that a filter looks at."""
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + name
    ends = [ipaddress.IPv6Address(end).packed for end in ("fe80::1", "ff02::1")]
    return struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + b"".join(ends) + body


def ipv6(source: str, target: str, kind: int, data: bytes, ahead: bytes = b"") -> bytes:
    """RFC 8200: a payload of a protocol; what is `ahead` of it begins with the next header."""
    ends = [ipaddress.IPv6Address(end).packed for end in (source, target)]
    first = 0 if ahead else kind
    header = struct.pack("!IHBB", 6 << 28, len(ahead + data), first, 255)
    return header + b"".join(ends) + ahead + data


def udp6(source: str, target: str, ports: tuple[int, int], data: bytes) -> bytes:
    """RFC 768 in RFC 8200, where it has to have a checksum."""
    ends = b"".join(ipaddress.IPv6Address(end).packed for end in (source, target))
    size = 8 + len(data)
    words = ends + struct.pack("!IIHHHH", size, 17, *ports, size, 0) + data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF or 0xFFFF
    return ipv6(source, target, 17, struct.pack("!HHHH", *ports, size, checksum) + data)


def neighbour(operation: int, target: str, name: bytes) -> bytes:
    """ICMPv6, RFC 4861: 135 asks, 136 answers; no filter looks at its checksum."""
    return struct.pack("!BBHI", operation, 0, 0, 0) + ipaddress.IPv6Address(target).packed + name


def sender(index: int, frames: list[bytes]) -> bytes:
    """An x86-64 ELF file for Linux that sends the frames, from the interface with this number."""
    link = struct.pack("<HHiHBB8x", 17, 0, index, 0, 0, 0)  # packet(7), struct sockaddr_ll
    start, code = b"\xb8\x29\0\0\0\xbf\x11\0\0\0\xbe\x03\0\0\0\x31\xd2\x0f\x05\x89\xc3", b""
    at = _BASE + _HEADERS + len(start) + 43 * len(frames) + 9  # the data, behind the code
    data = link
    for each in frames:
        code += b"\x89\xdf\x48\xbe" + struct.pack("<Q", at + len(data))  # socket, frame,
        code += b"\xba" + struct.pack("<I", len(each)) + b"\x45\x31\xd2"  # length, no flags,
        code += b"\x49\xb8" + struct.pack("<Q", at) + b"\x41\xb9\x14\0\0\0"  # and address:
        code += b"\xb8\x2c\0\0\0\x0f\x05"  # sendto(2)
        data += each
    text = start + code + b"\xb8\x3c\0\0\0\x31\xff\x0f\x05" + data  # exit(2)
    size = _HEADERS + len(text)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    entry = _BASE + _HEADERS
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    return ident + header + program + text


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
