//! Bits of an entropy-coded segment, without the bytes that are stuffed into it.

/// Reads bits, the highest first. Behind the end come zeros without end: whoever reads asks how many bits were
/// [taken](Bits::taken).
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Bytes that are in `next` or were.
    at: usize,
    /// The next bits, from the highest one on.
    next: u64,
    /// How many of them are bits of the data.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        let (at, next, count) = (0, 0, 0);
        Bits {
            data,
            at,
            next,
            count,
        }
    }

    /// Has at least 56 bits there.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let word = match self.data.get(self.at..).and_then(|d| d.first_chunk()) {
            Some(word) => u64::from_be_bytes(*word),
            None => self.last(),
        };
        self.next |= word >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
    }

    /// The last bytes, and zeros.
    #[cold]
    fn last(&self) -> u64 {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(word)
    }

    /// The next bits, 1 to 32 of them; they stay there.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u32 {
        (self.next >> (64 - count)) as u32
    }

    /// Takes bits off, no more than are there.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.next <<= count;
        self.count -= count;
    }

    /// Takes a number of 0 to 15 bits off.
    #[inline(always)]
    pub(super) fn number(&mut self, count: u32) -> u32 {
        let number = (self.next >> 1 >> (63 - count)) as u32;
        self.skip(count);
        number
    }

    /// Takes any number of bits off.
    pub(super) fn skip_many(&mut self, mut count: u64) {
        while count > 0 {
            self.refill();
            let some = count.min(48) as u32;
            self.skip(some);
            count -= u64::from(some);
        }
    }

    /// How many bits were taken off so far; more than there are, if it ended too early.
    #[inline(always)]
    pub(super) fn taken(&self) -> u64 {
        self.at as u64 * 8 - u64::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_order_and_zeros_behind_them() {
        let data: Vec<u8> = (0..23).map(|i| i * 37 + 11).collect();
        let all: Vec<u32> = data
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |i| u32::from(byte >> i & 1)))
            .chain([0; 64])
            .collect();
        for step in 1..=15 {
            let (mut bits, mut at) = (Bits::new(&data), 0);
            while at + step < all.len() {
                bits.refill();
                let wanted = all[at..at + step].iter().fold(0, |n, bit| n << 1 | bit);
                assert_eq!(bits.peek(step as u32), wanted);
                assert_eq!(bits.number(step as u32), wanted);
                at += step;
                assert_eq!(bits.taken(), at as u64);
            }
            assert_eq!(bits.number(0), 0);
            bits.skip_many(1000);
            assert_eq!(bits.taken(), at as u64 + 1000);
        }
    }
}
