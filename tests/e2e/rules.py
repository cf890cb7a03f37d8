#!/usr/bin/env python3
"""docs/conformance.md says which test shows which of the field rules, or why there is none: no row without either, no test that does not exist,
and none that is never built.

Tests whose names begin with a rule's number (`c113_...`, `s09_s45_...`) belong to it by themselves; `rules.py --write` puts new ones into the page
and counts. The last line is `N passed, N failed`.
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/conformance.md"
FOLDERS = ("plugins", "sdk", "host", "plugin-api", "tests")
KINDS = "CSRMHTFGX"
BEGIN, END = "<!-- counts: tests/e2e/rules.py --write -->\n", "<!-- /counts -->\n"


def tests():
    """Names of all tests of the project, of the functions of tests, and of the cases of a page's script."""
    found = set()
    for folder in FOLDERS:
        for path in [*(ROOT / folder).rglob("*.rs"), *(ROOT / folder).rglob("*.py")]:
            if "node_modules" not in path.parts:
                found |= set(re.findall(r"^\s*(?:async )?(?:fn|def) (\w+)", path.read_text(), re.MULTILINE))
    for path in (ROOT / "tests/e2e").glob("*.mjs"):
        found |= set(re.findall(r"^\s*(?:async function|const) (\w+_\w+)", path.read_text(), re.MULTILINE))
    return found


def rules_of(name):
    """The numbers that a test's name begins with."""
    found = []
    for word in name.split("_"):
        match = re.fullmatch(r"([a-z])0*(\d+)", word)
        if not match or match[1].upper() not in KINDS + "K":
            break
        found.append(match[1].upper() + match[2])
    return found


def never_built():
    """Tests in libraries that say they have none (`test = false` spares building these twice)."""
    found = []
    for manifest in (path for folder in FOLDERS for path in (ROOT / folder).rglob("Cargo.toml") if "target" not in path.parts):
        library = manifest.read_text().partition("[lib]\n")[2].partition("\n[")[0]
        if re.search(r"^test *= *false", library, re.MULTILINE):
            found += [path for path in (manifest.parent / "src").rglob("*.rs") if re.search(r"cfg\(test\)|#\[(tokio::)?test\b|proptest!", path.read_text())]
    return found


class Page:
    def __init__(self, text):
        self.lines = text.splitlines(keepends=True)
        self.rows = {}
        for at, line in enumerate(self.lines):
            if (match := re.fullmatch(r"\| ([A-Z]\d+) \| (.*) \| (.*) \|\n", line)):
                self.rows[match[1]] = (at, match[2], re.findall(r"`(\w+)`", match[3]), match[3])

    def named(self, names):
        """Puts the tests of a rule's own name in front."""
        own = collections.defaultdict(list)
        for name in sorted(names):
            for rule in rules_of(name):
                own[rule].append(name)
        for rule, (at, words, listed, text) in self.rows.items():
            if own[rule]:
                every = own[rule] + [name for name in listed if not rules_of(name) or name not in names or name in own[rule]]
                self.lines[at] = f"| {rule} | {words} | {', '.join(f'`{name}`' for name in dict.fromkeys(every))} |\n"

    def counted(self):
        """The table of counts."""
        families = collections.defaultdict(lambda: [0, 0])
        for rule, (_, _, listed, _) in self.rows.items():
            families[rule[0]][0 if listed else 1] += 1
        lines = ["| rules | shown by tests | not, with a reason |\n", "|---|---|---|\n"]
        lines += [f"| {kind} | {shown} of {shown + other} | {other} |\n" for kind, (shown, other) in families.items()]
        shown, other = (sum(counts[index] for counts in families.values()) for index in (0, 1))
        return "".join([*lines, f"| all | {shown} of {shown + other} | {other} |\n"])


def main():
    text, names, failures = PAGE.read_text(), tests(), []
    page = Page(text)
    if "--write" in sys.argv:
        page.named(names)
        page = Page("".join(page.lines))
        before, _, rest = "".join(page.lines).partition(BEGIN)
        text = before + BEGIN + page.counted() + END + rest.partition(END)[2]
        PAGE.write_text(text)
        page = Page(text)
    for rule, (_, _, listed, words) in page.rows.items():
        failures += [f"{rule}: there is no test {name}" for name in listed if name not in names]
        if not listed and len(words) < 10:
            failures.append(f"{rule}: neither a test nor a reason")
    if page.counted() != text.partition(BEGIN)[2].partition(END)[0]:
        failures.append("the counts are others: run rules.py --write")
    failures += [f"{name}: there is no rule {rule}" for name in sorted(names) for rule in rules_of(name)
                 if rule[0] != "K" and rule not in page.rows and len(name.split("_")) > 2 and int(rule[1:]) < 120 and rule != "S16"]
    failures += [f"{path.relative_to(ROOT)}: `test = false` in its Cargo.toml, and a test" for path in never_built()]
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{len(page.rows)} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
