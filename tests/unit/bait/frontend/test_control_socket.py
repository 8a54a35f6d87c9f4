"""server.py over a real socket, by callers that really are other users."""

import contextlib
import json
import os
import pwd
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bait.frontend import operations
from bait.frontend.control_socket import Server, notify
from bait.frontend.limits import ConnectionLimits
from bait.ledger.records import Row
from tests.unit.bait.conftest import Site, an_order, token
from tests.unit.conftest import GUESTS, NOBODY, Bait, Node, eventually, needs_root
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State, machine_id

pytestmark = needs_root
DAEMON = pwd.getpwnam("daemon")
ID = machine_id("box", "7", 0)

CALLER = """
import socket, sys
link = socket.socket(socket.AF_UNIX)
link.settimeout(10)
link.connect(sys.argv[1])
link.sendall(sys.stdin.buffer.read())
sys.stdout.buffer.write(link.makefile("rb").read())
"""


class Door:
    """A bait's socket, and ways to call it."""

    def __init__(self, path: Path, bait: Bait) -> None:
        self.path = path
        self.parts = bait
        self.server = Server(path, bait.reconciler, bait.batch, bait.cloud)
        threading.Thread(target=self.server.serve, daemon=True).start()

    def raw(self, data: bytes) -> list[dict[str, Any]]:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(self.path))
            link.sendall(data)
            lines = []
            with contextlib.suppress(ConnectionResetError):  # not all was read: after the answer
                for line in link.makefile():
                    lines.append(json.loads(line))
            return lines

    def ask(self, **request: object) -> list[dict[str, Any]]:
        return self.raw(json.dumps(request).encode() + b"\n")

    def ask_as(self, user: pwd.struct_passwd, **request: object) -> list[dict[str, Any]]:
        """The same from a process of that user."""
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", CALLER, self.path],
            input=json.dumps(request).encode() + b"\n",
            stdout=subprocess.PIPE,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def bait(node: Node) -> Iterator[Door]:
    # Other users can't come into pytest's own folders.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    bait = Door(folder / "run" / "bait.sock", node.bait())
    yield bait
    bait.server.close()
    shutil.rmtree(folder)


@pytest.fixture
def ready(node: Node, bait: Door) -> None:
    node.guests.answer(f"{GUESTS}.2")
    node.batch.grant("7")
    assert bait.ask(op="prepare", job="7") == [{"ok": True, "end": True}]
    eventually(lambda: [row.state for row in node.ledger.rows("7")] == [State.READY])


def test_a_jobs_life_over_the_socket(node: Node, bait: Door) -> None:
    node.guests.answer(f"{GUESTS}.2")
    node.batch.grant("7", restart=1)
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]
    assert bait.ask(op="prepare", job="7", restart=1) == [{"ok": True, "end": True}]
    *_news, ready, end = bait.ask_as(NOBODY, op="attach", job="7")
    assert (ready["state"], ready["machine"]) == ("ready", machine_id("box", "7", 1))
    assert end == {"ok": True, "end": True}
    (answer,) = bait.ask(op="machines")
    (machine,) = answer["machines"]
    assert (machine["job"], machine["restart"], machine["state"]) == ("7", 1, "ready")
    assert bait.ask(op="release", job="7") == [{"ok": True, "end": True}]
    assert node.left() == []
    (answer,) = bait.ask(op="events", job="7")
    assert [event["what"] for event in answer["events"]][-1] == "gone"


@pytest.mark.parametrize("what", ["socket", "folder", "another"])
def test_a_bait_whose_socket_is_removed_listens_there_again(
    bait: Door, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as early:
        early.connect(str(bait.path))
        if what == "folder":
            shutil.rmtree(bait.path.parent)
        else:
            bait.path.unlink()
        if what == "another":
            bait.path.touch()
        eventually(lambda: [r for r in caplog.messages if "was removed" in r])
        (answer,) = bait.ask_as(NOBODY, op="ping")  # other users come there, too
        assert "only root may ask" in answer["error"]
        early.sendall(b'{"op": "ping"}\n')  # who was there already is answered
        assert json.loads(early.makefile().readline()) == {"ok": True, "end": True}
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]
    assert len([r for r in caplog.messages if "was removed" in r]) == 1


def test_a_bait_that_can_not_listen_again_says_so_once_and_goes_on_trying(
    bait: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bait.frontend.connections._GLANCE", 0.01)
    bait.path.unlink()
    (bait.path / "in-the-way").mkdir(parents=True)
    eventually(lambda: "can't be made again" in caplog.text)
    time.sleep(0.1)  # some more tries
    assert caplog.text.count("can't be made again") == 1
    shutil.rmtree(bait.path)
    eventually(lambda: "is there again" in caplog.text)
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]


