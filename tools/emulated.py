"""Run the core's tests on an emulated processor: kernels of instructions that this machine lacks.

    python tools/emulated.py simd:: kernels::conv::int8

Bochs interprets every instruction, about a hundred times slower than the processor here. It boots
a kernel of Debian with an initramfs of the test binary and busybox. Its newest model in Debian 12,
`tigerlake`, has AVX-512 and AVX512_VNNI; later versions of Bochs have models with AVX-VNNI and
AVX512_BF16 as well. Needs Debian or Ubuntu on x86-64, and their packages `bochs`, `bochs-term`,
`busybox-static`, `cpio`, `isolinux`, `syslinux-common` and `xorriso`. The kernel's package is
downloaded into target/emulated/, not installed.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "target" / "emulated"
KERNEL = "linux-image-cloud-amd64"
LOADER = ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32")
PACKAGES = {
    "bochs": "bochs",
    "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so": "bochs-term",
    "/bin/busybox": "busybox-static",
    "cpio": "cpio",
    LOADER[0]: "isolinux",
    LOADER[1]: "syslinux-common",
    "xorriso": "xorriso",
}
"""Commands and files that are needed, and the package of each."""

HIDDEN = ("fsrm", "pku", "xsaves", "xsavec", "amx_tile")
"""Features that the kernel must not use, because Bochs announces half of what belongs to them: fast
short copies without fast long ones, sizes of saved states that do not add up, tiles without XFD."""

SHOWN = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16")
"""Flags of /proc/cpuinfo that decide which kernels run."""

_END = re.compile(r"^@@ exit (\d+)", re.MULTILINE)
_SCREEN = re.compile(r'connected to screen "([^"]+)"')

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp RUST_BACKTRACE=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
echo "$(grep -m1 'model name' /proc/cpuinfo)"
for flag in {flags}; do grep -qw $flag /proc/cpuinfo && echo "has $flag"; done
cd /tmp
/program {arguments} 2>&1
echo "@@ exit $?"
sleep 1; poweroff -f
"""

LOADER_CFG = """\
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL /linux
  INITRD /initrd
  APPEND console=ttyS0,115200 quiet mitigations=off nokaslr no5lvl tsc=reliable no_timer_check \
clearcpuid={hidden} rdinit=/init
"""

BOCHSRC = """\
config_interface: textconfig
display_library: {display}
cpu: model={model}, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1024, host=1024
ata0-master: type=cdrom, path={here}/image.iso, status=inserted
boot: cdrom
clock: sync=none
com1: enabled=1, mode=file, dev={here}/serial
log: {here}/log
panic: action=fatal
error: action=ignore
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Build, boot and test; returns the exit status of the tests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tigerlake", help="one of `bochs --help cpu`")
    parser.add_argument("--bochs", default="bochs", help="another build of the emulator")
    parser.add_argument("--display", default="term", help="Bochs' display: term or nogui")
    parser.add_argument("filters", nargs="*", help="parts of tests' names; none for all tests")
    arguments = parser.parse_args(argv)
    missing = {package for file, package in PACKAGES.items() if not is_there(file)}
    if missing:
        parser.error(f"expected packages of Debian: apt-get install {' '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        tests = ["--test-threads=1", "--nocapture", *arguments.filters]
        write_image(here, downloaded_kernel(), built_tests(), tests)
        command = write_configuration(here, arguments.bochs, arguments.model, arguments.display)
        return run(command, here)


def is_there(file: str) -> bool:
    """Tell whether a command or a file is there."""
    return shutil.which(file) is not None or Path(file).exists()


def built_tests() -> Path:
    """Build the core's tests; returns the program."""
    build = ["cargo", "test", "--lib", "--no-run", "--message-format=json-render-diagnostics"]
    done = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(Path(m["executable"]) for m in messages if m.get("executable"))


