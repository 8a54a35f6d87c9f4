"""A plain OCCI server, pyssf, for comparison: run by an interpreter that has it and waitress.

usage: pyssf_server.py PORT

It is as its own example has it: computes that do nothing, in memory, for everybody, without TLS.
"""

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

sys.modules.setdefault("StringIO", io)  # it still looks for Python 2's module

import waitress  # type: ignore[import-untyped]  # noqa: E402
from occi.backend import KindBackend  # type: ignore[import-not-found]  # noqa: E402
from occi.extensions.infrastructure import COMPUTE  # type: ignore[import-not-found]  # noqa: E402
from occi.wsgi import Application  # type: ignore[import-not-found]  # noqa: E402


class Plain(Application):  # type: ignore[misc]
    """Its application, which takes and gives text where Python 3's servers have bytes."""

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterator[bytes]:
        """Answer one request."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.StringIO(environ["wsgi.input"].read(length).decode())
        return (part.encode() for part in self._call_occi(environ, start_response))


def main() -> None:
    """Serve until killed."""
    application = Plain()
    application.register_backend(COMPUTE, KindBackend())
    waitress.serve(application, listen=f"127.0.0.1:{int(sys.argv[1])}", threads=4, _quiet=True)


main()
