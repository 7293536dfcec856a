"""What the rig shows, one function per case: each adds lines to the table and leaves the machine as it was."""

import hashlib
import json
import time
import tomllib
from collections import Counter

import pixels
from qemu import RigError
from station import (CONFIRM, FAULT, GOOD, HEIGHT, LINE_STOP, MS, PULSE_MS, READY, REJECT, TRIGGER, WIDTH, Belt, Pipe, Station, apart_ms, scheduled, unmatched)

GENERATED = "--source pattern --rate 1 --frames 1000000"
ALL_GOOD = ["trigger_source=free_run", "threshold=1.0"]
TO_REJECT = ["wiring=energise_to_reject", "confirm=on", "confirm_window_ms=2000"]


class Rig:
    """What every case needs."""

    def __init__(self, machine, share, disk, table, score, types, threshold):
        self.machine, self.share, self.disk, self.table = machine, share, disk, table
        self.score = score  # of a folder of pictures, by the host
        self.types = types  # the same, each type's share
        verdicts = [(s > threshold, s) for s in score(share / "frames")]
        self.verdicts = verdicts  # per photo: (reject, score), the host's
        self.threshold = threshold
        clear = sorted(range(len(verdicts)), key=lambda i: -abs(verdicts[i][1] - threshold))
        self.good = [i for i in clear if not verdicts[i][0]]  # the clearest first
        self.bad = [i for i in clear if verdicts[i][0]]
        self.belt = Belt(machine)
        self.install()

    def renew(self):
        """After a case that broke off."""
        self.machine.qmp("system_reset")
        self.machine.wait_boot()
        self.belt = Belt(self.machine)
        self.install()

    def install(self):
        self.machine.check("cp /host/faprompt-edge /host/*.bundle /host/*.toml /tmp")

    def station(self, name, *settings, **more):
        return Station(self.machine, name, self.threshold, settings, **more)

    def edge(self):
        return len(self.machine.pins.edges)

    def only_good_passed(self, station):
        """Whether output `good` was on exactly while parts known to be good passed."""
        return apart_ms(station.pulses(GOOD), scheduled(station.parts(), rejects=False))


def tally(parts):
    """How many parts had which outcome."""
    return dict(Counter(p.outcome for p in parts))


class BinSensor:
    """The sensor in the reject bin: sees what was ejected since it last looked, part by part."""

    def __init__(self, machine):
        self.machine, self.seen, self.place = machine, 0, len(machine.pins.edges)

    def look(self):
        pins = self.machine.pins
        new, self.place = pins.edges[self.place :], len(pins.edges)
        for edge in new:
            if edge.line == REJECT and edge.level:
                self.seen += 1
                for level in (1, 0):
                    pins.drive(CONFIRM, level)
                    self.machine.check("usleep 5000")


def belt_of_photos(rig):
    """Every photo once, energise-to-reject with a sensor in the bin."""
    station = rig.station("belt", *TO_REJECT)
    station.wait_ready()
    sensor, first = BinSensor(rig.machine), rig.edge()
    began = time.monotonic()
    for photo in range(len(rig.verdicts)):
        rig.belt.part(photo)
        sensor.look()
    station.settle()
    sensor.look()
    parts = station.parts()
    wrong = [p for p, (reject, _) in zip(parts, rig.verdicts) if p.outcome != ("reject" if reject else "good")]
    apart = max((abs(p.score - score) for p, (_, score) in zip(parts, rig.verdicts) if p.score is not None), default=1.0)
    count = len(rig.verdicts)
    rig.table.add("verdicts of photos", f"{count} parts, every verdict the host's",
                  f"{len(parts)} parts, {len(wrong)} other verdicts {wrong[:2]}, scores apart by {apart:.1e}, {time.monotonic() - began:.0f} s",
                  len(parts) == count and not wrong and apart < 1e-4)
    pulses, promised = rig.machine.pins.pulses(REJECT, first), scheduled(parts, rejects=True)
    off = apart_ms(pulses, promised)
    rig.table.add("reject pulses at the pin", f"{len(promised)} pulses of {PULSE_MS} ms when due, within 1 ms",
                  f"{len(pulses)} pulses, at most {off} ms off{unmatched(pulses, promised)}", off is not None and off < 1.0)
    alarms = station.alarms()
    rig.table.add("bin sensor confirms", f"{len(promised)} seen, no alarm", f"{sensor.seen} seen, alarms {alarms}",
                  sensor.seen == len(pulses) and not alarms)
    edge = rig.edge()
    rig.belt.part(rig.bad[0])
    stopped = rig.machine.pins.wait(LINE_STOP, 1, edge)
    fault = rig.machine.pins.level(FAULT)
    station.reset()
    rig.table.add("bin sensor misses one", "alarm RejectUnconfirmed, LINE STOP and FAULT on, off after reset",
                  f"alarms {station.alarms()}, stop {bool(stopped)}, fault {fault}, then {rig.machine.pins.level(LINE_STOP)}, {rig.machine.pins.level(FAULT)}",
                  station.alarms() == ["RejectUnconfirmed"] and stopped and fault
                  and not rig.machine.pins.level(LINE_STOP) and not rig.machine.pins.level(FAULT))
    code = station.stop()
    at_end = [rig.machine.pins.level(line) for line in (GOOD, REJECT, READY, FAULT, LINE_STOP)]
    rig.table.add("orderly end", "exit code 0; reject, fault, line stop on, the rest off", f"exit code {code}, {at_end}",
                  code == 0 and at_end == [0, 1, 0, 1, 1])


