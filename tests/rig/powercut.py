"""Power cuts at every moment: a disk whose writes are logged, and what it holds if the power goes in between.

QEMU logs each write and flush. A crash point is a place in that log: what was written before the last
flush is there, of what came later each write is there or not. The images are checked on the host with
e2fsck (which replays the journal, as a mount would) and read with debugfs; no machine boots per point.
"""

import os
import random
import struct
import subprocess
import tempfile
from collections import namedtuple
from pathlib import Path

from qemu import RigError

FLUSH, FUA, DISCARD = 1, 2, 4  # dm-log-writes, Linux Documentation/admin-guide/device-mapper/log-writes.rst
DISK_MB, LOG_MB, SECTOR = 16, 2048, 512

PATHS = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
Write = namedtuple("Write", "sector flags data")


class LoggedDisk:
    """An ext4 disk for the machine, /dev/vda in the guest."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="powercut.")
        self.disk, self.log, self.image = (Path(self.dir.name, n) for n in ("disk", "log", "image"))
        run(["truncate", "-s", f"{DISK_MB}M", self.disk])
        run(["mkfs.ext4", "-q", "-F", self.disk])
        run(["truncate", "-s", f"{LOG_MB}M", self.log])  # sparse
        self.base = self.disk.read_bytes()

    def arguments(self):
        nodes = [f"driver=file,filename={self.disk},node-name=disk", f"driver=file,filename={self.log},node-name=log"]
        nodes += [f"driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size={SECTOR},log-super-update-interval=1"]
        return [word for node in nodes for word in ("-blockdev", node)] + ["-device", "virtio-blk-pci,drive=logged"]

    def length(self):
        """Entries so far: what is acknowledged now is kept by every crash point from here on."""
        with open(self.log, "rb") as log:
            return struct.unpack("<QQQ", log.read(24))[2]

    def writes(self):
        found = []
        with open(self.log, "rb") as log:
            count, place = self.length(), SECTOR
            for _ in range(count):
                log.seek(place)
                sector, sectors, flags, _ = struct.unpack("<QQQQ", log.read(32))
                place += SECTOR
                log.seek(place)
                data = log.read(sectors * SECTOR) if not flags & DISCARD else b""
                place += len(data)
                found.append(Write(sector, flags, data))
        return found

    def crash_points(self, count, first=0, last=None, seed=1):
        """Yields (place, a function that reads a file or returns None) for `count` places of a part of the log."""
        log, dice = self.writes()[:last], random.Random(seed)
        for place in sorted(dice.sample(range(first, len(log) + 1), min(count, len(log) + 1 - first))):
            image = bytearray(self.base)
            flushed = max((i for i in range(place) if log[i].flags & FLUSH), default=-1)
            kept = dice.choice((0, 0.5, 1))  # of the writes that no flush covers
            for i, write in enumerate(log[:place]):
                if i < flushed or write.flags & FUA or dice.random() < kept:
                    image[write.sector * SECTOR : write.sector * SECTOR + len(write.data)] = write.data
            self.image.write_bytes(image)
            repair = subprocess.run(["e2fsck", "-fy", self.image], capture_output=True, text=True, env=PATHS)
            if repair.returncode > 1:
                raise RigError(f"crash point {place}: the file system itself is damaged: {repair.stdout}")
            yield place, self._read

    def _read(self, path):
        out = Path(self.dir.name, "file")
        out.unlink(missing_ok=True)
        run(["debugfs", "-R", f"dump {path} {out}", self.image])
        return out.read_bytes() if out.exists() else None


def run(command):
    subprocess.run(command, check=True, capture_output=True, env=PATHS)
