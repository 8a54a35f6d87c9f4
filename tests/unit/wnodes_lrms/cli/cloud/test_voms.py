"""What voms-clients say, in words: recorded from version 2.1.0 of Debian 12."""

import pytest

from wnodes_lrms.cli.cloud.voms import meaning

NOISE = "Cannot open fileFilename=/root/.rnd\nFunction: \n"
DOTS = "." * 700


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            f"{NOISE}{DOTS}\nERROR: Your certificate expired Fri Nov 27 18:52:43 2026\n\n",
            "your certificate expired on Fri Nov 27 18:52:43 2026",
        ),
        (
            "Unable to find user certificate or key: none.pem\n",
            "there is no certificate or key at none.pem",
        ),
        (
            f"{NOISE}Cannot find file or dir: /etc/vomses\nVOMS Server for nosuch not known!\n",
            "no server of VO nosuch is known here: see /etc/vomses",
        ),
        (
            f"Enter GRID pass phrase:\n{NOISE}problems getting password\nFunction: \n"
            "bad password read\nFunction: \nprocessing key\n        File=key.pem\nFunction: \n",
            "the pass phrase is not the key's",
        ),
        (
            f"{NOISE}user key and certificate don't match\nFunction: \n",
            "your key is not your certificate's",
        ),
        (
            f"{NOISE}{DOTS}\nERROR: Cannot write proxy to: /nonexistent/p\n",
            "the proxy can't be written to /nonexistent/p",
        ),
        (
            f"{NOISE}{DOTS}\nError: Error during SSL handshake:\noid exists\nFunction: \n\n\n"
            "None of the contacted servers for testvo were capable\nof returning a valid AC for the"
            " user.\n",
            "no server of VO testvo answers with your attributes",
        ),
        (
            "\nERROR: Couldn't find valid credentials to generate a proxy.\n"
            "Use --debug for further information.\n",
            "certificate and key can't be used: are they there, and is the key yours alone"
            " (chmod 400)?",
        ),
        (f"{NOISE}something new\nFunction: \n{DOTS}\n", "something new"),
        (NOISE, "voms-proxy-init does not say why"),
    ],
)
def test_what_is_said(said: str, meant: str) -> None:
    assert meaning(said) == meant
