"""Programs of 64-bit ARM, run here by QEMU's user mode."""

from __future__ import annotations

from pathlib import Path

from cpp_build import program, run

#: where Debian's cross compiler keeps the C library
LIBRARIES = Path("/usr/aarch64-linux-gnu")
#: of each core. ONNX Runtime asks the kernel for these when it is loaded, and QEMU shows it this
#: machine's own, in which it finds no ARM core and crashes.
CORE = """processor\t: {core}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""


def arm_root(folder: Path) -> Path:
    """A root folder in which QEMU looks for files first: the libraries, and two ARM cores."""
    (folder / "proc").mkdir(parents=True)
    for entry in LIBRARIES.iterdir():
        (folder / entry.name).symlink_to(entry)
    (folder / "proc" / "cpuinfo").write_text("".join(CORE.format(core=core) for core in range(2)))
    return folder


def run_on_arm(root: Path, name: str, *arguments: str | Path) -> str:
    """A test program's output, emulated instruction by instruction."""
    emulator = ["qemu-aarch64-static", "-L", str(root)]
    return run([*emulator, str(program("aarch64", name)), *map(str, arguments)])
