"""
A probe for a host behind a NAT: whether many sockets that ask the same host at the same time are
all answered, each at an outer port of its own.

C{probe_flows.py ADDRESS COUNT} asks the mirror from so many sockets, and prints a list of the outer
port of each, C{null} where no answer came.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.kernel.probe_nat import Mirror

_FIRST = (0, 0)
_AT_ONCE = 20  # sockets that wait for an answer


def main(address: str, count: int) -> None:
    """
    Ask and print.
    """
    sockets = [Mirror([address]) for _ in range(count)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda mirror: mirror.ask(_FIRST, _FIRST), sockets))
    print(json.dumps([answer and answer["seen"][1] for answer in answers]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
