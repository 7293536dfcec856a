"""What is shown of flashing. A case starts from a node that was saved while it ran; what it does to the disk
is dropped."""

import hashlib
import json
import re
import shutil
import struct
import subprocess
import tempfile
import time
import tomllib
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

from disk import RecordedDisk
from node import Node, Result, overlay, plain

BOARD = "qemu-virt"
STATE = "/var/lib/faprompt-edge"
LIMIT_S = 60  # from the service's start to READY
SIGNATURE, KEY, RELEASE, FLASH, ROLLED_BACK = 16, 17, 24, 36, 37  # src/exit.rs
DAMAGED, OPTIONS = 14, 32

Made = namedtuple("Made", "name program version bundle")


class Cases:
    """The programs and files that the cases take, and the node that they start from."""

    def __init__(self, rig, node, folder, table, train, deb, deb2, bundle, points, log):
        self.rig, self.node, self.folder, self.table, self.train, self.log = rig, node, folder, table, train, log
        self.deb, self.demo, self.points = deb, bundle, points
        self.program = extract(deb, folder / "one")
        self.deb2 = deb2 or newer(deb, folder / "newer.deb")
        self.version = re.search(r"[0-9][0-9.]*[0-9]", call("dpkg-deb", "-f", deb, "Version").split("-")[0])[0]
        second = extract(self.deb2, folder / "two")
        version2 = re.search(r"[0-9][0-9.]*[0-9]", call("dpkg-deb", "-f", deb2, "Version").split("-")[0])[0] if deb2 else self.version
        self.old = Made("old", self.program, self.version, self.small(1))
        self.new = Made("new", second, version2, self.small(2))
        self.fresh = self.installed = None  # see `kept`

    def small(self, seed):
        """A bundle of the smallest network that has everything: what is shown is not speed."""
        place = self.folder / f"small{seed}"
        if (place / "small.bundle").exists():
            return place / "small.bundle"
        call(self.train, "random", "--model", "minimal", "--seed", seed, "--out", place)
        call(self.train, "export", "--clip", place / "clip.safetensors", "--prompts", place / "prompts.safetensors",
             "--untrained", "--precision", "int8", "--image-size", "32", "--out", place / "small.bundle")
        return place / "small.bundle"

    @contextmanager
    def machine(self, start):
        """The node as it was saved, on a disk that is dropped afterwards."""
        disk, state = start
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            with Node(self.rig, self.node, plain(overlay(disk, Path(place, "disk.qcow2"))), self.log, state) as node:
                yield node

    def keep(self, node, disk, name):
        node.save(self.folder / f"{name}.tmp")
        (self.folder / f"{name}.tmp").rename(self.folder / f"{name}.state")
        return self.kept(name)

    def kept(self, name):
        """Disk and state of a saved machine, if there is one."""
        disk, state = self.folder / f"{name}.qcow2", self.folder / f"{name}.state"
        return (disk, state) if state.exists() else None

    def flash(self, node, made, *more, to="line@node", board=BOARD, patience=900):
        return self.flashes(node, made, patience, "flash", "--board", board, "--to", to, *more)

    def flashes(self, node, made, patience, *words):
        """A command that flashes this release."""
        command = [self.train, *words, "--bundle", made.bundle, "--program", made.program]
        command += ["--program-version", made.version, "--package", self.deb, "--patience", patience]
        try:
            done = subprocess.run([str(c) for c in command], env=node.environment(), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=patience + 300)
        except subprocess.TimeoutExpired as e:
            return Result(-1, f"flash did not end: {(e.stdout or b'').decode(errors='replace')}")
        return Result(done.returncode, done.stdout.decode(errors="replace"))

    def package(self, made, *more):
        """The release as a file."""
        out = self.folder / f"{made.name}.release"
        call(self.train, "flash", "--board", BOARD, "--bundle", made.bundle, "--out", out, "--program", made.program,
             "--program-version", made.version, *more)
        return out

    def runs(self, node):
        """Which release the running process and its bundle are of."""
        said = node.check(
            "s=/run/faprompt-edge/slot; p=$(systemctl show -p MainPID --value faprompt-edge); readlink /proc/$p/exe; "
            "readlink -f $s/faprompt-edge; sha256sum < $s/faprompt-edge; sha256sum < $s/bundle"
        ).split()
        known = {digest(m.program) + digest(m.bundle): m.name for m in (self.old, self.new)}
        return known.get(said[2] + said[4], "neither") if said[0] == said[1] else "another program than the slot's"

    def memory(self, node):
        """Parameters and recipes; of the log of changes all but what the station noted of itself, as that a release's
        network could not be used; of the counters what parts have changed, for frames go on."""
        kept = tomllib.loads(node.check(f"sed 1d {STATE}/memory"))
        kept["log"] = [line for line in kept["log"] if line.split(",")[1:3] != ["station", "network"]]
        counters = json.loads(node.check(f"sed 1d {STATE}/counters"))
        return kept, counters["statistics"]["outcomes"]

    def still(self, node, before, which="old"):
        """What to say if the node does not run this release with its memory as it was, else nothing."""
        ready = node.wait_ready()
        wrong = [] if ready is not None else ["the service is not ready"]
        if ready is not None and ready > LIMIT_S:
            wrong.append(f"READY only after {ready:.0f} s")
        if (found := self.runs(node)) != which:
            wrong.append(f"it runs {found}")
        if self.memory(node) != before:
            wrong.append(f"parameters, recipes or counters differ: {self.memory(node)} instead of {before}")
        if node.sh("ls /opt/faprompt-edge/incoming").code == 0:
            wrong.append("half a release was left")
        return "; ".join(wrong)

    def refused(self, name, node, before, result, code, words, which="old"):
        """A flash that must end with this code and these words, and leave the node as it was."""
        wrong = self.still(node, before, which)
        ok = result.code == code and re.search(words, result.out, re.S) is not None and not wrong
        said = result.out.strip().splitlines()
        seen = f"code {result.code}: {said[-1][:160] if said else ''}" + (f"; {wrong}" if wrong else f"; {which} runs")
        if not ok:
            seen += "\n" + result.out[-3000:]
        self.table.add(name, f"refused with {code}, {which} goes on, memory kept", seen, ok)


