"""
The links of the laboratory do what they are told, and nothing is left of it at its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial import unittest

from tests.kernel.lab import namespace
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.switch import Link

# How long anything here may take on busy cores, in seconds.
_PATIENCE = 60.0


class LinkTests(unittest.SynchronousTestCase):
    """
    Loss, duplicates, reordering, and the counts by which a test judges what is direct.
    """

    def setUp(self) -> None:
        """
        A public host with a mirror, and another one that talks to it.
        """
        self.laboratory = Laboratory(seed=3)
        self.addCleanup(self.laboratory.close)
        self.mirror = self.laboratory.mirror()
        self.host = self.laboratory.publicHost("host")

    def _answers(self, link: Link, count: int = 400, ttl: int = 64) -> list[int]:
        """
        @return: the answers to C{count} requests over such a link.
        """
        self.laboratory.switch.setLink(self.host.port, link)
        probe = self.host.probe("link", self.mirror.addresses[0], str(count), str(ttl))
        numbers: list[int] = probe.result(_PATIENCE)
        return numbers

    def test_perfect(self) -> None:
        """
        A link that is told nothing delivers everything once, in order, and the counts say so.
        """
        self.assertEqual(self._answers(Link()), list(range(400)))
        counts, here, there = self.laboratory.counts(), self.host.port, self.mirror.port
        self.assertEqual([counts.packets[here][there], counts.packets[there][here]], [400, 400])
        self.assertEqual(counts.lost[here], 0)
        self.assertGreater(counts.octets[here][there], 400 * 60)

    def test_loss(self) -> None:
        """
        With a loss of one in ten in both directions, about four in five answers come.
        """
        answers = self._answers(Link(loss=0.1))
        self.assertTrue(280 < len(answers) < 370, str(len(answers)))

    def test_duplicates(self) -> None:
        """
        What is always duplicated arrives twice: the answers to two requests are four.
        """
        answers = self._answers(Link(duplicate=1.0), count=50)
        self.assertEqual(sorted(answers), sorted(4 * list(range(50))))

    def test_reordering(self) -> None:
        """
        Packets that are held back arrive after later ones; none is lost.
        """
        answers = self._answers(Link(reorder=0.2, hold=0.02))
        self.assertEqual(sorted(answers), list(range(400)))
        self.assertNotEqual(answers, sorted(answers))

    def test_down(self) -> None:
        """
        A link that is down carries nothing; up again, it does.
        """
        self.assertEqual(self._answers(Link(up=False), count=5), [])
        self.assertEqual(self._answers(Link(), count=5), list(range(5)))

    def test_timeToLive(self) -> None:
        """
        The transit network is one hop: a packet with a time to live of one does not cross it.
        """
        self.assertEqual(self._answers(Link(), count=5, ttl=1), [])
        self.assertEqual(self._answers(Link(), count=5, ttl=2), list(range(5)))
        self.assertEqual(self.laboratory.counts().expired[self.host.port], 5)


def _ends(pid: int) -> bool:
    """
    @return: whether a process ends within the patience of a test; nobody may be there to bury it.
    """
    deadline = time.monotonic() + _PATIENCE
    while namespace.state(pid) not in (None, "Z"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class RemovalTests(unittest.SynchronousTestCase):
    """
    Nothing is left of a laboratory.
    """

    def test_closed(self) -> None:
        """
        After its end, even by an exception, its namespaces, programs and files are gone.
        """
        before = namespace.existing(os.getpid())

        def fail() -> None:
            with Laboratory() as laboratory:
                self.program = laboratory.mirror().probe("mirror", "127.0.0.1")
                self.program.line("ready", timeout=_PATIENCE)
                self.directory = laboratory.directory
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, fail)
        self.assertEqual(namespace.existing(os.getpid()), before)
        self.assertFalse(self.directory.exists())
        self.assertRaises(ProcessLookupError, os.kill, self.program.pid, 0)

    def test_killed(self) -> None:
        """
        When the process that made it is killed, its programs end with it, and the next laboratory
        removes its namespaces and files.
        """
        script = """
import time
from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Laboratory
laboratory = Laboratory()
host = laboratory.site("site", NAT()).host("host")
program = host.probe("mirror", "127.0.0.1")
program.line("ready", timeout=60)
print(program.pid, laboratory.directory, flush=True)
time.sleep(60)
"""
        maker = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert maker.stdout is not None
        pid, directory = maker.stdout.readline().split()
        self.assertEqual(len(namespace.existing(maker.pid)), 3)
        maker.kill()
        maker.wait()
        maker.stdout.close()
        Laboratory().close()
        self.assertEqual(namespace.existing(maker.pid), [])
        self.assertFalse(Path(directory).exists())
        self.assertTrue(_ends(int(pid)))

    def test_tools(self) -> None:
        """
        Where a tool is missing, the message names its package.
        """
        self.patch(namespace, "TOOLS", {"no-such-tool": "no-such-package"})
        error = self.assertRaises(namespace.LaboratoryError, Laboratory)
        self.assertEqual(str(error), "the kernel laboratory needs: apt-get install no-such-package")
