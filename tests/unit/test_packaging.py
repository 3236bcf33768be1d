"""
What is built is what is needed: the wheel, and the C{twistd} command that it brings.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

import p2ptwist

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^ +natrendezvous +Run a rendezvous node", re.MULTILINE)


TWISTD_HELP = """
import sys
from twisted.scripts.twistd import run
sys.argv[:] = ["twistd", "--help"]
run()
"""


def run(*command: str | Path, cwd: Path = Path("/")) -> str:
    """
    Run a program that must succeed, by default far from this checkout.

    @return: what it printed.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


class VersionTests(SynchronousTestCase):
    """
    The version is said in two places, and is the same.
    """

    def test_version(self) -> None:
        """
        The package and its metadata agree.
        """
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        self.assertEqual(project["version"], p2ptwist.__version__)


class EditableTests(SynchronousTestCase):
    """
    The environment that the tests run in has this checkout installed in place.
    """

    def test_twistdCommand(self) -> None:
        """
        C{twistd --help} lists C{natrendezvous}, from any directory.
        """
        listing = run(sys.executable, "-c", TWISTD_HELP)
        self.assertRegex(listing, COMMAND)


class WheelTests(SynchronousTestCase):
    """
    The wheel is complete on its own.
    """

    def setUp(self) -> None:
        """
        Build the wheel.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        build = ("-m", "hatchling", "build", "--target", "wheel", "--directory", self.folder)
        run(sys.executable, *build, cwd=ROOT)
        (self.wheel,) = self.folder.glob("*.whl")

    def test_content(self) -> None:
        """
        It holds every module, the mark that they are typed, the dropin and the license; and
        nothing at all that would hide somebody else's package.
        """
        with ZipFile(self.wheel) as archive:
            names = set(archive.namelist())
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "p2ptwist").rglob("*.py")}
        self.assertEqual(modules - names, set())
        self.assertIn("p2ptwist/py.typed", names)
        self.assertTrue(any(name.endswith("licenses/LICENSE") for name in names))
        self.assertEqual(
            {name for name in names if name.startswith("twisted/")},
            {str(path.relative_to(ROOT)) for path in (ROOT / "twisted").rglob("*.py")},
        )
        tops = {name.partition("/")[0] for name in names}
        self.assertEqual(tops, {"p2ptwist", "twisted", f"{self.wheel.name[:14]}.dist-info"})

    def test_twistdCommand(self) -> None:
        """
        Unpacked beside its dependencies, without this checkout, it brings the command.
        """
        home = self.folder / "venv"
        venv.create(home, with_pip=False, symlinks=True)
        interpreter = home / "bin" / "python"
        where = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        packages = Path(where.strip())
        with ZipFile(self.wheel) as archive:
            archive.extractall(packages)
        # A plain directory on the path: links in it, such as that to this checkout, do not count.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
        origin = run(interpreter, "-c", "import p2ptwist; print(p2ptwist.__file__)")
        self.assertEqual(Path(origin.strip()), packages / "p2ptwist" / "__init__.py")
        self.assertRegex(run(interpreter, "-c", TWISTD_HELP), COMMAND)