def energise_for_good(rig):
    """The default wiring, `good` is on exactly while a good part passes; and int8 arithmetic."""
    station = rig.station("good", arithmetic="int8")
    station.wait_ready()
    for good, bad in zip(rig.good[:6], rig.bad[:6]):
        rig.belt.part(good)
        rig.belt.part(bad)
    station.settle()
    off = rig.only_good_passed(station)
    pulses = station.pulses(GOOD)
    rig.table.add("energise for good", "6 good pulses when due, within 1 ms; reject never on",
                  f"{len(pulses)} pulses, at most {off} ms off, {len(station.pulses(REJECT))} of reject, {tally(station.parts())}",
                  len(pulses) == 6 and off is not None and off < 1.0 and not station.pulses(REJECT))
    station.stop()


def lanes(rig):
    """Two types of defects on two pins: `reject` and the bin's sensor, which this wiring does not use, are lane1 and lane2."""
    shares = rig.types(rig.share / "frames")
    most = [max(s, key=s.get) for s in shares]
    # Of each type the photos that are most clearly of it; random weights need not see every type.
    seen = Counter(most).most_common(2)
    if len(seen) < 2:
        raise RigError(f"the host sees one type only: {seen}")
    (first, _), (second, _) = seen
    clear = lambda name: sorted((i for i, m in enumerate(most) if m == name), key=lambda i: -shares[i][name])[:4]
    photos = [photo for pair in zip(clear(first), clear(second)) for photo in pair]
    station = rig.station("lanes", "threshold=0", "type_margin=0", f"'lanes={first}=1,{second}=2'", board="lanes.toml", bundle="types.bundle")
    station.wait_ready()
    for photo in photos:
        rig.belt.part(photo)
    station.settle()
    lines = station.verdicts()
    told = [(l.get("type"), l.get("lane")) for l in lines]
    expected = [(most[p], 1 if most[p] == first else 2) for p in photos]
    off, both = [], []
    for lane, pin in ((1, REJECT), (2, CONFIRM)):
        due = [(p.due_ns, p.due_ns + PULSE_MS * MS) for p, l in zip(station.parts(), lines) if l.get("lane") == lane]
        off.append(apart_ms(station.pulses(pin), due))
        both += station.pulses(pin)
    both.sort()
    together = any(b[0] < a[1] for a, b in zip(both, both[1:]))
    rig.table.add("lanes: two types, two pins", f"{len(photos)} parts, the host's types; each pulse on its type's pin, within 1 ms",
                  f"{sum(a == b for a, b in zip(told, expected))} of {len(told)}, {len(both)} pulses, at most {off} ms off, two at once {together}",
                  len(photos) >= 2 and told == expected and len(both) == len(photos) and not together and all(o is not None and o < 1.0 for o in off))
    station.stop()


def pixel_formats(rig):
    """The clearest parts in every other format that matters: YUV, grey, the raw Bayer of a camera without an ISP."""
    _formats(rig, ("GREY", "YUYV", "NV12", "RGGB"))
    rig.belt.change("RGB3", "frames.rgb")


