//! The walk over the codes of a scan.

use super::bits::Bits;
use super::header::{FrameHeader, Part, RST, Scan};
use super::huffman::{BLOCK, Table, ac};
use super::{Checker, JpegError};
use memchr::memchr;
use std::ops::Range;

/// What is wrong with the codes of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wrong {
    /// There is no such code, or it means nothing here.
    Code,
    /// A coefficient behind the last one of its block.
    Coefficient,
    /// A run of blocks without coefficients goes on behind the segment.
    Run,
    /// A block brighter or darker than samples can be.
    Brightness,
}

impl Wrong {
    fn text(self) -> &'static str {
        match self {
            Wrong::Code => "a code that no table has",
            Wrong::Coefficient => "more coefficients than a block has",
            Wrong::Run => "a run that does not end",
            Wrong::Brightness => "brighter or darker than a picture can be",
        }
    }
}

/// Codes of `MCUs`, segment by segment.
pub(super) trait Segment {
    /// Walks over one more MCU.
    fn mcu(&mut self, bits: &mut Bits) -> Result<(), Wrong>;

    /// The segment is over: the next one starts anew.
    fn end(&mut self) -> Result<(), Wrong>;

    /// Blocks of an MCU.
    fn blocks(&self) -> usize {
        1
    }
}

/// DC of a component, which each block adds to.
#[derive(Clone, Copy, Default)]
pub(super) struct Brightness {
    now: i32,
    most: i32,
}

impl Brightness {
    /// Of a scan's parts, without the bits that are left to later scans.
    pub(super) fn of(frame: &FrameHeader, scan: &Scan) -> [Brightness; 4] {
        let mut all = [Brightness::default(); 4];
        for (part, of) in scan.parts.iter().zip(&mut all) {
            of.most = (frame.components[part.component].most_dc() >> scan.low) + 1;
        }
        all
    }

    /// Takes a DC code off, and what it adds.
    #[inline(always)]
    pub(super) fn add(&mut self, bits: &mut Bits, table: &Table) -> Result<(), Wrong> {
        let size = table.symbol(bits).filter(|size| *size <= 11);
        let size = u32::from(size.ok_or(Wrong::Code)?);
        // The lower half of the numbers of a size stands for negative ones.
        let number = bits.number(size) as i32;
        let negative = number >> size.saturating_sub(1) == 0 && size > 0;
        self.now += number - (i32::from(negative) * ((1 << size) - 1));
        match self.now.abs() <= self.most {
            true => Ok(()),
            false => Err(Wrong::Brightness),
        }
    }

    /// Starts anew.
    pub(super) fn restart(&mut self) {
        self.now = 0;
    }
}

/// A scan of a sequential picture: all coefficients of its components.
struct Sequential<'a> {
    /// The tables of each block of an MCU, and whose it is.
    blocks: Vec<(&'a Table, &'a Table, usize)>,
    /// By part of the scan.
    brightness: [Brightness; 4],
}

