"""The rig's machine: Debian's arm64 kernel in QEMU, its pins, serial ports and faults seen from outside.

Times are the guest's, in nanoseconds: under -icount one instruction is one nanosecond and an idle
machine jumps to its next timer, so what is timed here repeats and says nothing about a real board.
"""

import os
import re
import threading
import time
from collections import namedtuple

from qemu import HOST_PATIENCE_S, Port, Qemu, RigError, connect

Edge = namedtuple("Edge", "line level ns")
Result = namedtuple("Result", "code out")

UP = b"\x05"  # the agent's first word


class Pins:
    """The PL061's eight lines over qtest: every edge with its guest time, inputs to drive."""

    def __init__(self, path, device):
        self.socket, self.device = connect(path), device
        self.edges = []
        self.offset_ns = 0  # QEMU's clock when the guest's CLOCK_MONOTONIC was 0
        self.asked = self.answered = 0
        self.changed = threading.Condition()
        threading.Thread(target=self._collect, daemon=True).start()
        self._say(f"irq_intercept_out {device}")

    def _say(self, text):
        self.asked += 1
        self.socket.sendall(text.encode() + b"\n")

    def _collect(self):
        for line in self.socket.makefile("r"):
            words = line.split()
            with self.changed:
                if words[0] == "IRQ":
                    self.edges.append(Edge(int(words[2]), int(words[1] == "raise"), int(words[3]) - self.offset_ns))
                else:
                    self.answered += 1
                self.changed.notify_all()

    def sync(self):
        """Every edge that has happened is known."""
        self._say("endianness")
        with self.changed:
            if not self.changed.wait_for(lambda: self.answered >= self.asked, HOST_PATIENCE_S):
                raise RigError("QEMU's qtest does not answer")

    def drive(self, line, level):
        self._say(f"set_irq_in {self.device} unnamed-gpio-in {line} {level}")

    def level(self, line):
        return next((e.level for e in reversed(self.edges) if e.line == line), 0)

    def wait(self, line, level, after=0, timeout=HOST_PATIENCE_S):
        """The first such edge, counted from edge number `after`; None if it does not come."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                for edge in self.edges[after:]:
                    if (edge.line, edge.level) == (line, level):
                        return edge
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)

    def pulses(self, line, after=0):
        """(start, end) of every high pulse on a line since edge number `after`; end None while it lasts."""
        found = []
        for edge in self.edges[after:]:
            if edge.line == line:
                if edge.level:
                    found.append((edge.ns, None))
                elif found and found[-1][1] is None:
                    found[-1] = (found[-1][0], edge.ns)
        return found


class Machine(Qemu):
    """A running machine. `share` is a host folder that the guest has under /host; `log` is where its console
    goes; `disk` is QEMU's arguments for /dev/vda."""

    def __init__(self, rig, share, log, disk):
        super().__init__("rig", log)
        arguments = ["-icount", "shift=0,sleep=off"]
        for name in ("console", "serial"):
            arguments += [*self.socket(name), "-serial", f"chardev:{name}"]
        for name in ("modbus", "agent", "usb"):
            arguments += self.socket(name)
        arguments += ["-device", "pci-serial,chardev=modbus", "-device", "qemu-xhci,id=xhci"]
        arguments += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"]
        arguments += ["-qtest", f"unix:{self.at('qtest')},server=on,wait=off", "-qtest-log", os.devnull]
        arguments += ["-virtfs", f"local,path={share},mount_tag=host,security_model=none,multidevs=remap"]
        arguments += ["-device", "i6300esb", *disk]
        stamp = {"LD_PRELOAD": f"{rig}/stamp.so"}
        try:
            self.power_on(f"{rig}/vmlinuz", f"{rig}/initrd", "", ["tcg"], arguments, stamp)
            self.console = Port(self.at("console"), self.log)
            self.serial, self.modbus, self.usb, self.agent = (
                Port(self.at(n)) for n in ("serial", "modbus", "usb", "agent"))
            found = [o["name"] for o in self.qmp("qom-list", path="/machine/unattached") if "pl061" in o["type"]]
            self.pins = Pins(self.at("qtest"), f"/machine/unattached/{found[0]}")
            self.wait_boot()
        except BaseException:
            self.cut()
            raise

    def wait_boot(self):
        """Waits for the agent, also after a reset, and finds the start of the guest's CLOCK_MONOTONIC."""
        self.agent.read_to(UP)
        self.pins.offset_ns = 0
        before = len(self.pins.edges)
        self.check("cd /sys/kernel/tracing && echo mono > trace_clock && echo 1 > events/gpio/gpio_value/enable")
        # Debian 13's libgpiod 2 has another command line than the 1.6 of Debian 12.
        self.gpiod2 = " v1" not in self.check("gpioset --version").out
        once = "gpioset -t0 -c gpiochip0" if self.gpiod2 else "gpioset -m exit gpiochip0"
        self.check(f"{once} 6=1; {once} 6=0")
        # The kernel notes each write to a pin with its own clock, just before qtest sees the edge.
        writes = re.findall(r" (\d+)\.(\d{6}): gpio_value: \d+ set", self.check("cat trace").out)
        self.check("echo 0 > events/gpio/gpio_value/enable; echo > trace; cd /")
        offsets = [edge.ns - int(s + us) * 1000 for edge, (s, us) in zip(self.pins.edges[before:], writes)]
        if len(offsets) != 2 or max(offsets) - min(offsets) > 100_000:
            raise RigError(f"the guest's clock could not be found: {writes}, {self.pins.edges[before:]}")
        self.pins.offset_ns = min(offsets)

    def start(self, script):
        """Sends one line of shell; `finish` collects what it says."""
        assert "\n" not in script
        self.agent.send(script.encode() + b"\n")

    def finish(self, timeout=HOST_PATIENCE_S):
        said = self.agent.read_to(UP + rb"|\x04\d+\n", timeout)
        if said.endswith(UP):
            raise RigError(f"the machine was reset meanwhile: {said}")
        text, code = said.rsplit(b"\x04", 1)
        self.pins.sync()
        return Result(int(code), text.decode(errors="replace"))

    def sh(self, script, timeout=HOST_PATIENCE_S):
        self.start(script)
        return self.finish(timeout)

    def check(self, script, timeout=HOST_PATIENCE_S):
        result = self.sh(script, timeout)
        if result.code:
            raise RigError(f"{script}: exit code {result.code}: {result.out}")
        return result

    def camera(self, width, height, fourcc, multiplanar=1, second=False):
        """Loads vivid, with frames in one piece of memory or (2) in several, and joins its HDMI output to its HDMI input: what goes into /dev/video1 comes out of
        /dev/video0, byte for byte. Returns the bytes of a frame. A second camera, /dev/video2, shows vivid's own test picture, which stands still."""
        self.check("rmmod vivid 2> /dev/null; true")
        devices = "n_devs=2 node_types=0x101,0x101" if second else "n_devs=1"
        self.check(f"modprobe vivid {devices} multiplanar={multiplanar}; v4l2-ctl -d0 -i 3 && v4l2-ctl -d1 --set-output=1")
        # Debian 12's kernel (6.1) has one switch for vivid's loop; later ones say of each input what is plugged into it.
        loop = "loop_video=1" if "loop_video" in self.check("v4l2-ctl -d0 -l").out else "hdmi_000_0_is_connected_to=2"
        # Timestamps of the end of a frame: by default vivid's lie in the future.
        self.check(f"v4l2-ctl -d0 -c {loop} -c osd_text_mode=2 -c timestamp_source=1")
        # The lowest rate whose pixel clock is within vivid's 14 MHz; 640x480 is a standard timing.
        for fps in (60, 75, 90, 120, 144):
            timing = f"--set-dv-bt-timings=cvt,width={width},height={height},fps={fps}"
            if self.sh(f"v4l2-ctl -d0 {timing} | grep -q 'timings set'").code == 0:
                break
        else:
            raise RigError(f"vivid has no timing for {width}x{height}")
        self.check(f"v4l2-ctl -d1 {timing}")
        if second:
            size = f"width={width},height={height},pixelformat='{fourcc}',field=none"
            self.check(f"v4l2-ctl -d2 -i 3 && v4l2-ctl -d2 -c osd_text_mode=2 -c timestamp_source=1 && v4l2-ctl -d2 {timing} && v4l2-ctl -d2 --set-fmt-video={size}")
        return self.camera_format(width, height, fourcc)

    def camera_format(self, width, height, fourcc):
        """Bytes of a frame in another format; nothing may stream meanwhile."""
        size = f"width={width},height={height},pixelformat='{fourcc}',field=none"
        self.check(f"v4l2-ctl -d1 --set-fmt-video-out={size} && v4l2-ctl -d0 --set-fmt-video={size}")
        # One size per piece of memory.
        return sum(int(n) for n in re.findall(r"Size Image\s*: (\d+)", self.check("v4l2-ctl -d1 --get-fmt-video-out").out))

    def plug(self):
        """A USB serial adapter appears as /dev/ttyUSB0; its other end is `usb`."""
        self.qmp("device_add", driver="usb-serial", chardev="usb", id="adapter", bus="xhci.0")
        self.check("modprobe ftdi_sio && modprobe xhci_pci && until ls /dev/ttyUSB* > /dev/null 2>&1; do usleep 10000; done")

    def unplug(self):
        self.qmp("device_del", id="adapter")
        while "DEVICE_DELETED" not in self.events:
            self.qmp("query-status")
            time.sleep(0.02)
        self.events.remove("DEVICE_DELETED")
        self.check("while [ -c /dev/ttyUSB0 ]; do usleep 10000; done")
