"""Finds what Windows or macOS lacks and a module uses without asking for it.

python tests/packaging/portable.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOMS = (
    "benchmarks",
    "cli",
    "configs",
    "examples",
    "export",
    "plugins",
    "runtime",
    "serving",
    "training",
)
#: what runs on Linux alone, and why
LINUX_ALONE = {
    "benchmarks/gpu/": "measures NVIDIA's cards, on machines with Linux",
    "benchmarks/speed/endurance.py": "reads the memory that Linux tells, for tests and records",
}
#: modules of the standard library that Windows lacks
MODULES = {
    "crypt", "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "spwd",
    "syslog", "termios", "tty",
}  # fmt: skip
#: names that Windows lacks, macOS too, or a Python that is supported lacks there
NAMES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "O_TMPFILE", "WNOHANG",
        "chown", "chroot", "confstr", "copy_file_range", "ctermid", "fchdir", "fchmod", "fchown",
        "fdatasync", "fork", "forkpty", "fstatvfs", "get_blocking", "getegid", "geteuid", "getgid",
        "getloadavg", "getpgid", "getpgrp", "getsid", "getuid", "killpg", "lchown", "lockf",
        "memfd_create", "mkfifo", "mknod", "nice", "openpty", "pipe2", "posix_fadvise",
        "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite", "pwritev",
        "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile",
        "set_blocking", "setgid", "setpgid", "setsid", "setuid", "splice", "statvfs", "sync",
        "sysconf", "ttyname", "uname", "wait", "wait3", "wait4", "waitid",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP",
        "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pause", "pthread_kill",
        "pthread_sigmask", "setitimer", "siginterrupt", "sigpending", "sigtimedwait", "sigwait",
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT", "socketpair_fds", "sethostname", "send_fds"},
    "time": {"clock_gettime", "clock_settime", "pthread_getcpuclockid", "tzset"},
}  # fmt: skip
#: arguments that Windows refuses
ARGUMENTS = {"dir_fd", "pass_fds", "preexec_fn", "start_new_session", "umask"}
#: what asks for the system, or for what stands for it
QUESTIONS = ("os.name", "sys.platform", "WINDOWS", "fcntl is None")
Parents = dict[ast.AST, ast.AST]


def unguarded(root: Path) -> list[str]:
    """FILE:LINE and the name, of every use that is neither asked for nor of Linux alone."""
    found = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if not name.startswith(tuple(LINUX_ALONE)):
                found += [f"{name}:{use}" for use in _uses(path.read_text("utf-8"))]
    return found


def _uses(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        for name in _lacking(node):
            if not _guarded(node, name, parents):
                yield f"{getattr(node, 'lineno', 0)}: {name}"


def _lacking(node: ast.AST) -> Iterator[str]:
    """What of the node's own some system lacks; texts without an encoding mean another there."""
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        if str(node.module).split(".")[0] in MODULES:
            yield str(node.module)
        names = NAMES.get(str(node.module), set())
        yield from (f"{node.module}.{a.name}" for a in node.names if a.name in names)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.attr in NAMES.get(node.value.id, set()):
            yield f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.Call):
        yield from (f"{k.arg}=" for k in node.keywords if k.arg in ARGUMENTS)
        yield from _without_encoding(node)
    elif isinstance(node, ast.Constant) and str(node.value).startswith(("/proc/", "/sys/")):
        yield str(node.value)


def _without_encoding(call: ast.Call) -> Iterator[str]:
    """Windows has an encoding of the country's where none is named."""
    if not isinstance(call.func, ast.Attribute) or any(k.arg == "encoding" for k in call.keywords):
        return
    positional = {"read_text": 1, "write_text": 2}.get(call.func.attr)
    if positional is not None and len(call.args) < positional:
        yield f"{call.func.attr}() without an encoding"


def _guarded(node: ast.AST, name: str, parents: Parents) -> bool:
    """Asked for in the function around it, or tried with what happens otherwise."""
    wanted = {"ImportError"} if isinstance(node, ast.Import | ast.ImportFrom) else {"OSError"}
    module, _, attribute = name.rpartition(".")
    asked = f"hasattr({module}, {attribute!r})"
    around: ast.AST | None = node
    while around is not None:
        before, around = around, parents.get(around)
        if not isinstance(node, ast.Attribute) and _tried(around, before, wanted):
            return True
        if isinstance(around, ast.FunctionDef | ast.Module | ast.ClassDef):
            text = ast.unparse(around)
            if asked in text:
                return True
            if isinstance(around, ast.FunctionDef) and any(q in text for q in QUESTIONS):
                return True
    return False


def _tried(around: ast.AST | None, within: ast.AST, wanted: set[str]) -> bool:
    if isinstance(around, ast.Try):
        return within in around.body and bool(_caught(around) & wanted)
    if isinstance(around, ast.With):
        texts = [ast.unparse(item.context_expr) for item in around.items]
        return any("suppress(" in text and "OSError" in text for text in texts)
    return False


def _caught(node: ast.Try) -> set[str]:
    kinds = [handler.type for handler in node.handlers if handler.type is not None]
    return {name.id for kind in kinds for name in ast.walk(kind) if isinstance(name, ast.Name)}


if __name__ == "__main__":
    print("\n".join(unguarded(Path(__file__).resolve().parents[2])))