def test_an_epilog_hears_of_a_machine_that_had_failed(node: Node, bait: Door) -> None:
    node.batch.grant("7", tag="no_such_image")
    assert bait.ask(op="prepare", job="7") == [{"ok": True, "end": True}]
    eventually(lambda: [row.state for row in node.ledger.rows("7")] == [State.FAILED])
    (answer,) = bait.ask(op="release", job="7")
    assert (answer["ok"], answer["retry"]) == (True, False)
    assert "no_such_image" in answer["failed"]
    assert node.left() == []


@pytest.mark.usefixtures("ready")
def test_only_the_owner_attaches_whatever_they_say(bait: Door) -> None:
    assert bait.ask_as(NOBODY, op="attach", job="7")[-2]["state"] == "ready"
    for stranger in (
        bait.ask_as(DAEMON, op="attach", job="7"),
        bait.ask_as(DAEMON, op="attach", job="7", uid=NOBODY.pw_uid),
        bait.ask(op="attach", job="7"),  # not even root: the key is the owner's
    ):
        (answer,) = stranger
        assert (answer["ok"], answer["error"]) == (False, "job 7 is not yours")
        assert answer["retry"] is False


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "request_",
    [
        {"op": "prepare", "job": "8"},
        {"op": "release", "job": "7"},
        {"op": "destroy", "machine": ID},
        {"op": "machines"},
        {"op": "events", "job": "7"},
        {"op": "ping"},
        {"op": "nothing"},
    ],
    ids=lambda request: str(request["op"]),
)
def test_all_else_is_roots(node: Node, bait: Door, request_: dict[str, object]) -> None:
    (answer,) = bait.ask_as(NOBODY, **request_)
    assert answer["ok"] is False
    assert f"only root may ask for «{request_['op']}»" in answer["error"]
    assert [row.job for row in node.ledger.rows()] == ["7"]
    assert list(node.hypervisor.domains()) == [ID]


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{\n",
        b"[1]\n",
        b'"attach"\n',
        b"null\n",
        b"\xff\xfe\n",
        b"NaN\n",
        b"[" * 4000 + b"\n",
        b'{"op": "ping", "x": "' + b"x" * 200000 + b'"}\n',
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_request_gets_one_sentence(bait: Door, data: bytes) -> None:
    (answer,) = bait.raw(data)
    assert answer == {"ok": False, "error": "a line with a JSON object is needed", "end": True}
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": None},
        {"op": ["ping"]},
        {"op": {"ping": 1}},
        {"op": "prepare"},
        {"op": "prepare", "job": 7},
        {"op": "prepare", "job": ""},
        {"op": "prepare", "job": "x" * 201},
        {"op": "prepare", "job": "7\n8"},
        {"op": "prepare", "job": "7\udcff"},
        {"op": "prepare", "job": "7", "restart": -1},
        {"op": "prepare", "job": "7", "restart": "1"},
        {"op": "release", "job": None},
        {"op": "attach"},
        {"op": "destroy", "machine": "../.."},
        {"op": "destroy", "machine": "no such VM"},
        {"op": "events"},
    ],
    ids=str,
)
def test_a_request_that_is_wrong_is_refused_and_does_nothing(
    node: Node, bait: Door, request_: dict[str, object]
) -> None:
    (answer,) = bait.ask(**request_)
    assert answer["ok"] is False
    assert answer["retry"] is False
    assert node.left() == []


def test_a_caller_has_a_time_for_all_it_wants_and_disturbs_nobody(
    bait: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.frontend.connections.PATIENCE", 0.5)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as slow:
        for link in (silent, slow):
            link.settimeout(5)
            link.connect(str(bait.path))
        assert bait.ask(op="ping") == [{"ok": True, "end": True}]
        with contextlib.suppress(BrokenPipeError):  # a byte now and then is no request
            for _ in range(100):
                slow.sendall(b"[")
                time.sleep(0.05)
        assert silent.recv(100) == b""
        with pytest.raises(BrokenPipeError):
            slow.sendall(b"[")
    eventually(lambda: bait.server.limits.held(0) == 0)


def test_one_who_does_not_take_the_answer_is_let_go(
    bait: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.frontend.connections.PATIENCE", 0.3)
    monkeypatch.setitem(
        operations.OPERATIONS,
        "ping",
        operations.Operation(operations.Who.ROOT, lambda *_: iter([{"all": "x" * 10_000_000}])),
    )  # no buffer holds it
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(bait.path))
        link.sendall(b'{"op": "ping"}\n')
        eventually(lambda: bait.server.limits.held(0) == 1)
        eventually(lambda: bait.server.limits.held(0) == 0)


def test_callers_who_say_nothing_cost_no_thread(bait: Door) -> None:
    before = threading.active_count()
    links = [socket.socket(socket.AF_UNIX) for _ in range(300)]
    for link in links:
        link.connect(str(bait.path))
    eventually(lambda: bait.server.limits.held(0) == 300)
    assert threading.active_count() == before
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]
    for link in links:
        link.close()
    eventually(lambda: bait.server.limits.held(0) == 0)