def _formats(rig, fourccs):
    photos = rig.good[:2] + rig.bad[:2]
    frames = (rig.share / "frames.rgb").read_bytes()
    size = WIDTH * HEIGHT * 3
    for fourcc in fourccs:
        folder = rig.share / fourcc
        folder.mkdir(exist_ok=True)
        raw = b""
        for n, photo in enumerate(photos):
            data, seen = pixels.encode(fourcc, frames[photo * size : (photo + 1) * size], WIDTH, HEIGHT)
            pixels.png(folder / f"{n}.png", seen, WIDTH, HEIGHT)
            raw += data
        (rig.share / "format.raw").write_bytes(raw)
        rig.belt.change(fourcc, "format.raw")
        rig.machine.check(f"sed 's/^.camera.$/&\\nformat = \"{fourcc}\"/' /tmp/board.toml > /tmp/format.toml")
        station = rig.station(f"format-{fourcc}", board="format.toml")
        station.wait_ready()
        for n in range(len(photos)):
            rig.belt.part(n)
        station.settle()
        expected, parts = rig.score(folder), station.parts()
        apart = max((abs(p.score - s) for p, s in zip(parts, expected) if p.score is not None), default=1.0)
        same = [p.outcome == ("reject" if s > rig.threshold else "good") for p, s in zip(parts, expected)]
        rig.table.add(f"camera streams {fourcc}", "4 parts, verdicts and scores (within 0.01) of a reference conversion",
                      f"{sum(same)} of {len(parts)} verdicts, scores apart by {apart:.1e}",
                      len(parts) == 4 and all(same) and apart < 0.01)
        station.stop()


def multi_planar(rig):
    """The same camera with its frames in several pieces of memory, as the ISPs of i.MX8 and Rockchip have them."""
    rig.belt.dark()
    rig.belt = Belt(rig.machine, multiplanar=2)
    _judged(rig, "multi-planar camera", rig.station("planes"))
    _formats(rig, ("NM12", "YM12", "NV12"))
    rig.belt.dark()
    rig.belt = Belt(rig.machine)


def two_cameras(rig):
    """Two vivid nodes on one trigger. What the second one sees stands still: its threshold makes all of its views good, or all bad."""
    rig.belt.dark()
    rig.belt = Belt(rig.machine, second=True)
    views = lambda line: [view["outcome"] for view in line.get("views", [])]
    station = rig.station("two", "camera2_threshold=1", board="two.toml")
    station.wait_ready()
    shown = [photo for pair in zip(rig.good[:10], rig.bad[:10]) for photo in pair]
    for photo in shown:
        rig.belt.part(photo)
    station.settle()
    lines, host = station.verdicts(), ["reject" if rig.verdicts[photo][0] else "good" for photo in shown]
    both = sum(views(line) == [outcome, "good"] for line, outcome in zip(lines, host))
    rig.table.add("two cameras: the second good", f"{len(shown)} parts, each the host's verdict, two views each",
                  f"{sum(l['outcome'] == h for l, h in zip(lines, host))} of {len(lines)} verdicts, {both} with both views",
                  [l["outcome"] for l in lines] == host and both == len(shown))
    edge = rig.edge()
    rig.machine.check("v4l2-ctl -d2 -c percentage_of_dropped_buffers=100")
    rig.belt.part(rig.good[0])
    missing = rig.machine.pins.wait(READY, 0, edge), rig.edge()
    rig.machine.check("v4l2-ctl -d2 -c percentage_of_dropped_buffers=0")
    back = missing[0] and rig.machine.pins.wait(READY, 1, missing[1])
    station.reset()
    station.settle()
    rig.belt.part(rig.good[1])
    station.settle()
    lines = station.verdicts()[len(shown):]
    outcomes = [line["outcome"] for line in lines]
    rig.table.add("two cameras: a view is missing", "its part is rejected: no frame; the camera counts as down; then a good part passes",
                  f"{outcomes}, blind {bool(missing[0])}, back {bool(back)}, views of the first {views(lines[0])}",
                  back and outcomes == ["reject: no frame", "good"] and views(lines[0]) == ["good"])
    rig.belt.show(rig.good[0])
    rig.machine.pins.drive(TRIGGER, 1)
    rig.machine.check("for i in 1 2 3 4 5; do v4l2-ctl -d2 -c inject_v4l2_buf_flag_error=1; done; usleep 20000")
    rig.machine.pins.drive(TRIGGER, 0)
    station.settle()
    outcomes = [line["outcome"] for line in station.verdicts()[len(shown) + 2:]]
    rig.table.add("two cameras: buffer ERROR flag", "1 part, rejected or judged from a whole frame", str(outcomes),
                  len(outcomes) == 1 and outcomes[0] in ("good", "reject: camera fault"))
    off = rig.only_good_passed(station)
    station.stop()
    bad = rig.station("two-bad", "camera2_threshold=0", board="two.toml")
    bad.wait_ready()
    for photo in rig.good[:4]:
        rig.belt.part(photo)
    bad.settle()
    lines = bad.verdicts()
    seen = [(line["outcome"], line["camera"], views(line)) for line in lines]
    pulses = bad.pulses(GOOD)
    rig.table.add("two cameras: good and bad", "4 parts, rejected by the second camera; output good never on",
                  f"{seen[:2]}, {len(pulses)} pulses; before: good on as due within {off} ms",
                  len(seen) == 4 and all(s == ("reject", 2, ["good", "reject"]) for s in seen) and not pulses and off is not None and off < 1.0)
    bad.stop()
    rig.belt.dark()
    rig.belt = Belt(rig.machine)


