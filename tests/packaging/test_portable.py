"""What Windows or macOS lacks is asked for before it is used."""

from __future__ import annotations

from pathlib import Path

import portable
import pytest

ROOT = Path(__file__).resolve().parents[2]

_FOUND = {
    "import fcntl\n": "1: fcntl",
    "def lock():\n    from resource import getrusage\n": "2: resource",
    "import os\ndef held(): return os.open('x', os.O_NOFOLLOW)\n": "2: os.O_NOFOLLOW",
    "import os\ntry:\n    os.sync()\nexcept OSError:\n    pass\n": "3: os.sync",
    "import signal\nENDING = signal.SIGHUP\n": "2: signal.SIGHUP",
    "from os import fork\n": "1: os.fork",
    "from pathlib import Path\nPath('/proc/cpuinfo').read_bytes()\n": "2: /proc/cpuinfo",
    "import subprocess\nsubprocess.run(['x'], start_new_session=True)\n": "2: start_new_session=",
    "from pathlib import Path\nPath('x').write_text('y')\n": "2: write_text() without an encoding",
    "from pathlib import Path\nPath('x').read_text()\n": "2: read_text() without an encoding",
}
_GUARDED = (
    "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None\n",
    "import os\ndef own(): return os.geteuid() if hasattr(os, 'geteuid') else 0\n",
    "import signal\nENDING = signal.SIGHUP if hasattr(signal, 'SIGHUP') else None\n",
    "import os, sys\ndef known(): return os.uname() if sys.platform != 'win32' else None\n",
    "from pathlib import Path\ntry:\n    Path('/proc/cpuinfo').read_bytes()\n"
    "except OSError:\n    pass\n",
    "from pathlib import Path\nPath('x').write_text('y', encoding='utf-8')\n",
    "from pathlib import Path\nPath('x').read_text('utf-8')\n",
)


def test_nothing_is_used_that_a_system_lacks() -> None:
    assert portable.unguarded(ROOT) == []


def test_what_runs_on_linux_alone_is_there() -> None:
    assert [name for name in portable.LINUX_ALONE if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("source", _FOUND)
def test_a_planted_use_is_found(source: str, tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "planted.py").write_text(source)
    assert portable.unguarded(tmp_path) == [f"cli/planted.py:{_FOUND[source]}"]


@pytest.mark.parametrize("source", _GUARDED)
def test_what_is_asked_for_is_let_through(source: str, tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "planted.py").write_text(source)
    assert portable.unguarded(tmp_path) == []
