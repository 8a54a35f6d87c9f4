"""How many files and connections a daemon may have open."""

import contextlib
import resource

# Enough for all that our limits of connections allow; and programs that we start and that go
# through all numbers of descriptors don't take long over these.
_ENOUGH = 65536


def allow_many() -> int:
    """Raise the limit from the usual 1024, as far as the system lets this process; the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(_ENOUGH, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
