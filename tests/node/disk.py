"""Power cuts in the middle of an update: the node's disk with every write logged, and what it holds if the
power goes at some place in that log.

As in the rig's powercut.py, but of a disk that is started from again: what was written before the last
flush is there; of what came later each write is there or not.
"""

import os
import random
import struct
import subprocess
import tempfile
from collections import namedtuple
from pathlib import Path

import node  # the rig's folder is on the path from here on
from powercut import DISCARD, FLUSH, FUA, SECTOR, LoggedDisk

Entry = namedtuple("Entry", "sector flags place bytes")  # the data lie in the log, at `place`


class RecordedDisk(LoggedDisk):
    """A copy of the disk `base` for a machine."""

    def __init__(self, base):
        self.dir = tempfile.TemporaryDirectory(prefix="node.disk.", dir=base.parent)
        self.base = base
        self.disk, self.log = (Path(self.dir.name, n) for n in ("disk", "log"))
        copy(base, self.disk)
        self.log.touch()
        os.truncate(self.log, 64 << 30)  # sparse

    def entries(self):
        found, place = [], SECTOR
        with open(self.log, "rb") as log:
            for _ in range(self.length()):
                log.seek(place)
                sector, sectors, flags, _ = struct.unpack("<QQQQ", log.read(32))
                place += SECTOR
                size = 0 if flags & DISCARD else sectors * SECTOR
                found.append(Entry(sector, flags, place, size))
                place += size
        return found

    def places(self, count, first, last, seed=1):
        """Where to cut: a third right before and a third right behind a flush, the others anywhere."""
        dice = random.Random(seed)
        flushes = [i for i, e in enumerate(self.entries()[:last]) if e.flags & FLUSH and i >= first]
        chosen = {first, last}
        for near in (flushes, [i + 1 for i in flushes], range(first, last)):
            left = sorted(set(near) - chosen)
            chosen.update(dice.sample(left, min(len(left), (count + 2) // 3)))
        left = sorted(set(range(first, last)) - chosen)
        chosen.update(dice.sample(left, max(0, min(len(left), count - len(chosen)))))
        return sorted(dice.sample(sorted(chosen), min(count, len(chosen))))

    def crash(self, place, image, seed=1):
        """Makes `image`: the disk after a power cut at `place`. Returns how many writes were lost."""
        entries, dice = self.entries()[:place], random.Random(seed * 100_003 + place)
        flushed = max((i for i, e in enumerate(entries) if e.flags & FLUSH), default=-1)
        kept = dice.choice((0, 0.5, 1))  # of the writes that no flush covers
        lost = 0
        copy(self.base, image)
        with open(self.log, "rb") as log, open(image, "r+b") as out:
            for i, entry in enumerate(entries):
                if not entry.bytes:
                    continue
                if i < flushed or entry.flags & FUA or dice.random() < kept:
                    log.seek(entry.place)
                    out.seek(entry.sector * SECTOR)
                    out.write(log.read(entry.bytes))
                else:
                    lost += 1
        return lost


def copy(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)

