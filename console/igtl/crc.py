"""CRC-64 of ECMA-182 as OpenIGTLink puts it over a message's body.

Polynomial 0x42F0E1EBA9EA3693, no reflection, begins and ends with 0 (ECMA-182, annex B; in catalogues CRC-64/ECMA-182,
whose check value over ``123456789`` is 0x6C40DF5F0B497347).
"""

from __future__ import annotations

_POLYNOMIAL = 0x42F0E1EBA9EA3693
_ALL = 0xFFFFFFFFFFFFFFFF


def _table_entry(byte: int) -> int:
    crc = byte << 56
    for _ in range(8):
        crc = ((crc << 1) & _ALL) ^ (_POLYNOMIAL if crc >> 63 else 0)
    return crc


_TABLE = tuple(_table_entry(byte) for byte in range(256))


def crc64(data: bytes) -> int:
    """Of the whole of ``data``."""
    table, crc = _TABLE, 0
    for byte in data:
        crc = table[(crc >> 56) ^ byte] ^ ((crc << 8) & _ALL)
    return crc
