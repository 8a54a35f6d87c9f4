"""The page in a real browser: logging in both ways, and a VM's whole life."""

import os
from pathlib import Path

from tests.e2e.box import machines, wait_until
from tests.e2e.browser import Browser, browser
from tests.e2e.lrms.slurm import leases
from tests.e2e.occi import URL, Cloud, Key

PAGE = os.environ["WNODES_PAGE"]


FIRST_BOOT = """#!/bin/sh
echo hello, world >/dev/console
setsid sh -i <>/dev/ttyS0 >&0 2>&1 &
"""


def logged_in(window: Browser) -> None:
    """As grace, at the issuer in the box."""
    window.open(PAGE)
    window.check()
    window.press("Log in with the issuer in the box")
    window.press("grace")
    window.sees("You have no VM")
    window.check()


def type_into_console(window: Browser) -> None:
    """On the page of the console: the VM's name, which is seen in the boot log as well.

    What a guest can ask of a terminal beside that: a colour, a title, the clipboard, a link.
    """
    window.press("Type into the console")
    window.sees("The console is open")
    window.type("\n echo name: $(hostname)\n")
    window.sees_in("terminal", "name: web")
    window.type("printf '\\033[38;2;255;0;0mr\\145d\\033[0m \\033]0;a\\007\\033]52;c;YQ==\\007'\n")
    window.type("printf '\\033]8;;http://a.example\\007l\\151nk\\033]8;;\\007\\n'\n")
    window.sees_in("terminal", "red ")
    window.sees_in("terminal", "link")
    window.sees_in("written", "name: web")
    assert window.driver.title.startswith("Console")
    window.check()


def use_a_volume(window: Browser) -> None:
    """Make one, have it in the VM, take it out, delete it; back on the VM's page."""
    window.press("Volumes")
    window.fill("Name", "data")
    window.fill("Size in GiB", "1")
    window.press("Make the volume")
    window.sees("online")
    window.check()
    window.press("My VMs")
    window.press("web")
    window.press("Attach a network or volume")
    window.select("Which", "Volume data")
    window.press("Attach")
    window.sees("Volume data, in the VM /dev/vd")
    window.check()
    window.press("Detach data")
    window.press("Volumes")
    window.press("Delete data")  # once it is out of the VM
    window.press("Delete data for good")
    window.sees("You have none")
    window.press("My VMs")
    window.press("web")


def open_a_question_late(window: Browser) -> None:
    """While the part of the page that it is in is on its way: it stays open."""
    window.sees("What you can do")
    window.driver.execute_script(
        """
        const once = { once: true }, hear = document.addEventListener.bind(document);
        const whole = ({ detail }) => { delete detail.headers["If-None-Match"]; };
        hear("htmx:configRequest", whole, once);
        hear("htmx:beforeOnLoad", () => document.getElementById("ask-delete").click(), once);
        hear("htmx:afterRequest", () => { document.body.append("It has come."); }, once);
        """
    )
    window.sees("It has come.")
    assert "Delete web for good" in window.text
    window.press("Delete")
    window.driver.refresh()


def suspend_elsewhere(window: Browser) -> None:
    """As in another tab: whoever can't see this one is told."""
    window.driver.execute_script(
        "const form = document.querySelector(\"form[action$='/suspend']\");"
        "fetch(form.action, {method: 'POST', body: new URLSearchParams(new FormData(form))});"
    )
    window.hears("web: suspended")
    window.check()


def test_a_vm_from_create_to_delete(key: Key, tmp_path: Path) -> None:
    with browser(tmp_path) as window:
        logged_in(window)
        window.press("New VM")
        window.fill("Name", "web")
        window.choose("small_debian_x86_64")
        window.choose("One core, 256 MiB")
        window.fill("Paste a public key", key.public)
        window.press("Networks, volumes, data for the first boot")
        window.fill("Data for the first boot", FIRST_BOOT)
        window.check()
        window.press("Show it as a command")
        window.sees("wnodes cloud")
        window.check()
        window.press("Make the VM")
        window.sees("ssh root@")
        window.sees("running")
        window.check()
        window.press("What it wrote on its console")
        window.sees("hello, world")
        window.check()
        type_into_console(window)
        window.press("Back to the VM")
        open_a_question_late(window)
        use_a_volume(window)
        window.press("Stop")
        window.press("Stop web")
        window.sees("stopped")
        wait_until(lambda: not leases(), 60, "its lease is freed")
        window.press("Start")
        window.press("Start web")
        window.sees("Its lease ends")
        window.sees("running")
        suspend_elsewhere(window)
        for page, said in (
            ("Volumes", "You have none"),
            ("Networks", "the site's"),
            ("Images", "Make a VM of small_debian_x86_64"),
            ("Usage", "Core hours that your VMs have had"),
        ):
            window.press(page)
            window.sees(said)
            window.check()
        window.press("My VMs")
        window.sees("1 of ")
        window.check()
        window.press("web")
        window.press("Delete")
        window.press("Delete web for good")
        window.sees("You have no VM")
        window.press("Log out")
        window.sees("VMs of your own")
        window.listen()
        assert not window.complaints
    wait_until(lambda: not machines(), 60, "the VM is gone")


def test_by_certificate(tmp_path: Path, alice: Cloud) -> None:
    assert alice.locations("/compute/") == []
    with browser(tmp_path, URL, "alice") as window:
        window.open(PAGE)
        window.press("Log in with a certificate")
        window.sees("/C=IT/O=Box/OU=People/CN=Alice")
        window.sees("You have no VM")
        window.listen()
        assert not window.complaints