def test_no_lack_of_descriptors_ends_it(
    bait: Door, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can take nobody then, and takes them once there is room; those who wait give some."""
    monkeypatch.setattr("bait.frontend.connections.PATIENCE", 1)
    links = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for link in links:
        link.settimeout(60)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # of those that are free: some above it may be, too
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 10, limits[1]))
    try:
        for link in links:
            link.connect(str(bait.path))
        eventually(lambda: "can't take callers" in caplog.text)
        links[-1].sendall(b'{"op": "ping"}\n')
        assert links[-1].recv(100) == b'{"ok": true, "end": true}\n'
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [record.message for record in caplog.records].count("can't take callers") < 10
    for link in links:
        link.close()


def test_a_caller_that_goes_away_is_forgotten(bait: Door) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(bait.path))
            link.sendall(b'{"op": "machines"}\n')
    eventually(lambda: bait.server.limits.held(0) == 0)
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]


@pytest.mark.usefixtures("ready")
def test_two_hundred_starters_at_once(bait: Door) -> None:
    """Each a connection of the job's owner: a child that gave up root opens them all."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            with ThreadPoolExecutor(200) as pool:
                told = list(pool.map(lambda _n: bait.ask(op="attach", job="7"), range(200)))
            os.write(writer, str(sum(one[-2]["state"] == "ready" for one in told)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "200"
    os.waitpid(child, 0)


def test_two_hundred_wait_while_others_are_served(node: Node, bait: Door) -> None:
    # Root as the owner, so that the test itself may attach; were it late, its job would be refused.
    node.batch.grant("7", uid=0)
    node.ledger.promise(Row(ID, "7", 0, State.BOOTING, time.time(), uid=0))
    links = []
    for _ in range(200):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(10)
        link.connect(str(bait.path))
        link.sendall(b'{"op": "attach", "job": "7"}\n')
        links.append(link)
    eventually(lambda: bait.server.limits.held(0) >= 200)
    began = time.monotonic()
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]
    assert time.monotonic() - began < 8
    node.ledger.change(ID, "ending", state=State.ENDING)
    node.ledger.forget(node.ledger.rows("7")[0], "gone")
    for link in links:
        answer = json.loads(link.makefile().readline())
        assert answer["state"] == "failed"
        link.close()


def test_one_user_can_not_take_all_connections(bait: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bait.server, "limits", ConnectionLimits(most=100, reserve=10, each=3))
    code = (
        "import socket, sys\n"
        "links = [socket.socket(socket.AF_UNIX) for _ in range(4)]\n"
        "for link in links: link.settimeout(5); link.connect(sys.argv[1])\n"
        "print(sum(b'too many' in link.recv(200) for link in links[3:]), flush=True)\n"
        "sys.stdin.read()\n"
    )
    greedy = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", code, bait.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=NOBODY.pw_uid,
        cwd="/",
    )
    assert greedy.stdout
    assert greedy.stdout.readline() == b"1\n"
    (answer,) = bait.ask_as(DAEMON, op="ping")  # another user is heard
    assert "only root" in answer["error"]
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]
    greedy.communicate(timeout=5)


def test_everybody_may_connect_and_the_place_is_taken_anew(node: Node, bait: Door) -> None:
    assert bait.path.stat().st_mode & 0o777 == 0o666
    again = Server(
        bait.path, bait.parts.reconciler, bait.parts.batch, bait.parts.cloud
    )  # the first one ended without clean-up
    threading.Thread(target=again.serve, daemon=True).start()
    assert bait.ask(op="ping") == [{"ok": True, "end": True}]
    again.close()
    assert node.left() == []


