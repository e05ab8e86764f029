#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The package as its readers meet it: typed, documented, and of Python's own library alone. TAP.

usage: shape.py PACKAGE_FOLDER [CASE...]
"""

import ast
import pathlib
import sys
import unittest

import stage

FOLDER = pathlib.Path(sys.argv.pop(1))
LINE_MAX, LINES_MAX = 120, 500


def public_definitions(tree):
    """Functions and classes that a program may use, with the names of what they are in."""
    waiting = [("", node) for node in tree.body]
    while waiting:
        where, node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{where}{node.name}", node
            if isinstance(node, ast.ClassDef):
                waiting += [(f"{where}{node.name}.", inner) for inner in node.body]


class Shape(unittest.TestCase):
    """Each case looks at every module."""

    def setUp(self):
        self.modules = {path.relative_to(FOLDER): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")}
        self.assertGreater(len(self.modules), 15)
        self.trees = {path: ast.parse(text) for path, text in self.modules.items()}

    def test_everything_public_says_what_it_does(self):
        silent = [str(path) for path, tree in self.trees.items() if not ast.get_docstring(tree)]
        silent += [f"{path}: {name}" for path, tree in self.trees.items() for name, node in public_definitions(tree)
                   if not ast.get_docstring(node)]
        self.assertEqual(silent, [])

    def test_every_function_is_typed(self):
        bare = []
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    continue
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg,
                             node.args.kwarg]
                bare += [f"{path}:{node.lineno}: {argument.arg}" for argument in arguments
                         if argument is not None and argument.annotation is None and argument.arg not in ("self", "cls")]
                if node.returns is None:
                    bare.append(f"{path}:{node.lineno}: what {node.name} returns")
        self.assertEqual(bare, [])
        self.assertTrue((FOLDER / "overlap/py.typed").exists())

    def test_nothing_but_pythons_library_is_imported(self):
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                         [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
                for name in names:
                    root = name.split(".")[0]
                    self.assertIn(root, sys.stdlib_module_names | {"overlap"}, f"{path}:{node.lineno}")
                    self.assertNotEqual(root, "ctypes", f"{path}:{node.lineno}")

    def test_every_import_is_used(self):
        for path, tree in self.trees.items():
            if path.name == "__init__.py":
                continue
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            quoted = " ".join(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
                              and isinstance(node.value, str))
            for node in ast.walk(tree):
                for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
                    name = (alias.asname or alias.name).split(".")[0]
                    self.assertTrue(name in used or name in quoted, f"{path}:{node.lineno}: {name}")

    def test_files_are_short(self):
        for path, text in self.modules.items():
            lines = text.splitlines()
            self.assertLessEqual(len(lines), LINES_MAX, path)
            self.assertEqual([number for number, line in enumerate(lines, 1) if len(line) > LINE_MAX], [], path)
            self.assertTrue(lines[0].startswith("# SPDX-License-Identifier: Apache-2.0"), path)

    def test_the_package_is_installed_whole(self):
        listed = (FOLDER / "meson.build").read_text(encoding="utf-8")
        for path in self.modules:
            self.assertIn(f"'{path}'", listed)


if __name__ == "__main__":
    stage.main()
