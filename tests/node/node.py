"""The node: Debian with systemd and sshd on a disk of its own, in QEMU, reached as a board is: by ssh.

An instruction takes 4 ns of the node's time, about what it takes on an idle host; a busy host makes the node
slow but not late: its watchdogs and time-outs run by its own clock. What is timed here is that clock's.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "rig"))
from qemu import Port, Qemu, RigError

Result = namedtuple("Result", "code out")
BOOT_PATIENCE_S = 1200  # of a busy host
UNIT = "faprompt-edge.service"


def plain(disk, mode="writeback"):
    """QEMU's arguments for a disk image as /dev/vda."""
    kind = "qcow2" if str(disk).endswith(".qcow2") else "raw"
    return ["-drive", f"file={disk},format={kind},if=none,id=disk,cache={mode}", "-device", "virtio-blk-pci,drive=disk"]


def overlay(base, disk):
    """A disk that starts as `base`, which stays as it is."""
    kind = "qcow2" if str(base).endswith(".qcow2") else "raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", base, disk], check=True)
    return disk


class Machine(Qemu):
    """A machine with a disk; `start` is the first process on it. After a reset it boots again; what must end by itself
    powers off."""

    def __init__(self, rig, node, disk, log, start="/sbin/init", more=()):
        super().__init__("node", log)
        self.port = free_port()
        self.began = time.monotonic()
        # The console, boards/qemu-virt.toml's control and Modbus ports, its watchdog.
        arguments = ["-icount", "shift=2,sleep=on", "-serial", "stdio", *self.socket("control"), "-serial", "chardev:control"]
        arguments += ["-chardev", "null,id=modbus", "-device", "pci-serial,chardev=modbus", "-device", "i6300esb"]
        arguments += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        arguments += ["-device", "virtio-net-pci,netdev=net,id=card,romfile=", *disk, *more]
        self.power_on(f"{rig}/vmlinuz", f"{node}/initrd", f"net.ifnames=0 start={start}", ["tcg,tb-size=512"], arguments)
        self.control = Port(self.at("control"))

    def cable(self, plugged):
        """The network cable."""
        self.qmp("set_link", name="card", up=plugged)