def flat_frame(rig):
    """`flat` on raw samples behind a lens that darkens its corners; and on a camera that delivers none."""
    refused = rig.machine.sh("/tmp/faprompt-edge flat --board /tmp/board.toml --out /tmp/lens.flat 2>&1")
    away = lambda row, column: ((row - HEIGHT / 2) / HEIGHT) ** 2 + ((column - WIDTH / 2) / WIDTH) ** 2
    lens = bytes(round(200 / (1 + 0.5 * away(row, column))) for row in range(HEIGHT) for column in range(WIDTH))
    (rig.share / "lens.raw").write_bytes(lens)
    rig.belt.change("RGGB", "lens.raw")
    rig.machine.check("sed 's/^.camera.$/&\\nformat = \"RGGB\"/' /tmp/board.toml > /tmp/format.toml")
    measured = rig.machine.sh("/tmp/faprompt-edge flat --board /tmp/format.toml --out /tmp/lens.flat --frames 4 2>&1")
    gains = [float(word.strip(",")) for word in measured.out.split("gains up to")[-1].split("(")[0].split()]
    # The corner itself would need 1.25; cells are coarser than it.
    rig.table.add("flat", "refused for RGB3; for RGGB gains of 1.15 to 1.25 in the corners, of all colours",
                  f"exit code {refused.code}, then {measured.code}: {gains}",
                  refused.code > 1 and measured.code == 0 and len(gains) == 3 and all(1.15 <= gain <= 1.26 for gain in gains))
    rig.belt.change("RGB3", "frames.rgb")


def piped(rig):
    """A command as camera: every photo once; then it is killed, and stopped (hangs)."""
    rig.belt.dark()
    rig.belt = Pipe(rig.machine)
    station = rig.station("piped", board="pipe.toml")
    _judged(rig, "a command as camera", station, stop=False)
    # The file systems' own words: this userland has no pgrep.
    child = f"$(grep -l 'PPid:.{station.pid}$' /proc/[0-9]*/status 2> /dev/null | cut -d/ -f3)"
    running = "grep -l '[c]amera.sh' /proc/[0-9]*/cmdline 2> /dev/null"
    for what, signal in (("killed", "KILL"), ("hangs", "STOP")):
        edge = rig.edge()
        rig.machine.check(f"kill -{signal} {child}")
        # The station asks for a frame of every part: one that finds none shows that the camera is down.
        rig.belt.trigger()
        blind, edge = rig.machine.pins.wait(READY, 0, edge), rig.edge()
        back = blind and rig.machine.pins.wait(READY, 1, edge)
        took = (back.ns - blind.ns) / MS if back else None
        station.reset()
        station.settle()
        before = len(station.parts())
        rig.belt.part(rig.good[0])
        station.settle()
        outcomes = [p.outcome for p in station.parts()[before - 1 :]]
        rig.table.add(f"a command as camera is {what}" if signal == "KILL" else f"a command as camera {what}",
                      "READY off, its part rejected; within 5 s READY on and a good part passes", f"{outcomes}, back after {took} ms",
                      took is not None and took < 5000 and outcomes[-1] == "good" and outcomes[0].startswith("reject:"))
    children = rig.machine.sh(running).out.split()
    station.kill()
    rig.machine.check("usleep 300000")
    left = rig.machine.sh(running).out.split()
    rig.table.add("a command as camera: kill -9", "the command ends with the station", f"{len(children)} before, {len(left)} after",
                  children and not left)
    rig.renew()  # nobody feeds the watchdog


