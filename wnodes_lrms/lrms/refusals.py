"""Why a batch system refuses a lease, in words for cloud users, who know no batch system. Pure."""

import re

# What batch systems and their DRMAA libraries say, and what it means. The first that fits is taken.
_CAUSES = (
    (
        r"invalid (account|qos)|account\S* .*(denied|not )",
        "the account given to you can't be charged",
    ),
    (
        r"not available|satisf|suitable queue|processors per node|could never run|not enough",
        "no node of it can hold a VM of this size",
    ),
    (r"limit|exceed|violat|maximum|too (long|many)", "one of its limits stands against it"),
    (r"permitted|allowed|denied|unauthorized|disabled", "it is not allowed there"),
)


def told(said: str) -> str:
    """The sentence for what a batch system has said, in one line."""
    cause = next((words for text, words in _CAUSES if re.search(text, said, re.I)), None)
    return "the batch system refuses the lease" + (f": {cause}" if cause else "")