class Node(Machine):
    """A machine that ended its boot: reached over ssh as the user `line`, who may use sudo. `saved` is a
    machine that was saved while it ran, on the same disk or one over it."""

    def __init__(self, rig, node, disk, log, saved=None):
        super().__init__(rig, node, disk, log, more=["-incoming", f"file:{saved}", "-S"] if saved else [])
        self.ssh_config = Path(self.dir.name, "ssh_config")
        self.ssh_config.write_text(
            f"Host node\nHostName 127.0.0.1\nPort {self.port}\nUser line\nIdentityFile {node}/key\nIdentitiesOnly yes\n"
            "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n"
            "ConnectTimeout 300\n"
        )
        # The host's own programs find this one first, and with it the way to the node and patience.
        self.programs = Path(self.dir.name, "bin")
        self.programs.mkdir()
        wrapper = self.programs / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {self.ssh_config} -o ConnectTimeout=300 -o ServerAliveCountMax=12 "$@"\n')
        wrapper.chmod(0o755)
        try:
            if saved:
                self._reach("paused")
                self.qmp("cont")
            self.wait_boot()
        except BaseException:
            self.cut()
            raise

    def wait_boot(self, patience=BOOT_PATIENCE_S):
        self.hang_up()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.qemu.poll() is not None:
                raise RigError("QEMU ended while the node was booting")
            if self.answers() and self.sh("true", 60).code == 0:
                self.boot_s = time.monotonic() - self.began
                return
            time.sleep(0.3)
        raise RigError("the node never answered over ssh")

    def _reach(self, status):
        while self.qmp("query-status")["status"] != status:
            time.sleep(0.05)

    def save(self, state):
        """The machine as it is, to go on from any number of times; this one ends."""
        self.sh("sync")
        self.hang_up()
        self.qmp("stop")
        self.qmp("migrate", uri=f"file:{state}")
        self._reach("postmigrate")
        self.qmp("quit")
        self.qemu.wait()
        self.cut()

    def hang_up(self):
        """Ends the connection that `sh` keeps, as after a reset."""
        subprocess.run(["/usr/bin/ssh", "-F", str(self.ssh_config), "-o", f"ControlPath={self.dir.name}/master", "-O", "exit", "node"], capture_output=True)

    def answers(self):
        """Whether sshd greets."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as s:
                s.settimeout(10)
                return s.recv(4) == b"SSH-"
        except OSError:
            return False

    def ssh(self, command):
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self.dir.name}/master", "-o", "ControlPersist=600"]
        return ["/usr/bin/ssh", "-F", str(self.ssh_config), *shared, "node", command]

    def sh(self, script, patience=900, stdin=None):
        """A line of shell as root."""
        try:
            done = subprocess.run(self.ssh(f"sudo sh -c {shlex.quote(script)}"), input=stdin, stdin=None if stdin else subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=patience)
        except subprocess.TimeoutExpired as e:
            return Result(-1, f"no answer within {patience} s: {(e.stdout or b'').decode(errors='replace')}")
        return Result(done.returncode, done.stdout.decode(errors="replace"))

    def check(self, script, patience=900, stdin=None):
        result = self.sh(script, patience, stdin)
        if result.code:
            raise RigError(f"{script}: exit code {result.code}: {result.out[-2000:]}")
        return result.out

    def put(self, file, place, mode="644"):
        """A file of the host to the node."""
        quoted = shlex.quote(str(place))
        self.check(f"mkdir -p $(dirname {quoted}) && cat > {quoted} && chmod {mode} {quoted}", stdin=Path(file).read_bytes())

    def environment(self):
        """For programs of the host that call ssh by themselves: the node is `line@node`."""
        return os.environ | {"PATH": f"{self.programs}:{os.environ['PATH']}"}

    def journal(self, unit=UNIT, boot=0):
        return self.check(f"journalctl --no-pager -o short-monotonic -b {boot} -u {unit}")

    def say(self, line):
        """A line on the station's control port, and its answer."""
        self.control.send(line.encode() + b"\n")
        return self.control.read_to(rb"(OK|ER),[^\r\n]*\r?\n", 900).decode().strip().splitlines()[-1]

    def unit(self, *names, unit=UNIT):
        """Properties of the service."""
        said = self.check(f"for i in 1 2 3 4 5; do systemctl show {unit} {' '.join(f'-p {n}' for n in names)} && break; sleep 2; done")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def wait_ready(self, patience=120):
        """Until the service said READY; seconds from its start to READY, or None. All by the node's clock."""
        properties = "ActiveState InactiveExitTimestampMonotonic ActiveEnterTimestampMonotonic"
        show = "systemctl show faprompt-edge " + " ".join(f"-p {p}" for p in properties.split())
        seen = self.sh(f"for i in $(seq {patience}); do systemctl is-active -q faprompt-edge && break; sleep 1; done; {show}", patience * 20).out
        seen = dict(line.split("=", 1) for line in seen.splitlines() if "=" in line)
        if seen.get("ActiveState") != "active":
            return None
        return (int(seen["ActiveEnterTimestampMonotonic"]) - int(seen["InactiveExitTimestampMonotonic"])) / 1e6

    def off(self):
        """An orderly end."""
        self.sh("systemctl poweroff", 60)
        try:
            self.qemu.wait(600)
        except subprocess.TimeoutExpired:
            raise RigError("the node did not power off")
        self.cut()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def second_stage(rig, node, disk, log):
    """Configures the packages of a disk that `setup` unpacked."""
    Path(log).unlink(missing_ok=True)
    with Machine(rig, node, plain(disk, "unsafe"), log, "/usr/local/lib/node/second-stage") as machine:
        code = machine.qemu.wait(1800)
    if code or not re.search(r"^second stage: done\s*$", Path(log).read_text(errors="replace"), re.M):
        raise RigError("the second stage did not end well")


if __name__ == "__main__":
    second_stage(*sys.argv[1:])