def call(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def digest(file):
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def extract(deb, place):
    """The program of a package."""
    call("dpkg-deb", "-x", deb, place)
    return place / "usr/bin/faprompt-edge"


def newer(deb, out):
    """The same package with a higher version, its program with other bytes."""
    with tempfile.TemporaryDirectory(dir=out.parent) as place:
        call("dpkg-deb", "-R", deb, place)
        control = Path(place, "DEBIAN/control")
        control.write_text(re.sub(r"(?m)^Version: .*", r"\g<0>+1", control.read_text()))
        with open(Path(place, "usr/bin/faprompt-edge"), "ab") as program:
            program.write(b"another build")  # behind the last section
        call("dpkg-deb", "-b", "-Znone", "--root-owner-group", place, out)
    return out


def reworded(bundle, out, change):
    """A bundle whose manifest was changed and whose digests agree with it."""
    data = bundle.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    envelope = json.loads(header["__metadata__"]["faprompt"])
    change(envelope["manifest"])
    text = json.dumps(envelope.pop("manifest"), separators=(",", ":"))
    envelope["digests"]["manifest"] = hashlib.sha256(text.encode()).hexdigest()
    start = json.dumps(envelope, separators=(",", ":"))
    header["__metadata__"]["faprompt"] = start[:-1] + ',"manifest":' + text + "}"
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    out.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])
    return out


def script(place, body):
    """A program that answers what the installed one does, but for `run`."""
    place.write_text(f'#!/bin/sh\n[ "$1" = run ] || exec /usr/bin/faprompt-edge "$@"\n{body}\n')
    place.chmod(0o755)
    return place


