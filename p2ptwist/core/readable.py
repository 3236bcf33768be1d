"""
Text that somebody else has written, made safe to print.
"""

from __future__ import annotations

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def readable(text: str) -> str:
    """
    @return: C{text} without escape sequences, new lines, and what else a terminal, or the reader of
        a log, would take for something that it is not.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _REPLACEMENT for each in text)


def readableBytes(text: bytes) -> str:
    """
    @return: the same of UTF-8; what is none is replaced as well.
    """
    return readable(text.decode("utf-8", "replace"))
