//! Progressive pictures: scans that bring some coefficients, or one more bit of them.

use super::JpegError;
use super::bits::Bits;
use super::header::{FrameHeader, Scan};
use super::huffman::Table;
use super::walk::{Brightness, Segment, Wrong};

/// Stands for a coefficient that no scan brought yet.
const NONE: u8 = u8::MAX;

/// What the scans of a picture brought so far.
#[derive(Default)]
pub(super) struct Progress {
    /// Bits that are left to come, by component and coefficient.
    left: Vec<[u8; 64]>,
    /// By component: which coefficients of each block are not zero, a bit each.
    filled: Vec<Vec<u64>>,
}

impl Progress {
    /// A new picture.
    pub(super) fn start(&mut self, frame: &FrameHeader) {
        self.left.clear();
        self.left.resize(frame.components.len(), [NONE; 64]);
        self.filled.resize_with(frame.components.len(), Vec::new);
        for (component, filled) in frame.components.iter().zip(&mut self.filled) {
            let (across, down) = frame.blocks(component);
            let blocks = match frame.progressive {
                true => across as usize * down as usize,
                false => 0,
            };
            filled.clear();
            filled.resize(blocks, 0);
        }
    }

    /// One more scan: it must bring what is due.
    pub(super) fn scan(&mut self, scan: &Scan, frame: &FrameHeader) -> Result<(), JpegError> {
        let wrong = || JpegError::damaged("a scan that is not due");
        let (first, last) = match frame.progressive {
            // Some encoders write other numbers, which mean nothing here.
            false => (0, 63),
            true => (scan.first as usize, scan.last as usize),
        };
        let (high, low) = match frame.progressive {
            false => (0, 0),
            true => (scan.high, scan.low),
        };
        if frame.progressive {
            let fits = match first {
                0 => last == 0,
                _ => first <= last && last <= 63 && scan.parts.len() == 1,
            };
            if !fits || low > 13 || high > 0 && high != low + 1 {
                return Err(JpegError::damaged("a scan header without sense"));
            }
        }
        for part in &scan.parts {
            let left = &mut self.left[part.component];
            if first > 0 && left[0] == NONE {
                return Err(wrong());
            }
            for left in &mut left[first..=last] {
                let due = match high {
                    0 => NONE,
                    high => high,
                };
                if *left != due {
                    return Err(wrong());
                }
                *left = low;
            }
        }
        Ok(())
    }

    /// The picture is over: all of it must be there.
    pub(super) fn end(&self) -> Result<(), JpegError> {
        match self.left.iter().flatten().all(|left| *left == 0) {
            true => Ok(()),
            false => Err(JpegError::damaged("a scan is missing")),
        }
    }

    /// The walk over a scan of AC coefficients.
    pub(super) fn ac<'a>(&'a mut self, table: &'a Table, scan: &Scan) -> Ac<'a> {
        Ac {
            table,
            first: scan.first,
            last: scan.last,
            refines: scan.high > 0,
            blocks: self.filled[scan.parts[0].component].iter_mut(),
            run: 0,
        }
    }
}

/// The first scan of DC coefficients.
pub(super) struct Dc<'a> {
    /// The table of each block of an MCU, and whose it is.
    pub(super) blocks: Vec<(&'a Table, usize)>,
    /// By part of the scan.
    pub(super) brightness: [Brightness; 4],
}

impl Segment for Dc<'_> {
    fn mcu(&mut self, bits: &mut Bits) -> Result<(), Wrong> {
        for (table, part) in &self.blocks {
            bits.refill();
            self.brightness[*part & 3].add(bits, table)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Wrong> {
        self.brightness.iter_mut().for_each(Brightness::restart);
        Ok(())
    }

    fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

/// One more bit of each DC coefficient: so many blocks in an MCU.
pub(super) struct DcBits(pub(super) u32);

impl Segment for DcBits {
    fn mcu(&mut self, bits: &mut Bits) -> Result<(), Wrong> {
        bits.refill();
        bits.skip(self.0);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Wrong> {
        Ok(())
    }
}

/// AC coefficients of one component, or one more bit of them.
pub(super) struct Ac<'a> {
    table: &'a Table,
    first: u32,
    last: u32,
    refines: bool,
    blocks: std::slice::IterMut<'a, u64>,
    /// Blocks in which no further coefficient becomes other than zero.
    run: u32,
}

/// Bits `from` to `to`, both included.
fn span(from: u32, to: u32) -> u64 {
    u64::MAX << from & u64::MAX >> (63 - to)
}

impl Segment for Ac<'_> {
    fn mcu(&mut self, bits: &mut Bits) -> Result<(), Wrong> {
        let Some(filled) = self.blocks.next() else {
            return Ok(());
        };
        let mut place = self.first;
        while self.run == 0 && place <= self.last {
            bits.refill();
            let symbol = self.table.symbol(bits).ok_or(Wrong::Code)?;
            let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && zeros < 15 {
                self.run = (1 << zeros) + bits.number(zeros);
                break;
            }
            if self.refines {
                if size > 1 {
                    return Err(Wrong::Code);
                }
                bits.skip(size);
                place = refine(bits, filled, place, self.last, zeros, size)?;
            } else {
                if size > 10 {
                    return Err(Wrong::Code);
                }
                bits.skip(size);
                place += zeros;
                if place > self.last {
                    return Err(Wrong::Coefficient);
                }
                *filled |= u64::from(size > 0) << place;
                place += 1;
            }
        }
        if self.run > 0 {
            self.run -= 1;
            if self.refines && place <= self.last {
                let due = *filled & span(place, self.last);
                bits.skip_many(u64::from(due.count_ones()));
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Wrong> {
        match std::mem::take(&mut self.run) {
            0 => Ok(()),
            _ => Err(Wrong::Run),
        }
    }
}

/// Goes over `zeros` coefficients that stay zero to the next one that is zero so far, which becomes other than
/// zero if it has a `size`. Those in between that are not zero have a bit each. Returns the place behind.
fn refine(
    bits: &mut Bits,
    filled: &mut u64,
    place: u32,
    last: u32,
    zeros: u32,
    size: u32,
) -> Result<u32, Wrong> {
    let mut empty = !*filled & span(place, last);
    for _ in 0..zeros {
        empty &= empty.wrapping_sub(1);
    }
    if empty == 0 {
        return Err(Wrong::Coefficient);
    }
    let end = empty.trailing_zeros();
    let due = *filled & span(place, end);
    bits.skip_many(u64::from(due.count_ones()));
    *filled |= u64::from(size) << end;
    Ok(end + 1)
}