def files(node):
    """What the package leaves or takes with it: folders outside dpkg's own, the user, the unit."""
    return node.check(
        "ls -d /usr/bin/faprompt-edge /usr/lib/systemd/system/faprompt-edge.service /lib/systemd/system/faprompt-edge.service "
        "/etc/faprompt-edge /etc/default/faprompt-edge /opt/faprompt-edge /var/lib/faprompt-edge /run/faprompt-edge "
        "/etc/systemd/system/multi-user.target.wants/faprompt-edge.service 2> /dev/null; true"
    ).split()


def the_package(c):
    """Install, start, upgrade, remove, purge."""
    with c.machine(c.fresh) as node:
        node.put(c.deb, "/root/one.deb")
        node.put(c.deb2, "/root/two.deb")
        done = node.sh("apt-get install -y /root/one.deb 2>&1")
        user = node.sh("getent passwd faprompt-edge").out.strip()
        state = node.unit("ActiveState", "LoadState")
        ok = done.code == 0 and "nologin" in user and state == {"ActiveState": "inactive", "LoadState": "loaded"}
        c.table.add("package: install", "installs; a user without a shell; not started before its board is said",
                    f"code {done.code}; {user}; {state}" + ("" if ok else done.out[-1500:]), ok)
        node.check(f"sed -i 's/^FAPROMPT_BOARD=.*/FAPROMPT_BOARD={BOARD}/' /etc/default/faprompt-edge; systemctl enable -q --now --no-block faprompt-edge")
        ready = node.wait_ready()
        c.table.add("package: runs", f"READY within {LIMIT_S} s of its start, with the packaged bundle",
                    f"{ready and round(ready, 1)} s" if ready else node.journal()[-1500:], ready is not None and ready <= LIMIT_S)
        node.check(f"touch {STATE}/mine")
        pid = node.unit("MainPID")
        done = node.sh("dpkg -i /root/two.deb 2>&1")
        ready = node.wait_ready()
        same = node.sh("cmp /proc/$(systemctl show -p MainPID --value faprompt-edge)/exe /usr/bin/faprompt-edge").code == 0
        ok = done.code == 0 and ready is not None and same and node.unit("MainPID") != pid
        c.table.add("package: upgrade", "the new program runs, settings and memory stay",
                    f"code {done.code}; READY after {ready} s; new program {same}", ok and node.sh(f"grep -q {BOARD} /etc/default/faprompt-edge && test -e {STATE}/mine").code == 0)
        done = node.sh("dpkg -r faprompt-edge 2>&1")
        left = files(node)
        active = node.unit("ActiveState").get("ActiveState")
        ok = done.code == 0 and active in ("inactive", "failed") and STATE in left and "/usr/bin/faprompt-edge" not in left
        c.table.add("package: remove", "program gone, memory and configuration stay", f"code {done.code}; {active}; left: {' '.join(left)}", ok)
        done = node.sh("dpkg -P faprompt-edge 2>&1; dpkg --audit")
        left = files(node)
        c.table.add("package: purge", "nothing is left", f"code {done.code}; left: {' '.join(left) or 'nothing'}" + done.out[-300:] * bool(left), done.code == 0 and not left)


