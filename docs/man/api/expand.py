#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the source of a page of section 3 from its frame and from what the header says of its calls.

usage: expand.py HEADER PAGE.scd.in > PAGE.scd

The header is where a call is described, once. A page's frame has what belongs to no single call: what they are for
together, and an example. Lines of the frame that begin with % are replaced:

    %synopsis CALL...   the declarations
    %call CALL          what the header says of it, and of those that share its comment
    %type WORDS         the definition that begins so, or is an enum with this name in it
    %prose WORDS        the comment of no call that begins so

The shape of comments is that of overlap.h: paragraphs; parameters as "name: text"; lists of "term  text", indented; steps
"1. text", indented.
"""

import re
import sys

WIDTH = 88


class Item:
    """A comment and the code below it."""

    def __init__(self, comment, code):
        self.comment, self.code = comment, code
        self.calls = re.findall(r"OVL_API[^(;]*?\b(ovl_\w+)\(", code)
        self.parameters = {name for part in re.findall(r"\(([^;]*)\);", code)
                           for name in re.findall(r"(\w+)(?:\)?\s*(?=,|\)|$))", part)}
        if not code:  # of several calls in common
            described = re.findall(r"^(\w+): +\S", comment, re.MULTILINE)
            self.parameters = set(described) if len(described) > 1 else set()


def read_header(path):
    """The items of a header, in its order."""
    text = open(path, encoding="utf-8").read()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for found in re.finditer(r"^/\*(.*?)\*/\n(.*?)(?=^\n*/\*|\Z)", text, re.MULTILINE | re.DOTALL):
        comment = re.sub(r"^ \* ?", "", found[1].strip("\n"), flags=re.MULTILINE).rstrip(" *\n")
        blocks = [block for block in re.split(r"\n\n+", found[2].strip("\n")) if block]
        # Code that an empty line parts from the comment is not what it is about.
        yield Item(comment.strip(), "" if found[2].startswith("\n") or not blocks else blocks.pop(0))
        for block in blocks:
            yield Item("", block)


# --- Text ---------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"`[^`]*`|\bovl_\w+\(\)|\bstruct ovl_\w+|\b[a-z_]+\(\d\)|-E[A-Z0-9]{2,}\b|\bOVL_[A-Z_]+\b|\$?OVERLAPD_\w+")


def escape(text):
    return re.sub(r"([\\_*`#\[\]])", r"\\\1", text)


def inline(text, here):
    """A line of scdoc. here: the calls of this page, which need no section."""
    text = " ".join(text.split())
    made, at = "", 0
    for found in TOKEN.finditer(text):
        made += escape(text[at:found.start()])
        word, at = found[0], found.end()
        if word[0] == "`" or word.startswith("struct"):
            made += f"_{word.strip('`')}_"
        elif word.endswith("()"):
            made += f"*{word[:-2]}*({'' if word[:-2] in here else '3'})"
        elif word[-1] == ")":
            made += f"*{word[:-3]}*{word[-3:]}"
        else:
            made += f"*{word}*"
    made += escape(text[at:])
    return "\\" + made if made[:1] in "-.|<" else made


def definitions(pairs, here):
    for term, text in pairs:
        yield f"{term}\n\t{inline(text, here)}\n"


def list_of(paragraph):
    """The terms and texts of an indented list; None where the paragraph is none."""
    pairs = []
    for line in paragraph.splitlines():
        found = re.match(r" {2,4}(\S.*?) {2,}(\S.*)$", line)
        if found:
            pairs.append([found[1], found[2]])
        elif pairs and line.startswith("     "):
            pairs[-1][1] += " " + line
        else:
            return None
    return pairs


def steps_of(paragraph):
    """The steps of an indented paragraph, of which each begins with its number."""
    if not re.match(r" +\d+\. ", paragraph):
        return None
    return [step for step in re.split(r"(?:^|\n) +\d+\. ", paragraph) if step.strip()]


def parameters_of(paragraph, names):
    """The parameters that a paragraph describes: "name, name: text", wherever in a line one begins."""
    if not names:
        return None
    word = "(?:" + "|".join(sorted(names, key=len, reverse=True)) + ")"
    parts = re.split(rf"(?:^|(?<=[.\n]))\s*({word}(?:, {word})*):\s", paragraph)
    if len(parts) < 3 or parts[0].strip():
        return None
    return list(zip(parts[1::2], parts[2::2]))


def codes_of(text):
    """What a parameter says of each of its values, where each begins a line: "CODE  text"."""
    parts = re.split(r"(?:^|\n) *((?:OVL_[A-Z_]+(?:, )?)+(?: \(\w+\))?)(?: {2,}|(?=\n|$))", text)
    return (parts[0], list(zip(parts[1::2], parts[2::2]))) if len(parts) > 2 else (text, [])


def paragraph_of(paragraph, names, here):
    steps, terms, described = steps_of(paragraph), list_of(paragraph), parameters_of(paragraph, names)
    if steps:
        yield "".join(f". {inline(step, here)}\n" for step in steps)
    elif terms:
        yield from definitions(((f"*{escape(term)}*", text) for term, text in terms), here)
    elif described:
        for name, text in described:
            text, codes = codes_of(text)
            if not text.strip():
                text = "One of these:"
            yield from definitions([(", ".join(f"_{one}_" for one in name.split(", ")), text)], here)
            yield from definitions(((inline(code, here), text or "Likewise.") for code, text in
                                    ((code, text.strip()) for code, text in codes)), here)
    else:
        yield inline(paragraph, here) + "\n"


def prose(item, here):
    """The paragraphs of a comment."""
    return "\n".join(part for paragraph in re.split(r"\n\s*\n", item.comment)
                     for part in paragraph_of(paragraph, item.parameters, here))


# --- Code ---------------------------------------------------------------------------------------------------------------

def wrapped(declaration):
    """A declaration in lines of a page's width."""
    head, _, rest = declaration.partition("(")
    lines, line = [], head + "("
    for part in re.findall(r"(?:[^,()]|\([^()]*\))+[,)];?", rest):
        if len(line) + len(part) > WIDTH - 8:
            lines.append(line.rstrip())
            line = "    "
        line += part.lstrip() if line.endswith((" ", "(")) else part
    return "\n".join(lines + [line])


