"""What system calls do in a folder, a line each: run by twin.py's script, on both sides.

It runs on the few modules that twin.py brings.
"""

import errno
import fcntl
import mmap
import os
import socket
import stat
import sys
from collections.abc import Callable


def told(name: str, act: Callable[[], object]) -> None:
    """Say what an act has given, or the name of its error."""
    try:
        said = act()
    except OSError as error:
        said = errno.errorcode[error.errno or 0]
    print(f"{name}: {'done' if said is None else said}", flush=True)


def new(name: str, data: bytes = b"x") -> str:
    """A file with such data."""
    with open(name, "wb") as file:
        file.write(data)
    return name


def data(name: str) -> bytes:
    """What is in a file."""
    with open(name, "rb") as file:
        return file.read()


def elsewhere(act: Callable[[], object]) -> object:
    """What an act of another process says: an error's name, or nothing."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return errno.errorcode[code] if code else None


def locks(kind: str, lock: Callable[..., None]) -> None:
    """Among processes of this side, and against one of the node's."""
    at_once = fcntl.LOCK_EX | fcntl.LOCK_NB

    def take(name: str, how: int) -> None:
        lock(os.open(name, os.O_RDWR), how)

    with open("locks", "r+b") as file:
        told(f"{kind} at once", lambda: lock(file, at_once))
        told(f"{kind} that is another's", lambda: elsewhere(lambda: take("locks", at_once)))
        told(f"{kind} given back", lambda: lock(file, fcntl.LOCK_UN))
        told(f"{kind} that may wait", lambda: elsewhere(lambda: take("locks", fcntl.LOCK_EX)))
    told(f"{kind} against the node", lambda: take(f"{kind}-of-node", at_once))


def attributes() -> None:
    """Extended attributes, of each name space."""
    name = new("attributes")
    told("attribute set", lambda: os.setxattr(name, "user.checksum", b"1\0\xff"))
    told("attribute read", lambda: os.getxattr(name, "user.checksum"))
    told("attributes", lambda: os.listxattr(name))
    told("attribute that is not there", lambda: os.getxattr(name, "user.none"))
    told("attribute removed", lambda: os.removexattr(name, "user.checksum"))
    told("attribute of root's", lambda: os.setxattr(name, "trusted.x", b"1"))
    told("capability of a file", lambda: os.setxattr(name, "security.capability", b"\0" * 20))


def mapped() -> tuple[bytes, bytes]:
    """A file in memory that two processes share."""
    with open(new("mapped", b"a" * 8192), "r+b") as file:
        memory = mmap.mmap(file.fileno(), 8192)

    def write() -> None:
        memory[5000:5003] = b"xyz"
        memory.flush()

    elsewhere(write)
    return memory[5000:5003], data("mapped")[4999:5004]


def sparse() -> tuple[object, ...]:
    """A file with a hole."""
    file = os.open("sparse", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(file, b"x", 10 << 20)
    os.fsync(file)
    holes = os.lseek(file, 0, os.SEEK_DATA), os.lseek(file, 0, os.SEEK_HOLE)
    return os.stat("sparse").st_size, os.stat("sparse").st_blocks < 2048, holes


def local_socket() -> bytes:
    """A socket with a name in the folder."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
        client.send(b"hello")
        return server.accept()[0].recv(9)


def copied() -> tuple[int, int]:
    """By the kernel alone."""
    source = os.open(new("source", b"a" * 8192), os.O_RDONLY)
    ranges = os.open("ranges", os.O_RDWR | os.O_CREAT, 0o600)
    sent = os.open("sent", os.O_RDWR | os.O_CREAT, 0o600)
    return os.copy_file_range(source, ranges, 8192), os.sendfile(sent, source, 0, 8192)


def unlinked() -> tuple[bytes, int]:
    """A file that has lost its name while it is open."""
    file = os.open("unlinked", os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink("unlinked")
    os.write(file, b"abc")
    os.ftruncate(file, 2)
    return os.pread(file, 9, 0), os.fstat(file).st_nlink


def times() -> tuple[int, ...]:
    """To the nanosecond; before 1970 and after 2038; of a link."""
    name = new("times")
    os.utime(name, ns=(1234567890123456789, 987654321012345678))
    first = os.stat(name).st_atime_ns, os.stat(name).st_mtime_ns
    os.utime(name, (-5, 1 << 33))
    second = int(os.stat(name).st_atime), int(os.stat(name).st_mtime)
    os.symlink(name, "link-of-times")
    os.utime("link-of-times", (5, 6), follow_symlinks=False)
    return (*first, *second, int(os.lstat("link-of-times").st_mtime))


def listed() -> tuple[int, int]:
    """A folder that is emptied while it is listed."""
    os.mkdir("many")
    for number in range(300):
        new(f"many/{number}")
    found = len(os.listdir("many"))
    gone = 0
    with os.scandir("many") as entries:
        for entry in entries:
            os.unlink(entry.path)
            gone += 1
    os.rmdir("many")
    return found, gone


def links() -> int:
    """A file with many names."""
    for number in range(100):
        os.link("times", f"times-{number}")
    many = os.stat("times").st_nlink
    for number in range(100):
        os.unlink(f"times-{number}")
    return many


def cleared() -> tuple[str, ...]:
    """Who writes to a file takes the bits away that would run it as somebody."""
    name = new("cleared")
    os.chmod(name, 0o6755)
    new(name, b"y")
    os.mkdir("of-group")
    os.chmod("of-group", 0o2775)
    return oct(os.stat(name).st_mode), oct(os.stat("of-group").st_mode)


def main(folder: str) -> None:
    """See the head of this file."""
    os.chdir(folder)
    locks("flock", fcntl.flock)
    locks("lockf", fcntl.lockf)
    attributes()
    told("O_TMPFILE", lambda: os.close(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)))
    told("file in memory of two", mapped)
    told("file with a hole", sparse)
    told("space set aside", lambda: os.posix_fallocate(os.open("sparse", os.O_RDWR), 0, 65536))
    told("socket in the folder", local_socket)
    told("copied by the kernel", copied)
    told("file without a name", unlinked)
    told("times", times)
    told("folder emptied while it is listed", listed)
    told("many names", links)
    told("bits cleared", cleared)
    told("a file made twice", lambda: os.open("times", os.O_CREAT | os.O_EXCL))
    os.mkdir("one")
    os.mkdir("empty")
    told("folder over an empty one", lambda: os.rename("one", "empty"))
    told("long name", lambda: os.remove(new("n" * 255)))
    told("name that is too long", lambda: new("n" * 256))
    told("device", lambda: os.mknod("device", stat.S_IFCHR | 0o600, 259))
    told("size of the disk", lambda: (os.statvfs(".").f_bsize, os.statvfs(".").f_blocks))
    told("pseudo-terminal", lambda: bool(os.openpty()))
    told("own name resolves", lambda: bool(socket.gethostbyname(socket.gethostname())))
    told("localhost", lambda: socket.gethostbyname("localhost"))
    told("scheduling", lambda: (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
