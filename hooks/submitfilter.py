"""wnodes-lrms: refuses at `qsub`, with the reason, what could never run in a machine.

    submitfilter.py TAGS [ARGUMENTS OF QSUB…] <SCRIPT >SCRIPT

Torque's SUBMITFILTER: qsub runs it as the user, and submits what it prints. TAGS is a file with a
tag a line. The script passes unchanged. Nothing is safe by this, for a user can go without: what is
really refused is refused by the bait. Standard library only.
"""

from __future__ import annotations

import getopt
import os
import re
import sys

REFUSED = 255  # qsub: "Your job has been administratively rejected"
# qsub(1B): its options, with those that take a value.
OPTIONS = "a:A:b:c:C:d:D:e:EfF:hIj:J:k:K:l:L:m:M:nN:o:p:P:q:r:S:t:T:u:v:Vw:W:xXz"
_WISH = re.compile(r"(?:^|,)other=vm:([^,]*)")
_MEANT = re.compile(r"(?:^|,)(other=\W*vm\b[^,]*)", re.IGNORECASE)  # …=VM:tag, …=vm=tag
_IMAGE = re.compile(r"(?:^|,)WNODES_IMAGE(?:=([^,]*))?(?=,|$)")
_VM = re.compile(r"(?:^|,)vm=([^,]*)")
_NODES = re.compile(r"(?:^|,)nodes=([^,]*)")


def directives(script: str) -> list[str]:
    """The words of the script's #PBS lines; as for qsub, they end before the first command."""
    words = []
    for line in script.splitlines():
        if line.startswith("#PBS "):
            words += line[5:].split()
        elif line.strip() and not line.startswith("#"):
            break
    return words


def options(words: list[str]) -> list[tuple[str, str]]:
    """Options with their values; none where qsub itself is going to complain."""
    try:
        return getopt.gnu_getopt(words, OPTIONS)[0]
    except getopt.GetoptError:
        return []


def refusal(given: list[tuple[str, str]], tags: set[str], environment: str = "") -> str | None:
    """Why such a job can't run in a machine; None if it can, or asks for none.

    `environment` is WNODES_IMAGE where qsub runs: `-v WNODES_IMAGE` and `-V` mean that.
    """
    resources = [value for option, value in given if option == "-l"]
    for value in resources:
        if (found := _MEANT.search(value)) and not _WISH.search(value):
            return f"«{found[1]}» asks for no image: write -l other=vm:TAG, in lower case"
        if found := _VM.search(value):
            return f"Torque knows no resource «vm»: give -l other=vm:{found[1]}"
    asked = [found[1] for value in resources if (found := _WISH.search(value))]
    for option, value in given:
        if option == "-v" and (found := _IMAGE.search(value)):
            asked.append(environment if found[1] is None else found[1])
        elif option == "-V" and environment:
            asked.append(environment)
    if not asked:
        return None
    tag = asked[0]
    if tag not in tags:
        return f"there is no image «{tag}»: these are known: {', '.join(sorted(tags)) or 'none'}"
    if any(option == "-I" for option, _value in given):
        return "an interactive job gets no VM; submit a script"
    for value in resources:
        nodes = found[1] if (found := _NODES.search(value)) else ""
        count = nodes.partition(":")[0]
        if "+" in nodes or (count.isdecimal() and int(count) != 1):
            return f"nodes={nodes}: a VM has exactly one node"
    return None


def main(path: str, *words: str) -> int:
    """See the head of this file."""
    script = sys.stdin.buffer.read()
    with open(path, encoding="utf-8") as file:
        tags = {line.strip() for line in file if not line.startswith("#")} - {""}
    given = options(list(words)) + options(directives(script.decode("utf-8", "replace")))
    if reason := refusal(given, tags, os.environ.get("WNODES_IMAGE", "")):
        print(f"wnodes: {reason}", file=sys.stderr)
        return REFUSED
    sys.stdout.buffer.write(script)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
