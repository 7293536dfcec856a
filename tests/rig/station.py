"""The station under test in the rig's machine: `faprompt-edge run`, the belt that brings parts to it, its pins."""

import json
from collections import namedtuple

from qemu import RigError

# boards/qemu-virt.toml
GOOD, REJECT, READY, RESET, CONFIRM, FAULT, LINE_STOP, TRIGGER = range(8)

WIDTH, HEIGHT = 320, 240
MS = 1_000_000  # ns

# vivid waits whole kernel ticks of 4 ms, 8 to 16 ms between frames, and longer when the only core is busy judging. A
# part stands still for 50 ms (Belt.trigger): every exposure from 4 to 44 ms after the edge shows it.
PAIRING = ["trigger_source=edge", "exposure_delay_us=24000", "pairing_window_us=20000", "part_spacing_us=41000"]
DELAY_MS, PULSE_MS = 200, 20

Part = namedtuple("Part", "number outcome score due_ns")


class Belt:
    """Photos that stand in front of the camera one after the other, and the light barrier's edges."""

    def __init__(self, machine, multiplanar=1, second=False):
        self.machine = machine
        self.frame_bytes = machine.camera(WIDTH, HEIGHT, "RGB3", multiplanar, second)
        self.bring("frames.rgb")
        self.light_up()

    def bring(self, file):
        """Raw frames of the host's folder to the front of the camera."""
        self.machine.check(f"dd if=/host/{file} of=/tmp/frames bs=512k 2> /dev/null")  # a request per block

    def change(self, fourcc, file):
        """The camera in another format, with other frames."""
        self.dark()
        self.frame_bytes = self.machine.camera_format(WIDTH, HEIGHT, fourcc)
        self.bring(file)
        self.light_up()

    def light_up(self):
        """Starts what feeds vivid; it must be started again when the camera was unplugged."""
        feed = "v4l2-ctl -d1 --stream-out-mmap=2 --stream-from=/tmp/camera > /tmp/feed.log 2>&1 3>&-"
        # Opened for reading too: that waits for nobody.
        self.machine.check(f"rm -f /tmp/camera; mkfifo /tmp/camera; exec 4<> /tmp/camera; ({feed} 4>&- &)")
        self.show(0)

    def dark(self):
        self.machine.check("exec 4>&-; killall -q v4l2-ctl; usleep 20000")

    def show(self, photo):
        """From here on every frame of the camera is this photo: its second copy is read when the first is out."""
        once = f"dd if=/tmp/frames bs={self.frame_bytes} skip={photo} count=1 2> /dev/null >&4"
        self.machine.check(f"{once} && {once} && usleep 15000")

    def trigger(self, gap_ms=30):
        """An edge of the light barrier, and time until the next part may come."""
        self.machine.pins.drive(TRIGGER, 1)
        self.machine.check("usleep 20000")
        self.machine.pins.drive(TRIGGER, 0)
        self.machine.check(f"usleep {gap_ms * 1000}")

    def part(self, photo):
        self.show(photo)
        self.trigger()


class Pipe(Belt):
    """Photos that a command writes to its standard output again and again: the one that stands there now."""

    SCRIPT = "while read n < /tmp/photo; do dd if=/tmp/frames bs={size} skip=$n count=1 2> /dev/null; usleep 4000; done"
    BOARD = """base = "qemu-virt"
name = "rig-pipe"
[camera]
device = "pipe:RGB3:{width}x{height}:sh /tmp/camera.sh"
width = {width}
height = {height}
source = "a script of the rig"
"""

    def __init__(self, machine):
        self.machine = machine
        self.frame_bytes = WIDTH * HEIGHT * 3
        self.bring("frames.rgb")
        machine.check(f"echo '{self.SCRIPT.format(size=self.frame_bytes)}' > /tmp/camera.sh")
        self.show(0)

    def show(self, photo):
        self.machine.check(f"echo {photo} > /tmp/photo.new; mv /tmp/photo.new /tmp/photo; usleep 30000")