def _judged(rig, name, station, stop=True):
    """Every photo once; each verdict must be the host's."""
    station.wait_ready()
    began = time.monotonic()
    for photo in range(len(rig.verdicts)):
        rig.belt.part(photo)
    station.settle()
    parts, count = station.parts(), len(rig.verdicts)
    wrong = [p for p, (reject, _) in zip(parts, rig.verdicts) if p.outcome != ("reject" if reject else "good")]
    apart = max((abs(p.score - score) for p, (_, score) in zip(parts, rig.verdicts) if p.score is not None), default=1.0)
    rig.table.add(f"{name}: verdicts", f"{count} parts, every verdict the host's",
                  f"{len(parts)} parts, {len(wrong)} other verdicts {wrong[:2]}, scores apart by {apart:.1e}, {time.monotonic() - began:.0f} s",
                  len(parts) == count and not wrong and apart < 1e-4)
    if stop:
        station.stop()


def chip_removed(rig):
    """The pins' driver is taken from them and given back while the station runs, as when a bridge on USB is unplugged."""
    driver = "/sys/bus/amba/drivers/pl061_gpio"
    uptime = "cut -d' ' -f1 /proc/uptime | tr -d ."
    station = rig.station("chip")
    station.wait_ready()
    rig.belt.part(rig.good[0])
    station.settle()
    gone = int(rig.machine.check(f"{uptime}; echo 9030000.pl061 > {driver}/unbind").out)
    rig.machine.check("usleep 400000")
    noticed = [l["at_us"] / 10000 - gone for l in station.events() if l["event"] == "alarm"]
    edge = rig.edge()
    rig.machine.check(f"echo 9030000.pl061 > {driver}/bind")
    stopped = rig.machine.pins.wait(LINE_STOP, 1, edge)
    rig.machine.check("usleep 500000")
    ready = rig.machine.pins.level(READY)
    station.reset()
    back = rig.machine.pins.wait(READY, 1, edge)
    station.settle()
    rig.belt.part(rig.good[1])
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    rig.table.add("GPIO chip removed and put back", "noticed within 100 ms; READY off, LINE STOP on when it is back; after a reset good parts pass",
                  f"noticed after {[round(10 * n) for n in noticed]} ms, stop {bool(stopped)}, ready {ready}, back {bool(back)}, {outcomes}, {station.alarms()}",
                  noticed and min(noticed) <= 10 and stopped and not ready and back and outcomes[0] == outcomes[-1] == "good" and "Output" in station.alarms())
    station.stop()


def camera_unplugged(rig):
    station = rig.station("unplug")
    station.wait_ready()
    rig.belt.part(rig.good[0])
    station.settle()
    edge = rig.edge()
    rig.machine.check("v4l2-ctl -d0 -c disconnect=1")
    blind, edge = rig.machine.pins.wait(READY, 0, edge), rig.edge()
    for _ in range(3):
        rig.belt.trigger()
    fault = rig.machine.pins.level(FAULT)
    station.settle()
    rig.belt.dark()  # vivid is plugged in again when nobody holds it any more
    back = rig.machine.pins.wait(READY, 1, edge)
    rig.belt.light_up()
    station.reset()
    station.settle()
    rig.belt.part(rig.good[1])
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    off = rig.only_good_passed(station)
    rig.table.add("camera unplugged", "READY off, FAULT on, parts rejected; plugged in again: good parts pass",
                  f"ready off {bool(blind)}, fault {fault}, back {bool(back)}, {outcomes}, alarms {station.alarms()}",
                  blind and fault and back and outcomes[0] == outcomes[-1] == "good" and len(outcomes) == 5
                  and all(o.startswith("reject:") for o in outcomes[1:4]) and "Camera" in station.alarms() and off is not None and off < 1.0)
    station.stop()


def camera_error(rig):
    """EIO while streaming: vivid's queues are dead until they are streamed anew, the feeding one too."""
    station = rig.station("eio")
    station.wait_ready()
    edge = rig.edge()
    rig.machine.check("v4l2-ctl -d0 -c inject_fatal_streaming_error=1")
    blind = rig.machine.pins.wait(READY, 0, edge)
    back = blind and rig.machine.pins.wait(READY, 1, edge)
    rig.belt.dark()
    rig.belt.light_up()
    station.reset()
    station.settle()
    rig.belt.part(rig.good[0])
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    rig.table.add("camera: EIO", "READY off and on again, then a good part passes",
                  f"off {bool(blind)}, on {bool(back)}, {outcomes}, alarms {station.alarms()}",
                  blind and back and outcomes == ["good"] and "Camera" in station.alarms())
    station.stop()