def test_a_place_that_can_not_be_taken_says_where(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parts = node.bait()
    with pytest.raises(WnodesError, match=f"control socket {tmp_path}/file/bait.sock"):
        Server(tmp_path / "file" / "bait.sock", parts.reconciler, parts.batch, parts.cloud)
    with pytest.raises(WnodesError, match="too long"):
        Server(tmp_path / ("x" * 200), parts.reconciler, parts.batch, parts.cloud)


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")  # there is none: nothing to do
    address = f"@wnodes-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


# -- lease jobs -----------------------------------------------------------------------------------


@pytest.fixture
def door(site: Site) -> Iterator[Door]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    door = Door(folder / "bait.sock", site.bait)
    yield door
    door.server.close()
    shutil.rmtree(folder)


def test_a_lease_jobs_life_over_the_socket(site: Site, door: Door) -> None:
    order = an_order()
    site.node.batch.grant("7", tag="")
    lease = {"op": "lease", "job": "7", "lease": str(order.lease)}
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(door.ask_as, NOBODY, **lease)
        eventually(site.cloud.jobs.waiting)
        site.give(order)
        eventually(lambda: [row.state for row in site.node.ledger.rows("7")] == [State.READY])
        for stranger in (
            door.ask_as(DAEMON, **lease),
            door.ask_as(DAEMON, op="lease-ending", job="7"),
            door.ask(**lease),
        ):
            (answer,) = stranger
            assert (answer["ok"], answer["error"]) == (False, "job 7 is not yours")
            assert answer["retry"] is False
        assert [row.state for row in site.node.ledger.rows("7")] == [State.READY]
        ending = {"op": "lease-ending", "job": "7"}
        assert door.ask_as(NOBODY, **ending) == [{"ok": True, "end": True}]
        *news, last = heard.result(timeout=10)
    assert last == {"ended": "the batch system has ended its lease", "code": 0, "end": True}
    assert {line["state"] for line in news} <= {
        *("waiting", "requested", "building", "ready", "stopping")
    }


def test_root_may_announce_the_end_of_a_lease(site: Site, door: Door) -> None:
    site.runs()
    assert door.ask(op="lease-ending", job="7") == [{"ok": True, "end": True}]
    site.reaches(State.STOPPED)


def test_a_listing_has_nothing_of_a_users_data(site: Site, door: Door) -> None:
    site.runs(an_order(user_data="c2VjcmV0"))
    (answer,) = door.ask(op="machines")
    (machine,) = answer["machines"]
    assert json.loads(machine["spec"])["dn"]
    assert "c2VjcmV0" not in json.dumps(answer)


@pytest.mark.parametrize("by", [1e18, -1e18, float("nan"), float("inf"), "tomorrow"])
def test_a_node_is_not_drained_by_a_time_that_has_no_date(bait: Door, by: object) -> None:
    (answer,) = bait.ask(op="drain", by=by, reason="new kernel")
    assert "by: seconds since the epoch are needed" in answer["error"]
    (answer,) = bait.ask(op="host")
    assert answer["host"]["state"] == "up"


def test_a_system_user_is_no_lease(site: Site, door: Door) -> None:
    site.node.batch.grant("7", tag="", uid=DAEMON.pw_uid, gid=DAEMON.pw_gid)
    (answer,) = door.ask_as(DAEMON, op="lease", job="7", lease=str(an_order().lease))
    assert "no lease may run as daemon" in answer["error"]
    assert answer["retry"] is False
    assert site.node.ledger.rows() == []


def test_a_lease_job_that_the_batch_system_does_not_tell_of_may_ask_again(
    site: Site, door: Door
) -> None:
    site.node.batch.jobs = None
    (answer,) = door.ask_as(NOBODY, op="lease", job="7", lease=str(an_order().lease))
    assert (answer["ok"], answer["retry"]) == (False, True)


def test_a_lease_program_of_before_0_5_goes_on_beside_its_machine(site: Site, door: Door) -> None:
    """It says which lease it is by the order that it had, however large that is."""
    order = an_order(user_data="A" * 49152, ssh_keys=("k" * 1024,) * 16)
    site.runs(order)
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(
            door.ask_as, NOBODY, op="lease", job="7", token=token(order, age=1000, life=10)
        )
        eventually(lambda: "7" in site.cloud.tasks.heard.within(60))
        site.cloud.stop(str(order.machine), "poweroff")
        assert heard.result(timeout=10)[-1]["ended"] == "its user has stopped it"


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "lease", "job": "7"},
        {"op": "lease", "job": "7", "lease": 7},
        {"op": "lease", "job": "7", "lease": "all"},
        {"op": "lease", "job": "7", "token": 7},
        {"op": "lease", "job": "7", "token": "no token"},
        {"op": "lease", "job": "7", "token": "\ud800"},
        {"op": "lease", "job": "", "token": "x"},
        {"op": "lease", "token": "x"},
        {"op": "lease-ending"},
        {"op": "lease-ending", "job": 7},
    ],
    ids=str,
)
def test_a_lease_job_that_asks_wrongly_is_told(
    site: Site, door: Door, request_: dict[str, object]
) -> None:
    (answer,) = door.ask(**request_)
    assert answer["ok"] is False
    assert answer["retry"] is False
    assert "internal fault" not in answer["error"]
    assert site.node.ledger.rows() == []