def from_nothing(c):
    """The first flash, with the package's own bundle; then the small one that the other cases start from."""
    disk = overlay(c.fresh[0], c.folder / "installed.qcow2")
    (c.folder / "installed.state").unlink(missing_ok=True)
    node = Node(c.rig, c.node, plain(disk), c.log, c.fresh[1])
    try:
        dry = c.flash(node, c.old, "--dry-run")
        untouched = node.sh("ls -d /usr/bin/faprompt-edge /opt/faprompt-edge").code != 0
        c.table.add("dry run", "says every step, changes nothing", f"code {dry.code}, {dry.out.count(chr(10))} lines, untouched: {untouched}",
                    dry.code == 0 and untouched and "slot install" in dry.out)
        began = time.monotonic()
        done = c.flash(node, c.old._replace(bundle=c.demo), patience=900)
        took = time.monotonic() - began
        ready = node.wait_ready(5)
        ok = done.code == 0 and ready is not None and ready <= LIMIT_S
        c.table.add("flash from nothing", f"package installed, release runs, READY within {LIMIT_S} s",
                    f"code {done.code} after {took:.0f} s; READY {ready and round(ready, 1)} s after the service's start"
                    + ("" if ok else "\n" + done.out[-3000:]), ok)
        done = c.flash(node, c.old)
        ready = node.wait_ready()
        c.table.add("another bundle", "runs", f"code {done.code}; READY {ready and round(ready, 1)} s; {c.runs(node)}" + ("" if not done.code else done.out[-2000:]),
                    done.code == 0 and c.runs(node) == "old")
        again = c.flash(node, c.old)
        c.table.add("the same once more", "nothing to do", again.out.strip()[-120:], again.code == 0 and "already" in again.out)
        node.say("LOGIN engineer")
        said = [node.say(line) for line in ('SET threshold 0.4321', 'SET recipe_name "Cap M8"', "SET trigger_source command", "COMMIT", "ARM")]
        said += [node.say("TRIG") for _ in range(3)]
        said += [node.say("RECIPE 3"), node.say("SET reject_delay_ms 777"), node.say("COMMIT"), node.say("COUNTERS")]
        node.check("sleep 15")  # counters are written every 10 s
        stored = node.check(f"cat {STATE}/memory {STATE}/counters")
        ok = "Cap M8" in stored and "777" in stored and not any(line.startswith("ER") for line in said)
        c.table.add("parameters, a recipe, counters", "are stored", "; ".join(said), ok)
        c.installed = c.keep(node, disk, "installed")
    finally:
        node.cut()


def update(c):
    with c.machine(c.installed) as node:
        before = c.memory(node)
        began = time.monotonic()
        done = c.flash(node, c.new)
        took = time.monotonic() - began
        wrong = c.still(node, before, "new")
        c.table.add("update", "new runs, memory kept", f"code {done.code} after {took:.0f} s; {wrong or 'new runs'}" + (done.out[-2000:] if done.code else ""), done.code == 0 and not wrong)
        done = node.sh("faprompt-edge slot back && systemctl restart faprompt-edge")
        wrong = c.still(node, before, "old")
        c.table.add("slot back", "old runs again", f"code {done.code}; {wrong or 'old runs'}", done.code == 0 and not wrong)


def broken_programs(c):
    host = Path("/bin/true").resolve()
    hello = script(c.folder / "hangs-at-once", "")
    hello.write_text("#!/bin/sh\nsleep 1000\n")
    for name, program, code, words in (
        ("program that exits at once", script(c.folder / "exits", "exit 1"), ROLLED_BACK, "did not become ready"),
        ("program that hangs", script(c.folder / "hangs", "exec sleep 1000"), ROLLED_BACK, "did not become ready"),
        ("program that is killed", script(c.folder / "killed", "sleep 2; kill -SEGV $$"), ROLLED_BACK, "did not become ready"),
        ("program that answers nothing", hello, FLASH, "no answer"),
        ("program for another processor", host, OPTIONS, "a program for x86_64"),
        ("program that is half there", half(c.new.program, c.folder / "half"), FLASH, "does not fit"),
    ):
        with c.machine(c.installed) as node:
            before = c.memory(node)
            done = c.flash(node, c.new._replace(program=program), patience=900)
            c.refused(name, node, before, done, code, words)