def downloaded_kernel() -> Path:
    """Download and unpack Debian's kernel for virtual machines, unless that was done before."""
    if not (found := sorted(OUT.glob("boot/vmlinuz-*"))):
        OUT.mkdir(parents=True, exist_ok=True)
        depends = _output("apt-cache", "depends", "--important", KERNEL)
        package = re.search(r"linux-image-\S+", depends.partition("\n")[2])
        if package is None:
            raise SystemExit(f"expected {KERNEL} in the lists of packages; run apt-get update")
        subprocess.run(["apt-get", "download", package[0]], cwd=OUT, check=True)
        for archive in OUT.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", archive, OUT], check=True)
            archive.unlink()
        found = sorted(OUT.glob("boot/vmlinuz-*"))
    return found[-1]


def write_image(here: Path, kernel: Path, program: Path, arguments: Sequence[str]) -> None:
    """Write `image.iso`: the kernel, and an initramfs that runs `program` and stops."""
    root, disc = here / "root", here / "disc"
    for folder in ("bin", "proc", "sys", "dev", "tmp"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin")
    subprocess.run(["strip", "-o", root / "program", program], check=True)
    for library in re.findall(r"/\S+", _output("ldd", str(program)).replace(f"{program}:", "")):
        place = root / library[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    init = INIT.format(flags=" ".join(SHOWN), arguments=shlex.join(arguments))
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)

    (disc / "isolinux").mkdir(parents=True)
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    pack = ["cpio", "--quiet", "--create", "--format=newc"]
    with (disc / "initrd").open("wb") as initrd:
        subprocess.run(pack, cwd=root, input=names.encode(), stdout=initrd, check=True)
    shutil.copy(kernel, disc / "linux")
    for file in LOADER:
        shutil.copy(file, disc / "isolinux")
    (disc / "isolinux" / "isolinux.cfg").write_text(LOADER_CFG.format(hidden=",".join(HIDDEN)))
    burn = ["xorriso", "-as", "mkisofs", "-quiet", "-o", str(here / "image.iso")]
    burn += ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot"]
    burn += ["-boot-load-size", "4", "-boot-info-table", str(disc)]
    subprocess.run(burn, check=True, stderr=subprocess.DEVNULL)


def write_configuration(here: Path, bochs: str, model: str, display: str) -> list[str]:
    """Write `bochsrc`; returns the command that starts the emulator."""
    (here / "bochsrc").write_text(BOCHSRC.format(here=here, model=model, display=display))
    command = [bochs, "-q", "-f", str(here / "bochsrc")]
    # Debian's build has a debugger, which waits for a command.
    (here / "continue").write_text("c\n")
    known = subprocess.run([bochs, "--help"], capture_output=True, text=True, check=False)
    if "-rc" in known.stdout + known.stderr:
        command += ["-rc", str(here / "continue")]
    return command


def run(command: Sequence[str], here: Path) -> int:
    """Run the emulator and print what arrives at its serial port; returns the tests' status."""
    (here / "serial").touch()
    screen = Screen(here / "output")
    terminal = {**os.environ, "TERM": "xterm"}
    null = subprocess.DEVNULL
    with (
        (here / "output").open("w") as out,
        subprocess.Popen(command, stdin=null, stdout=out, stderr=out, env=terminal) as emulator,
        (here / "serial").open(newline="") as serial,
    ):
        try:
            text = ""
            while True:
                has_ended = emulator.poll() is not None
                screen.drain()
                part = serial.read().replace("\r", "")
                print(part, end="", flush=True)
                text += part
                if status := _END.search(text):
                    return int(status[1])
                if has_ended or "Kernel panic" in text:
                    raise SystemExit("the emulated machine stopped before the tests ended")
                time.sleep(1)
        finally:
            emulator.kill()


class Screen:
    """The terminal that Bochs opens for its display: once it is full, Bochs waits for a reader."""

    def __init__(self, output: Path) -> None:
        """Bochs writes the terminal's name to `output`."""
        self.output = output
        self.file: int | None = None

    def drain(self) -> None:
        """Read what is there."""
        if self.file is None:
            name = _SCREEN.search(self.output.read_text())
            if name is None:
                return
            self.file = os.open(name[1], os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            tty.setraw(self.file)
        with contextlib.suppress(BlockingIOError):
            while os.read(self.file, 1 << 16):
                pass


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