def declaration(code, call):
    found = re.search(rf"OVL_API\s+([^;]*?\b{call}\([^;]*;)", code)
    text = " ".join(found[1].split())
    text = re.sub(r"OVL_ROUTINE\((\w+)\)", r"void (*\1)(struct ovl_thread *, struct ovl_overlapped *)", text)
    text = re.sub(r"OVL_APC\((\w+)\)", r"void (*\1)(struct ovl_thread *, uint64_t)", text)
    return wrapped(text)


def literal(text):
    return "```\n" + text.replace("\\", "\\\\") + "\n```\n"


class Page:
    def __init__(self, items, here):
        self.items, self.here = items, here

    def of_call(self, call):
        for item in self.items:
            if call in item.calls:
                return item
        sys.exit(f"expand: overlap.h does not declare {call}()")

    def synopsis(self, words):
        return literal("#include <overlap.h>\n\n" +
                       "\n".join(declaration(self.of_call(call).code, call) for call in words.split()))

    def call(self, name):
        item = self.of_call(name)
        return f"## {', '.join(call + '()' for call in item.calls)}\n\n{prose(item, self.here)}"

    def type(self, words):
        for item in self.items:
            if item.code.startswith(words + " {") or (item.code.startswith("enum {") and
                                                      re.search(rf"^\s+{words} =", item.code, re.MULTILINE)):
                said = prose(item, self.here) + "\n" if item.comment else ""
                code = re.sub(r"^( {8})+", lambda found: " " * (len(found[0]) // 2), item.code, flags=re.MULTILINE)
                return said + literal(code)
        sys.exit(f"expand: overlap.h does not define {words}")

    def prose(self, words):
        for item in self.items:
            if item.comment.startswith(words):
                return prose(item, self.here)
        sys.exit(f"expand: overlap.h has no comment that begins with: {words}")


def main():
    header, frame = sys.argv[1:]
    lines = open(frame, encoding="utf-8").read().splitlines()
    here = {call for line in lines if line.startswith("%synopsis") for call in line.split()[1:]}
    page = Page(list(read_header(header)), here)
    for line in lines:
        if line.startswith("%"):
            what, _, words = line[1:].partition(" ")
            line = getattr(page, what)(words)
        print(line)


main()