def frames_dropped(rig):
    station = rig.station("drop")
    station.wait_ready()
    rig.machine.check("v4l2-ctl -d0 -c percentage_of_dropped_buffers=80")
    shown = [rig.good[i] for i in range(20)]
    for photo in shown:
        rig.belt.part(photo)
    rig.machine.check("v4l2-ctl -d0 -c percentage_of_dropped_buffers=0")
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    off = rig.only_good_passed(station)
    kinds = tally(station.parts())
    rig.table.add("80 % of frames dropped", "20 parts, one outcome each, some without a frame; good only on for good ones",
                  f"{kinds}, at most {off} ms off",
                  len(outcomes) == 20 and kinds.get("reject: no frame", 0) > 0 and set(kinds) <= {"good", "reject: no frame", "reject: camera fault"}
                  and off is not None and off < 1.0)
    station.stop()


def camera_stalls(rig):
    """The device is there and says nothing: noticed when a triggered part gets no frame."""
    station = rig.station("stall")
    station.wait_ready()
    rig.belt.part(rig.good[0])
    station.settle()
    edge = rig.edge()
    rig.machine.check("v4l2-ctl -d0 -c percentage_of_dropped_buffers=100")
    rig.belt.trigger()
    blind, edge = rig.machine.pins.wait(READY, 0, edge), rig.edge()
    rig.belt.trigger()
    fault = rig.machine.pins.level(FAULT)
    rig.machine.check("v4l2-ctl -d0 -c percentage_of_dropped_buffers=0")
    back = blind and rig.machine.pins.wait(READY, 1, edge)
    station.settle()
    station.reset()
    rig.belt.part(rig.good[1])
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    rig.table.add("camera stalls", "READY off, FAULT on, parts rejected; frames again: good parts pass",
                  f"ready off {bool(blind)}, fault {fault}, back {bool(back)}, {outcomes}, alarms {station.alarms()}",
                  blind and fault and back and outcomes[0] == outcomes[-1] == "good" and len(outcomes) == 4
                  and all(o.startswith("reject:") for o in outcomes[1:3]) and "Camera" in station.alarms())
    station.stop()


def damaged_frame(rig):
    station = rig.station("damaged")
    station.wait_ready()
    rig.belt.show(rig.good[0])
    rig.machine.pins.drive(TRIGGER, 1)
    rig.machine.check("for i in 1 2 3 4 5; do v4l2-ctl -d0 -c inject_v4l2_buf_flag_error=1; done; usleep 20000")
    rig.machine.pins.drive(TRIGGER, 0)
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    rig.table.add("camera: buffer ERROR flag", "1 part, rejected or judged from a whole frame", str(outcomes), len(outcomes) == 1)
    station.stop()


def stream_refused(rig):
    rig.machine.check("v4l2-ctl -d0 -c inject_vidioc_streamon_error=1")
    station = rig.station("streamon")
    station.wait_ready()
    station.reset()
    rig.belt.part(rig.good[0])
    station.settle()
    outcomes = [p.outcome for p in station.parts()]
    said = "camera" in station.log()
    rig.table.add("camera: STREAMON refused", "says so, tries again, then a good part passes", f"said {said}, {outcomes}",
                  said and outcomes == ["good"])
    station.stop()


def line_held(rig):
    # libgpiod 2 holds a line until it is killed, and knows chips by path only.
    hold = "gpioset -m signal 9030000.pl061 1=0"
    if rig.machine.gpiod2:
        hold = "gpioset -c $(gpiodetect | sed -n 's/ \\[9030000.pl061\\].*//p') 1=0"
    rig.machine.check(f"({hold} > /dev/null 2>&1 &); usleep 100000")
    edge = rig.edge()
    station = rig.station("held")
    code = rig.machine.sh(f"wait {station.pid}").code
    said = [l for l in station.log().splitlines() if "gpioset" in l]
    moved = [e for e in rig.machine.pins.edges[edge:] if e.line in (GOOD, READY) and e.level]
    rig.machine.check("killall gpioset; usleep 50000")
    rig.table.add("GPIO line held by another process", "ends with an error that names the holder; good and ready never on",
                  f"exit code {code}: {said[-1:]}", code > 1 and said and not moved)


