"""
The shape of the house: imports point down, modules stay small, and everything says what it is.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

# What each room may import of this package, itself included.
ROOMS = {
    "core": {"core"},
    "errors": {"core", "errors"},
    "interfaces": {"core", "errors", "interfaces"},
    "net": {"core", "errors", "interfaces", "net"},
    "testing": {"core", "errors", "interfaces", "net", "testing"},
    "peer": {"core", "errors", "interfaces", "net", "peer"},
    "rendezvous": {"core", "errors", "interfaces", "net", "rendezvous"},
    # The entrance: what strings mean, for endpoints and the command line.
    "compose": {"core", "errors", "interfaces", "net", "peer", "rendezvous"},
    "cli": {"core", "errors", "interfaces", "net", "peer", "rendezvous", "compose", "cli"},
}

# What would let the world into C{core}: sockets, clocks, processes, threads, global randomness.
WORLDLY = {
    "asyncio",
    "concurrent",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}

LONGEST_MODULE = 500  # lines: one idea, read in one sitting

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def modules(folder: str) -> Iterator[tuple[str, Path, ast.Module]]:
    """
    Parse every module under C{folder}.

    @return: dotted name, file, and tree of each.
    """
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield dotted, path, ast.parse(path.read_bytes(), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """
    @return: the dotted name of everything that is imported anywhere in C{tree}; for C{from a
        import b} that is C{a.b}, and a leading dot for a relative import.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def withoutTypeOnly(tree: ast.Module) -> ast.Module:
    """
    @return: C{tree} without what only a type checker sees.
    """
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.Module(body, [])


def globalRandom(tree: ast.AST) -> Iterator[str]:
    """
    @return: every use of C{random} but the class C{random.Random}.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from (alias.name for alias in node.names if alias.name != "Random")
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random":
            yield from {node.attr} - {"Random"}


def definitions(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Definition]]:
    """
    @return: the public classes, functions and methods of C{scope}, by dotted name.
    """
    for node in scope.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            name = f"{prefix}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, name)


def isDocumentedElsewhere(node: Definition) -> bool:
    """
    @return: whether C{node} is one of several signatures, or the setter of a property.
    """
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return "overload" in decorators or f"{node.name}.setter" in decorators


def undocumented(folder: str) -> list[str]:
    """
    @return: the modules and public definitions under C{folder} without a docstring.
    """
    silent = []
    for module, _, tree in modules(folder):
        if ast.get_docstring(tree) is None:
            silent.append(module)
        for name, node in definitions(tree, module):
            if ast.get_docstring(node) is None and not isDocumentedElsewhere(node):
                silent.append(name)
    return silent


class ImportTests(SynchronousTestCase):
    """
    Imports between rooms point down only.
    """

    def test_roomsPointDown(self) -> None:
        """
        A module imports of this package what its room may, and no room is unknown.
        """
        wrong = []
        for module, _, tree in modules("p2ptwist"):
            room = module.partition(".")[2].partition(".")[0]
            if not room:
                continue  # the package itself re-exports
            self.assertIn(room, ROOMS, f"{module} is in no room")
            # The signatures of interfaces may speak of what is above.
            for name in imports(withoutTypeOnly(tree) if room == "interfaces" else tree):
                package, _, rest = name.partition(".")
                allowed = ROOMS[room] | {"__version__"}
                if package == "p2ptwist" and rest.partition(".")[0] not in allowed:
                    wrong.append(f"{module} imports {name}")
        self.assertEqual(wrong, [])

    def test_coreIsPure(self) -> None:
        """
        The core imports the standard library, without its clocks and sockets, and itself.
        """
        wrong = []
        for module, _, tree in modules("p2ptwist/core"):
            for name in imports(tree):
                top = name.partition(".")[0]
                if top != "p2ptwist" and (top not in sys.stdlib_module_names or top in WORLDLY):
                    wrong.append(f"{module} imports {name}")
            wrong += [f"{module} uses random.{name}" for name in globalRandom(tree)]
        self.assertEqual(wrong, [])

    def test_absolute(self) -> None:
        """
        Imports are absolute, so that each says which room it reaches into.
        """
        wrong = [
            f"{module} imports {name}"
            for folder in ("p2ptwist", "tests", "examples", "benchmarks", "scripts")
            for module, _, tree in modules(folder)
            for name in imports(tree)
            if name.startswith(".")
        ]
        self.assertEqual(wrong, [])

    def test_pluginsAreNoPackage(self) -> None:
        """
        The dropins lie in a folder that is no package: it would hide Twisted's own.
        """
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])


class SizeTests(SynchronousTestCase):
    """
    A module holds one idea.
    """

    def test_moduleLength(self) -> None:
        """
        No module of the package is longer than can be read in one sitting.
        """
        long = [
            f"{module}: {lines} lines"
            for module, path, _ in modules("p2ptwist")
            if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST_MODULE
        ]
        self.assertEqual(long, [])


class DocumentationTests(SynchronousTestCase):
    """
    Everything that a reader may call, or run, says what it is.
    """

    def test_package(self) -> None:
        """
        Every module, and every public class, function and method, has a docstring.
        """
        self.assertEqual(undocumented("p2ptwist"), [])

    def test_tests(self) -> None:
        """
        Every test says what it shows.
        """
        self.assertEqual(undocumented("tests"), [])

    def test_programs(self) -> None:
        """
        Examples, benchmarks and scripts explain themselves.
        """
        for folder in ("examples", "benchmarks", "scripts"):
            self.assertEqual(undocumented(folder), [])