impl Segment for Sequential<'_> {
    #[inline(always)]
    fn mcu(&mut self, bits: &mut Bits) -> Result<(), Wrong> {
        for (dc, ac, part) in &self.blocks {
            bits.refill();
            self.brightness[*part & 3].add(bits, dc)?;
            block(bits, ac)?;
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

/// Walks over the AC codes of a sequential picture's block.
#[inline(always)]
fn block(bits: &mut Bits, ac_table: &Table) -> Result<(), Wrong> {
    bits.refill();
    // A chain takes at most 21 of the 56 bits.
    let mut place = 1;
    loop {
        for _ in 0..2 {
            let chain = ac_table.chain(bits);
            if chain.is_none() || place + chain.coefficients() >= BLOCK {
                bits.refill();
                match ac_table.symbol(bits).and_then(ac) {
                    Some((0, 0)) => return Ok(()),
                    Some((zeros, size)) => {
                        bits.skip(size);
                        place += zeros + 1;
                    }
                    None => return Err(Wrong::Code),
                }
                if place >= BLOCK {
                    return match place {
                        BLOCK => Ok(()),
                        _ => Err(Wrong::Coefficient),
                    };
                }
                break;
            }
            bits.skip(chain.bits());
            place += chain.coefficients();
            if chain.ends() {
                return Ok(());
            }
        }
        bits.refill();
    }
}

impl Checker {
    /// Walks over the scan whose codes begin `at`; where the marker behind it is.
    pub(super) fn walk(
        &mut self,
        data: &[u8],
        at: usize,
        frame: &FrameHeader,
        scan: &Scan,
        restart: u32,
    ) -> Result<usize, JpegError> {
        let blocks = |part: usize| &frame.components[scan.parts[part].component];
        let (across, down) = match scan.parts.len() {
            1 => frame.blocks(blocks(0)),
            _ => frame.mcus(),
        };
        let total = across * down;
        let (has_dc, has_ac) = match frame.progressive {
            false => (true, true),
            // A scan that refines DC has no codes, one of AC none of DC.
            true => (scan.first == 0 && scan.high == 0, scan.first > 0),
        };
        for part in &scan.parts {
            let missing = has_dc && !self.set[0][part.dc] || has_ac && !self.set[1][part.ac];
            if missing {
                return Err(JpegError::damaged("a Huffman table is missing"));
            }
            if let (false, Some(table)) = (frame.progressive, &mut self.tables[1][part.ac]) {
                table.link();
            }
        }
        let Checker {
            tables: [dc, ac],
            segment,
            progress,
            ..
        } = self;
        let mut walker = Walker {
            data,
            at,
            total,
            restart,
            segment,
        };
        // How often a part's block comes in an MCU.
        let times = |part: usize| match scan.parts.len() {
            1 => 1,
            _ => (blocks(part).across * blocks(part).down) as usize,
        };
        let parts = scan.parts.iter().enumerate();
        if frame.progressive {
            let first = scan.parts[0];
            let count: usize = parts.map(|(i, _)| times(i)).sum();
            let order = parts_in_order(scan, times);
            match (scan.first, scan.high) {
                (0, 0) => walker.run(super::progressive::Dc {
                    blocks: order
                        .filter_map(|(part, table)| Some((dc[table].as_ref()?, part)))
                        .collect(),
                    brightness: Brightness::of(frame, scan),
                }),
                (0, _) => walker.run(super::progressive::DcBits(count as u32)),
                _ => match ac[first.ac].as_ref() {
                    Some(table) => walker.run(progress.ac(table, scan)),
                    None => Err(JpegError::damaged("a Huffman table is missing")),
                },
            }
        } else {
            let block =
                |i: usize, part: &Part| Some((dc[part.dc].as_ref()?, ac[part.ac].as_ref()?, i));
            let blocks = parts.flat_map(|(i, part)| std::iter::repeat_n(block(i, part), times(i)));
            walker.run(Sequential {
                blocks: blocks.flatten().collect(),
                brightness: Brightness::of(frame, scan),
            })
        }
    }
}

/// Bytes that may be left over before a marker: the encoders of some USB cameras fill up to whole words, with whatever
/// was there.
const EXTRANEOUS: u64 = 7;
/// Bits of a block without coefficients, at most: one code of DC and one of AC, and what DC adds.
const EMPTY_BLOCK: u64 = 43;
/// The same byte so often in a row is looked at.
const HOLLOW: usize = 64;

/// Where the next run of at least [`HOLLOW`] equal bytes is, behind so many bits; in bits. Bytes that were lost and
/// filled up (with zeros, mostly) are codes, too, and of a fine picture they may be as many MCUs as were lost; but
/// blocks that have coefficients are never of one byte.
fn next_hollow(segment: &[u8], behind: u64) -> Range<u64> {
    let mut at = behind.div_ceil(8) as usize;
    // A run has a whole word of equal bytes at one of these places.
    at = at.next_multiple_of(HOLLOW / 2);
    while let Some(word) = segment.get(at..).and_then(|s| s.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        if word == word.rotate_left(8) {
            let byte = segment[at];
            let before = segment[..at].iter().rev().take_while(|b| **b == byte);
            let start = at - before.count();
            let length = segment[start..].iter().take_while(|b| **b == byte).count();
            if length >= HOLLOW {
                return 8 * start as u64..8 * (start + length) as u64;
            }
        }
        at += HOLLOW / 2;
    }
    u64::MAX..u64::MAX
}

/// The part of the scan that each block of an MCU belongs to, and the number of its DC table.
fn parts_in_order(
    scan: &Scan,
    times: impl Fn(usize) -> usize,
) -> impl Iterator<Item = (usize, usize)> {
    let parts = scan.parts.iter().enumerate();
    parts.flat_map(move |(i, part)| std::iter::repeat_n((i, part.dc), times(i)))
}

/// Goes over a scan, from restart to restart.
struct Walker<'a> {
    data: &'a [u8],
    at: usize,
    /// MCUs of the scan.
    total: u32,
    /// MCUs between restart markers; 0: there are none.
    restart: u32,
    segment: &'a mut Vec<u8>,
}

impl Walker<'_> {
    fn run(&mut self, mut codes: impl Segment) -> Result<usize, JpegError> {
        let (mut done, mut number) = (0, 0);
        loop {
            let marker = self.unstuff()?;
            let left = self.total - done;
            let count = match self.restart {
                0 => left,
                interval => interval.min(left),
            };
            self.segment(&mut codes, done, count)?;
            done += count;
            if done == self.total {
                return Ok(self.at);
            }
            let total = self.total;
            if marker != RST + number {
                return Err(JpegError::Damaged(match marker.wrapping_sub(RST) {
                    other @ 0..8 => format!("restart {other} instead of {number}"),
                    _ => format!("the scan ends behind MCU {done} of {total}"),
                }));
            }
            number = (number + 1) % 8;
            self.at += 2;
            // Filled up before the marker.
            while self.data.get(self.at - 1) == Some(&0xff) {
                self.at += 1;
            }
        }
    }

    /// Walks over the MCUs of one segment.
    fn segment(
        &mut self,
        codes: &mut impl Segment,
        done: u32,
        count: u32,
    ) -> Result<(), JpegError> {
        let total = self.total;
        let wrong = |mcu: u32, wrong: Wrong| {
            JpegError::Damaged(format!("MCU {mcu} of {total}: {}", wrong.text()))
        };
        let mut bits = Bits::new(self.segment);
        let end = 8 * self.segment.len() as u64;
        let mut hollow = next_hollow(self.segment, 0);
        for mcu in done + 1..=done + count {
            let before = bits.taken();
            let walked = codes.mcu(&mut bits);
            if bits.taken() > end {
                let what = format!("the data end in MCU {mcu} of {total}");
                return Err(JpegError::Damaged(what));
            }
            walked.map_err(|e| wrong(mcu, e))?;
            if bits.taken() > hollow.end {
                hollow = next_hollow(self.segment, hollow.end);
            }
            let long = bits.taken() - before > EMPTY_BLOCK * codes.blocks() as u64;
            if long && before >= hollow.start && bits.taken() <= hollow.end {
                let what = format!("MCU {mcu} of {total} is of one byte again and again");
                return Err(JpegError::Damaged(what));
            }
        }
        codes.end().map_err(|e| wrong(done + count, e))?;
        let left = end - bits.taken();
        if left >= 8 * (EXTRANEOUS + 1) {
            let mcu = done + count;
            let what = format!("{} bytes too many behind MCU {mcu} of {total}", left / 8);
            return Err(JpegError::Damaged(what));
        }
        if left < 8 {
            // Padded with ones; some encoders pad with zeros.
            bits.refill();
            let padding = bits.number(left as u32);
            if padding != 0 && padding != (1 << left) - 1 {
                let what = format!("bits too many behind MCU {} of {total}", done + count);
                return Err(JpegError::Damaged(what));
            }
        }
        Ok(())
    }

    /// Takes the bytes up to the next marker, without those that are stuffed in; returns the marker, and `at` is
    /// where it begins.
    fn unstuff(&mut self) -> Result<u8, JpegError> {
        self.segment.clear();
        loop {
            let rest = self.data.get(self.at..).unwrap_or_default();
            let run = memchr(0xff, rest).ok_or_else(JpegError::cut_off)?;
            self.segment.extend_from_slice(&rest[..run]);
            self.at += run;
            let fill = rest[run..].iter().take_while(|byte| **byte == 0xff).count();
            match rest.get(run + fill) {
                None => return Err(JpegError::cut_off()),
                Some(0) => {
                    self.segment.push(0xff);
                    self.at += fill + 1;
                }
                Some(marker) => return Ok(*marker),
            }
        }
    }
}
