"""
Applications that do not read: what that costs both sides, and everybody else.

C{P2PTWIST_UNREAD_READ} says how many bytes are read in the end: 100 MB if it is not set;
1,000,000,000 for all that was offered.
"""

from __future__ import annotations

import json
import os
import sys
import time

from tests.contract.rendezvous import residentKiB
from tests.contract.test_cli import ProcessCase
from tests.contract.test_demonstration import LIMIT, Program

OFFERED = 1_000_000_000  # bytes, of all streams together
GROWTH = 16 * 1024  # KiB that either side may take for it
# Bytes that are read once reading goes on; all that was offered would take its time.
READ = int(os.environ.get("P2PTWIST_UNREAD_READ", "100000000"))
QUIET = 0.3  # seconds without a byte more: nobody can write any more


class UnreadTests(ProcessCase):
    """
    Two programs on loopback: one offers 1 GB, and the other one does not read.
    """

    asked = 0

    def role(self, key: str, *arguments: str) -> Program:
        """
        @return: one of the two programs.
        """
        command = (sys.executable, "-m", "tests.contract.unreadprogram")
        return Program(self, *command, self.node, self.key(key), *arguments)

    def tell(self, program: Program, word: str) -> None:
        """
        Tell a program what to do.
        """
        program.input.write(f"{word}\n".encode())
        program.input.flush()

    def told(self, program: Program, event: str, number: int) -> list[dict[str, int]]:
        """
        @return: the events of that name, once there are so many of them.
        """
        deadline = time.monotonic() + LIMIT
        while True:
            lines = program.errors.read_text().splitlines()
            found = [each for each in map(json.loads, lines) if each["event"] == event]
            if len(found) >= number:
                return found
            self.assertIsNone(program.process.poll(), lines)
            self.assertLess(time.monotonic(), deadline, (event, lines))
            time.sleep(0.02)

    def written(self, sender: Program) -> int:
        """
        @return: how many bytes were written by now.
        """
        self.asked += 1
        self.tell(sender, "count")
        return self.told(sender, "written", self.asked)[-1]["bytes"]

    def settled(self, sender: Program) -> int:
        """
        @return: how many bytes were written when no more could be.
        """
        before, now = -1, 0
        while before != now:
            time.sleep(QUIET)
            before, now = now, self.written(sender)
        return now

    def ask(self, sender: Program, number: int) -> None:
        """
        Have another stream carry 256 KiB to and fro.
        """
        self.tell(sender, "ask 262144")
        self.told(sender, "answered", number)

    def check(self, streams: int, readAtFirst: int) -> None:
        """
        Offer 1 GB on so many streams, each of which reads so much and then nothing.
        """
        reader = self.role("bob", str(readAtFirst))
        bob = reader.event("ready")["peer"]
        sender = self.role("alice", bob, str(streams), str(OFFERED // streams))
        sender.event("ready")
        self.ask(sender, 1)
        both = (reader.process.pid, sender.process.pid)
        before = [residentKiB(process) for process in both]
        self.tell(sender, "offer")
        written = self.settled(sender)
        self.assertLess(written, OFFERED)
        self.ask(sender, 2)
        after = [residentKiB(process) for process in both]
        grown = [late - early for late, early in zip(after, before, strict=True)]
        self.assertLessEqual(max(grown), GROWTH, (grown, before, written))
        self.tell(reader, "resume")
        while self.written(sender) < min(written + READ, OFFERED):
            time.sleep(0.02)
        self.tell(sender, "end")
        read = self.told(reader, "read", streams)
        self.assertTrue(all(each["right"] for each in read), read)
        self.assertEqual(sum(each["bytes"] for each in read), self.written(sender))
        self.ask(sender, 3)
        for program in (sender, reader):
            program.input.close()
            self.assertEqual(program.process.wait(LIMIT), 0)

    def test_one(self) -> None:
        """
        One stream that never reads.
        """
        self.check(1, 0)

    def test_afterMuch(self) -> None:
        """
        One stream that has read much, and stops.
        """
        self.check(1, 10_000_000)

    def test_many(self) -> None:
        """
        As many streams as there may be, none of which reads.
        """
        self.check(63, 0)

    def test_manyAfterMuch(self) -> None:
        """
        Several streams that have read much, and stop together when their windows are large.
        """
        self.check(6, 2_000_000)

    def test_allAfterMuch(self) -> None:
        """
        As many streams as there may be, which have all read something, and stop together.
        """
        self.check(63, 500_000)
