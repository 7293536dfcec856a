"""An arm64 machine in QEMU: how it is started, asked over QMP and cut off. The rig's machine and the node's are such."""

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

HOST_PATIENCE_S = 120  # for anything that the guest should have done long ago


class RigError(Exception):
    """The rig itself failed, not what it tests."""


class Qemu:
    """A running machine with a Cortex-A76. Its sockets lie in a folder of its own, `self.at(name)`, one of them QMP's;
    what QEMU says goes into the file `log`."""

    def __init__(self, name, log):
        self.dir = tempfile.TemporaryDirectory(prefix=f"{name}.")
        self.log = open(log, "ab")
        self.events = []

    def at(self, name):
        return f"{self.dir.name}/{name}"

    def socket(self, name):
        """QEMU's arguments for a character device that is a socket."""
        return ["-chardev", f"socket,id={name},path={self.at(name)},server=on,wait=off"]

    def power_on(self, kernel, initrd, words, accel, arguments, environment=None):
        """Starts it; `words` come after those of the kernel's command line that every machine has."""
        command = ["qemu-system-aarch64", "-M", "virt", "-accel", *accel, "-cpu", "cortex-a76", "-m", "1024"]
        command += ["-nodefaults", "-display", "none", "-kernel", kernel, "-initrd", initrd]
        command += ["-append", f"console=ttyAMA0 panic=-1 quiet mitigations=off {words}".rstrip()]
        command += [*arguments, "-qmp", f"unix:{self.at('qmp')},server=on,wait=off"]
        self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                     env=os.environ | (environment or {}))
        self._qmp = connect(self.at("qmp")).makefile("rw")
        self._qmp.readline()
        self.qmp("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()

    def qmp(self, command, **arguments):
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._qmp.flush()
        while line := self._qmp.readline():
            reply = json.loads(line)
            if "event" in reply:
                self.events.append(reply["event"])
            elif "return" in reply:
                return reply["return"]
            else:
                raise RigError(f"{command}: {reply['error']['desc']}")
        raise RigError(f"{command}: the machine is gone")

    def cut(self):
        """Power cut: nothing is flushed, the disk keeps what was written."""
        if self.qemu.poll() is None:
            self.qemu.kill()
        self.qemu.wait()
        self.log.close()
        self.dir.cleanup()


class Port:
    """One end of a serial line: a socket whose bytes are collected in the background."""

    def __init__(self, path, log=None):
        self.socket = connect(path)
        self.data = bytearray()
        self.changed = threading.Condition()
        self.log = log
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        while chunk := receive(self.socket):
            with self.changed:
                self.data += chunk
                self.changed.notify_all()
            if self.log:
                self.log.write(chunk)
                self.log.flush()
        with self.changed:
            self.socket = None
            self.changed.notify_all()

    def send(self, data):
        self.socket.sendall(data)

    def read_to(self, mark, timeout=HOST_PATIENCE_S):
        """Takes everything up to and with `mark` (a regular expression of bytes)."""
        pattern = re.compile(mark)
        deadline = time.monotonic() + timeout
        with self.changed:
            while not (found := pattern.search(self.data)):
                left = deadline - time.monotonic()
                if left <= 0 or self.socket is None:
                    raise RigError(f"{mark!r} never came; had {bytes(self.data[-300:])!r}")
                self.changed.wait(left)
            taken = bytes(self.data[: found.end()])
            del self.data[: found.end()]
            return taken


def receive(sock):
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def connect(path):
    for _ in range(500):
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            return sock
        except OSError:
            time.sleep(0.02)
    raise RigError(f"QEMU did not open {path}")