class Station:
    """`faprompt-edge run` in the background; `settings` are parameters as NAME=VALUE."""

    def __init__(self, machine, name, threshold, settings=(), pulse_ms=PULSE_MS, board="board.toml", arithmetic="f32", source="", bundle="rig.bundle"):
        self.machine, self.name, self.pulse_ms = machine, name, pulse_ms
        self.first_edge = len(machine.pins.edges)
        sets = [f"threshold={threshold:.4f}", f"reject_delay_ms={DELAY_MS}", f"pulse_width_ms={pulse_ms}", "alarm_consecutive=0", "archive=off"]
        sets.append("frame_identical=0")  # vivid shows a picture without noise as long as the belt stands
        sets = " ".join(f"--set {s}" for s in [*PAIRING, *sets, *settings])
        machine.check(
            f"rm -rf /tmp/{name}; /tmp/faprompt-edge run --board /tmp/{board} --bundle /tmp/{bundle} --arithmetic {arithmetic} --threads 1"
            f" {source} --quiet --out /tmp/{name} {sets} > /tmp/{name}.log 2>&1 3>&- 4>&- & pid=$!"
        )
        self.pid = int(machine.check("echo $pid").out)

    def wait_ready(self, edge=None):
        """Until READY is on and what passed before it is off the belt."""
        if not self.machine.pins.wait(READY, 1, self.first_edge if edge is None else edge, timeout=60):
            raise RigError(f"{self.name}: never ready: {self.log()}")
        self.machine.check(f"usleep {(DELAY_MS + self.pulse_ms + 50) * 1000}")

    def settle(self):
        """Until every part is off the belt and written down."""
        self.machine.check(f"usleep {(DELAY_MS + self.pulse_ms + 200) * 1000}")

    def reset(self):
        self.machine.pins.drive(RESET, 1)
        self.machine.check("usleep 30000")
        self.machine.pins.drive(RESET, 0)
        self.machine.check("usleep 30000")

    def log(self):
        return self.machine.sh(f"cat /tmp/{self.name}.log").out

    def _lines(self, file):
        return [json.loads(line) for line in self.machine.check(f"cat /tmp/{self.name}/{file}").out.splitlines()]

    def verdicts(self):
        return self._lines("verdicts.jsonl")

    def parts(self):
        due = lambda line: line["triggered_us"] * 1000 + DELAY_MS * MS
        return [Part(l["part"], l["outcome"], l.get("score"), due(l)) for l in self._lines("verdicts.jsonl")]

    def events(self):
        return self._lines("events.jsonl")

    def alarms(self):
        return [l["alarm"] for l in self.events() if l["event"] == "alarm"]

    def stop(self):
        """Orderly; returns the exit code."""
        return int(self.machine.check(f"kill -TERM {self.pid}; wait {self.pid}; echo $?", timeout=60).out.split()[-1])

    def kill(self):
        self.machine.sh(f"kill -KILL {self.pid}; wait {self.pid}")

    def pulses(self, line):
        return self.machine.pins.pulses(line, self.first_edge)


def apart_ms(seen, expected):
    """The largest distance of two lists of (start, end) in ms; None if they differ in more than that."""
    seen, expected = merged(seen), merged(expected)
    if len(seen) != len(expected) or any(None in pulse for pulse in seen):
        return None
    return max((abs(a - b) / MS for s, e in zip(seen, expected) for a, b in zip(s, e)), default=0.0)


def merged(pulses):
    """Pulses that touch, or nearly so, are one."""
    joined = []
    for start, end in sorted(pulses, key=lambda p: p[0]):
        if joined and joined[-1][1] is not None and start - joined[-1][1] < MS:
            joined[-1] = (joined[-1][0], end if end is None else max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def unmatched(seen, expected):
    """What to say of pulses that are nowhere near one of the other list."""
    far = lambda pulse, others: all(abs(pulse[0] - other[0]) > MS for other in others)
    missing, more = [p for p in expected if far(p, seen)], [p for p in seen if far(p, expected)]
    return f"; not seen {missing[:2]}, not expected {more[:2]}" if missing or more else ""


def scheduled(parts, rejects):
    """The pulses that the verdicts promise: of every part that is a reject, or of every good one."""
    return [(p.due_ns, p.due_ns + PULSE_MS * MS) for p in parts if (p.outcome != "good") == rejects]