def serial_gone(rig):
    """The serial adapter is unplugged in mid-session and plugged in again."""
    machine = rig.machine
    machine.plug()
    station = rig.station("serial", board="usb.toml")
    station.wait_ready()

    def ask():
        machine.usb.data.clear()
        machine.usb.send(b"IDN\r")
        return machine.usb.read_to(rb"(OK|ER),IDN[^\r]*\r", timeout=60).strip()

    before = ask()
    # CPU time so far and time so far, in ticks of 10 ms.
    used = f"set -- $(cat /proc/{station.pid}/stat); echo $((${{14}} + ${{15}})) $(cut -d' ' -f1 /proc/uptime | tr -d .)"
    machine.unplug()
    start = [int(n) for n in machine.check(used).out.split()]
    rig.belt.part(rig.good[0])
    rig.belt.part(rig.bad[0])
    station.settle()
    busy, passed = (int(n) - s for n, s in zip(machine.check(used).out.split(), start))
    machine.plug()
    machine.check("sleep 3")
    after = ask()
    outcomes = [p.outcome for p in station.parts()]
    rig.table.add("serial port gone and back", "inspection goes on, the port answers again; no busy loop", f"{outcomes}, {after!r}, CPU {100 * busy // passed} %",
                  outcomes == ["good", "reject"] and before == after and busy < passed / 2)
    station.stop()
    machine.unplug()


def killed(rig):
    """kill -9 while `good` is on: the PL061 keeps its levels, and nobody feeds the watchdog."""
    edge = rig.edge()
    station = rig.station("killed", *ALL_GOOD, pulse_ms=5000, source=GENERATED)
    rig.machine.pins.wait(GOOD, 1, edge)
    station.kill()
    _watchdog_resets(rig, "killed in mid-pulse", rig.machine.pins.level(GOOD) == 1)
    rig.machine.wait_boot()
    rig.install()


def killed_and_restarted(rig):
    """kill -9 while `good` is on; then what the service does: `safe`, and the station again."""
    edge, pins = rig.edge(), rig.machine.pins
    station = rig.station("victim", *ALL_GOOD, pulse_ms=5000, source=GENERATED)
    pins.wait(GOOD, 1, edge)
    station.kill()
    was_on = pins.level(GOOD)
    code = rig.machine.sh("/tmp/faprompt-edge safe --board /tmp/board.toml").code
    levels = [pins.level(line) for line in (GOOD, READY, FAULT, LINE_STOP)]
    again = rig.station("again", *ALL_GOOD, source=GENERATED)
    again.wait_ready()
    again.stop()
    rig.table.add("killed in mid-pulse, restarted", "good is on, `safe` ends it: fault and line stop on; then ready again",
                  f"on {was_on}, exit code {code}, {levels}, ready again", was_on == 1 and code == 0 and levels == [0, 0, 1, 1])


def hung(rig):
    """SIGSTOP: every thread hangs, the pins keep their levels."""
    edge = rig.edge()
    station = rig.station("hung", *ALL_GOOD, pulse_ms=5000, source=GENERATED)
    rig.machine.pins.wait(GOOD, 1, edge)
    rig.machine.check(f"kill -STOP {station.pid}")
    _watchdog_resets(rig, "hang", rig.machine.pins.level(GOOD) == 1)


def _watchdog_resets(rig, name, was_on):
    pins, edge = rig.machine.pins, rig.edge()
    uptime = rig.machine.check("cut -d' ' -f1 /proc/uptime")
    rig.machine.start("sleep 100")
    off = pins.wait(GOOD, 0, edge)
    seconds = off and off.ns / 1e9 - float(uptime.out)
    pins.sync()
    levels = [pins.level(line) for line in range(8)]
    rig.table.add(name, "good stays on until the watchdog resets the machine, within 5 s; then all pins off",
                  f"on {was_on}, off after {seconds and round(seconds, 2)} s, {levels}",
                  was_on and seconds is not None and seconds < 5 and not any(levels))