def half(program, out):
    data = Path(program).read_bytes()
    out.write_bytes(data[: len(data) // 2])
    return out


def broken_bundles(c):
    damaged = c.folder / "damaged.bundle"
    data = bytearray(c.new.bundle.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    damaged.write_bytes(data)

    def other_score(manifest):
        manifest["known_score"] = 0.9 if manifest["known_score"] < 0.5 else 0.1

    wrong = reworded(c.new.bundle, c.folder / "wrong.bundle", other_score)
    slow = c.folder / "slow.toml"
    slow.write_text(f'base = "{BOARD}"\nname = "slow"\n[reject]\ndelay_ms = 0\n')
    with c.machine(c.installed) as node:
        before = c.memory(node)
        c.refused("bundle that is damaged", node, before, c.flash(node, c.new._replace(bundle=damaged)), DAMAGED, "SHA-256")
        c.refused("bundle too slow for the board", node, before, c.flash(node, c.new, board=slow), OPTIONS, "reject station")
        stream = bytearray(c.package(c.new).read_bytes())
        stream[len(stream) // 2] ^= 1
        done = node.sh("faprompt-edge slot install 2>&1", stdin=bytes(stream))
        c.refused("release damaged on its way", node, before, done, RELEASE, "SHA-256")
        done = c.flash(node, c.new._replace(bundle=wrong), patience=900)
        c.refused("bundle that computes another score", node, before, done, ROLLED_BACK, "known frame")


def full_disk(c):
    with c.machine(c.installed) as node:
        before = c.memory(node)
        node.check("fallocate -l $(( $(df --output=avail -B1 /opt | tail -1) - 8000000 )) /root/full")
        c.refused("full disk", node, before, c.flash(node, c.new), FLASH, "are needed")
        node.check("rm /root/full")
        # Full only in the middle of the copy: half the release, then no room, then the rest.
        stream = c.package(c.new).read_bytes()
        # The program asks for the release's size and some megabytes before it begins.
        node.check(f"fallocate -l $(( $(df --output=avail -B1 /opt | tail -1) - {len(stream) + 12_000_000} )) /root/full")
        process = subprocess.Popen(node.ssh("sudo faprompt-edge slot install"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        process.stdin.write(stream[: len(stream) // 2])
        process.stdin.flush()
        node.check("until [ -s /opt/faprompt-edge/incoming/faprompt-edge ]; do sleep 0.2; done; dd if=/dev/zero of=/root/rest bs=256k 2> /dev/null; true")
        try:
            out = process.communicate(stream[len(stream) // 2 :], 900)[0]
        except BrokenPipeError:
            out = process.stdout.read()
            process.wait(900)
        c.refused("disk that fills in mid-copy", node, before, Result(process.returncode, out.decode(errors="replace")), RELEASE, "No space")
        # What was received was removed again: no block may be left.
        node.sh("dd if=/dev/zero of=/root/last bs=256k 2> /dev/null; dd if=/dev/zero of=/root/least bs=4k 2> /dev/null")
        ready = node.sh("systemctl restart faprompt-edge")
        wrong = c.still(node, before)
        c.table.add("a start with a full disk", "old becomes ready", f"code {ready.code}; {wrong or 'old runs'}" + node.journal()[-1500:] * bool(wrong), not wrong)
        node.check("rm /root/full /root/rest /root/last /root/least")
        done = c.flash(node, c.new)
        wrong = c.still(node, before, "new")
        c.table.add("with room again", "the update runs", f"code {done.code}; {wrong or 'new runs'}", done.code == 0 and not wrong)


def cut_connection(c):
    with c.machine(c.installed) as node:
        before = c.memory(node)
        watch = subprocess.Popen(node.ssh(
            "until [ $(sudo stat -c %s /opt/faprompt-edge/incoming/faprompt-edge 2> /dev/null || echo 0) -gt 2000000 ]; do sleep 0.02; done"))
        command = [c.train, "flash", "--board", BOARD, "--bundle", c.new.bundle, "--to", "line@node", "--program", c.new.program,
                   "--program-version", c.new.version, "--package", c.deb, "--patience", "900"]
        flash = subprocess.Popen([str(w) for w in command], env=node.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        watch.wait(900)
        node.cable(False)
        out = flash.communicate(timeout=900)[0].decode(errors="replace")
        time.sleep(60)  # the node gives up on a silent host after 30 s
        node.cable(True)
        node.wait_boot()
        c.refused("cable pulled in mid-copy", node, before, Result(flash.returncode, out), FLASH, "no connection|ended with")
        done = c.flash(node, c.new)
        wrong = c.still(node, before, "new")
        c.table.add("cable plugged in again", "the update runs", f"code {done.code}; {wrong or 'new runs'}", done.code == 0 and not wrong)


def signatures(c):
    place = c.folder / "keys"
    place.mkdir(exist_ok=True)
    for name in ("one", "two"):
        call("minisign", "-G", "-W", "-f", "-p", place / f"{name}.pub", "-s", place / f"{name}.key", stdin=subprocess.DEVNULL)

    def bare(made, name):
        """The same release without a signature beside its bundle."""
        bundle = c.folder / f"{name}.bundle"
        shutil.copy(made.bundle, bundle)
        return made._replace(bundle=bundle)

    with c.machine(c.installed) as node:
        before = c.memory(node)
        done = c.flash(node, bare(c.old, "signed"), "--sign", place / "one.key", "--again")
        wrong = c.still(node, before)
        c.table.add("signed, no key on the node", "runs", f"code {done.code}; {wrong or 'old runs'}" + done.out[-1500:] * bool(done.code), done.code == 0 and not wrong)
        node.put(place / "one.pub", "/etc/faprompt-edge/keys/one.pub")
        ready = node.sh("systemctl restart faprompt-edge")
        wrong = c.still(node, before)
        c.table.add("then its key is installed", "it goes on running", f"code {ready.code}; {wrong or 'old runs'}" + node.journal()[-1500:] * bool(wrong), ready.code == 0 and not wrong)
        c.refused("unsigned release", node, before, c.flash(node, bare(c.new, "unsigned")), FLASH, "signature|there is none")
        c.refused("signed by another key", node, before, c.flash(node, bare(c.new, "wrong"), "--sign", place / "two.key"), FLASH, "does not match")
        node.put(place / "two.pub", "/etc/faprompt-edge/keys/two.pub")
        done = c.flash(node, bare(c.new, "second"), "--sign", place / "two.key")
        wrong = c.still(node, before, "new")
        c.table.add("both keys: signed by the new one", "runs", f"code {done.code}; {wrong or 'new runs'}" + done.out[-1500:] * bool(done.code), done.code == 0 and not wrong)
        node.check("rm /etc/faprompt-edge/keys/one.pub")
        ready = node.sh("systemctl restart faprompt-edge")
        wrong = c.still(node, before, "new")
        c.table.add("the old key is taken away", "the release of the new key runs on", f"code {ready.code}; {wrong or 'new runs'}", ready.code == 0 and not wrong)
        c.refused("signed by the key that was taken away", node, before, c.flash(node, bare(c.old, "late"), "--sign", place / "one.key"), FLASH, "does not match", "new")


def power_cuts(c):
    """One update on a disk whose writes are logged; then the disk as each cut would leave it, booted."""
    flat = c.folder / "flat"
    call("qemu-img", "convert", "-O", "raw", c.installed[0], flat)
    recorded = RecordedDisk(flat)
    with Node(c.rig, c.node, recorded.arguments(), c.log) as node:
        node.wait_ready()
        before = c.memory(node)
        node.check("sync")
        first = recorded.length()
        done = c.flash(node, c.new)
        node.check("sync")
        last = recorded.length()
        wrong = c.still(node, before, "new")
    c.table.add("the update that is cut", "runs through", f"code {done.code}; {last - first} writes and flushes; {wrong or 'new runs'}", done.code == 0 and not wrong)
    image, seen, failed, slowest, lost = c.folder / "cut", {"old": 0, "new": 0}, [], 0, 0
    places = recorded.places(c.points, first, last)
    for number, place in enumerate(places):
        dropped = recorded.crash(place, image)
        lost += dropped
        with Node(c.rig, c.node, plain(image, "unsafe"), c.log) as node:
            ready = node.wait_ready()
            which = c.runs(node) if ready is not None else "neither"
            damage = node.sh("dmesg | grep -E 'EXT4-fs (error|warning)'").out.strip()
            kept = c.memory(node) == before
            slowest = max(slowest, ready or 0)
            status = json.loads(node.sh("faprompt-edge slot status --json").out or "{}")
            if which not in seen or ready > LIMIT_S or not kept or damage:
                failed.append(f"{place}: runs {which}, ready {ready}, memory kept {kept}, {damage} {status}\n{node.journal()[-1500:]}")
            else:
                seen[which] += 1
            print(f"     cut {number + 1} of {len(places)}, at write {place - first} of {last - first}, {dropped} lost: {which}, READY {ready} s, booted in {node.boot_s:.0f} s", flush=True)
    c.table.add(f"power cut at {len(places)} places", f"old or new runs, READY within {LIMIT_S} s, memory kept",
                f"old {seen['old']}, new {seen['new']}, neither {len(failed)}; {lost} writes lost in all; slowest READY {slowest:.1f} s" + "\n".join(["", *failed])[:6000],
                not failed and min(seen.values()) > 0)


def cut_for_real(c):
    """The power goes while the update runs, and again while the node starts."""
    with tempfile.TemporaryDirectory(dir=c.folder) as place:
        disk = overlay(c.installed[0], Path(place, "disk.qcow2"))
        with Node(c.rig, c.node, plain(disk), c.log, c.installed[1]) as node:
            before = c.memory(node)
            command = [c.train, "flash", "--board", BOARD, "--bundle", c.new.bundle, "--to", "line@node", "--program", c.new.program,
                       "--program-version", c.new.version, "--package", c.deb, "--patience", "900"]
            flash = subprocess.Popen([str(w) for w in command], env=node.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            node.check("until grep -q 'started = true' /opt/faprompt-edge/state.toml; do sleep 0.1; done")
        flash.kill()
        flash.wait()
        with Node(c.rig, c.node, plain(disk), c.log) as node:
            wrong = c.still(node, before)
            c.table.add("power cut during the trial", "the next boot goes back to old", wrong or "old runs", not wrong)


def fleet(c):
    """Several stations, one of them first: this node, and two whose computers nobody finds."""
    stations = c.folder / "plant.toml"
    stations.write_text("".join(
        f'[[station]]\nname = "{name}"\nurl = "https://127.0.0.1:1"\nssh = "line@{host}"\nboard = "{BOARD}"\n'
        for name, host in (("line1", "node"), ("line2", "absent.invalid"), ("line3", "absent.invalid"))))
    with c.machine(c.installed) as node:
        before = c.memory(node)
        done = c.flashes(node, c.new, 900, "fleet", stations, "flash", "--canary", "line2")
        c.refused("fleet: the first station is not there", node, before, done, FLASH, "not begun, as one failed: line1, line3")
        done = c.flashes(node, c.new, 900, "fleet", stations, "flash")
        wrong = c.still(node, before, "new")
        failed = [line.split()[0] for line in done.out.splitlines() if re.match(r"line\d +FAILED", line)]
        ok = done.code == FLASH and not wrong and failed == ["line2", "line3"]
        c.table.add("fleet: this one first, then two that fail", f"new runs here, the others fail with {FLASH}",
                    f"code {done.code}, failed: {' '.join(failed)}; {wrong or 'new runs'}" + ("" if ok else "\n" + done.out[-3000:]), ok)


ALL = (the_package, from_nothing, update, fleet, broken_programs, broken_bundles, full_disk, cut_connection, signatures, cut_for_real, power_cuts)
