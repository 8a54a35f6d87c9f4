"""Job ids. A text becomes one by the grammar of its batch system, and in no other way.

Each adapter has its grammar (`job_id`). Whoever hears of a job from a caller, from a library or
from a file of an earlier release asks it first: nothing that could be an option, a pattern, another
server or a path gets into a command, or into a file's name, as a job.
"""

import re
from collections.abc import Callable, Sequence
from typing import NewType

from wnodes_lrms.errors import RejectedError, UnknownError

JobId = NewType("JobId", str)

_SHOWN = 40  # characters of a text that is none


def grammar(pattern: str) -> Callable[[str], JobId]:
    """What makes the job ids of one batch system: of a whole text that fits the pattern, in ASCII.

    It raises RejectedError for any other text.
    """
    form = re.compile(pattern, re.ASCII)

    def job_id(text: str) -> JobId:
        if not form.fullmatch(text):
            raise RejectedError(f"{text[:_SHOWN]!a} is no job id of this batch system")
        return JobId(text)

    return job_id


def listed(job_id: Callable[[str], JobId], command: str, said: str) -> Sequence[JobId]:
    """The jobs that a command lists, in words. Raises UnknownError if one is no job: then it has
    said something else."""
    try:
        return [job_id(word) for word in said.split()]
    except RejectedError as error:
        raise UnknownError(f"{command} lists what is no job: {error}") from error