def power_cuts(rig):
    """The memory after a power cut at any moment of commits, recipe changes and counter writes; and a writer
    that flushes nothing, which must be caught."""
    machine, disk = rig.machine, rig.disk
    machine.check("mkdir -p /mnt && mount /dev/vda /mnt")
    station = rig.station("cuts", "trigger_source=free_run", source=GENERATED + " --state /mnt/state")
    station.wait_ready()

    def ask(line):
        machine.serial.data.clear()
        machine.serial.send(line.encode() + b"\r")
        answer = machine.serial.read_to(rb"(OK|ER),[^\r\n]*[\r\n]").decode().strip()
        if not answer.startswith("OK"):
            raise RigError(f"{line}: {answer}")

    first, states, kept = disk.length(), [None], []  # what was ever confirmed; from which place of the log on
    for n in range(1, 28):
        if n % 3:
            for line in (f"SET station_name s{n}", f"SET debounce_us {1000 + n}", "COMMIT"):
                ask(line)
            states.append((f"s{n}", 1000 + n, states[-1][2] if states[-1] else 1))
        else:
            ask(f"RECIPE {n}")
            states.append((*states[-1][:2], n))
        kept.append(disk.length())
        machine.check("sleep 4")  # counters are written every 10 s
    station.stop()
    last = disk.length()
    bad, points, counted = [], 0, 0
    for place, read in disk.crash_points(200, first, last):
        needed = sum(length <= place for length in kept)
        found = stored(read("/state/memory"))
        now = found and (found["station"]["station_name"], found["station"]["debounce_us"], found["active"])
        counters, parts = checked(read("/state/counters"), "counters"), checked(read("/state/parts"), "parts")
        numbers = counters is None or json.loads(counters)["statistics"]["next_part"] <= int(parts)
        points, counted = points + 1, counted + (counters is not None)
        if not numbers or not (now in states[needed : needed + 2] or needed == 0 and now not in states[1:]):
            bad.append((place, states[needed], now))
    rig.table.add("power cuts: commits, recipes, counters", "150 crash points or more, 0 violations",
                  f"{points} points in {last - first} writes, {counted} with counters, {len(bad)} violations {bad[:2]}",
                  points >= 150 and not bad and counted > 0)
    first, kept = disk.length(), []
    for n in range(1, 31):
        machine.check(f"{{ echo {n}; yes {n} | head -c 3000; echo; echo {n}; }} > /mnt/careless")
        kept.append(disk.length())
    machine.check("sync; umount /mnt")
    caught = points = 0
    for place, read in disk.crash_points(60, first):
        text, needed = read("/careless"), sum(length <= place for length in kept)
        lines = text.split() if text else [b"0"]
        points, caught = points + 1, caught + (lines[0] != lines[-1] or int(lines[0].strip(b"\0") or 0) < needed)
    rig.table.add("power cuts: a writer that does not flush", "is caught", f"{caught} of {points} points violated", caught > points / 2)


def instructions(rig):
    """The machine's clock advances by 1 ns per instruction: what `bench` takes for time are instructions. Little
    else runs meanwhile."""
    def bench(arithmetic):
        command = f"/tmp/faprompt-edge bench --bundle built-in --threads 1 --frames 1 --arithmetic {arithmetic} --json"
        report = json.loads(rig.machine.check(command, timeout=300).out)
        return (report["int8_kernel"], report["f16_kernel"]), report["rows"][0]["total_ms"]

    (kernels, int8), (_, f16), (_, f32) = bench("int8"), bench("f16"), bench("f32")
    rig.table.add("instructions per frame", "shipped bundle: fewer in f16 (FMLA) than in f32, fewest in int8 (SDOT)",
                  f"int8 {int8:.0f} million ({kernels[0]}), f16 {f16:.0f} million ({kernels[1]}), f32 {f32:.0f} million",
                  kernels == ("SDOT", "FMLA f16") and int8 < f16 < f32)


def checked(data, kind):
    """The body of one of the memory's files; a file that is there must be whole."""
    if data is None:
        return None
    head, body = data.split(b"\n", 1)
    if head.split() != [b"faprompt-edge", kind.encode(), b"1", hashlib.sha256(body).hexdigest().encode()]:
        raise RigError(f"{kind} is damaged: {head}")
    return body


def stored(data):
    body = checked(data, "memory")
    return body and tomllib.loads(body.decode())["parameters"]


ALL = [belt_of_photos, energise_for_good, lanes, pixel_formats, multi_planar, two_cameras, flat_frame, piped, chip_removed, camera_unplugged, camera_error, frames_dropped,
       camera_stalls, damaged_frame,
       stream_refused, line_held, serial_gone, instructions, power_cuts, killed_and_restarted, killed, hung]
# Within `make test`: what no test without a kernel can show.
LEAN = [belt_of_photos, energise_for_good, chip_removed, camera_unplugged, line_held, killed_and_restarted, hung]
