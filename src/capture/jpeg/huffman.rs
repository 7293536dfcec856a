//! Huffman tables (ITU-T T.81, annexes C and K.3), made for walking over codes without using what they say.

use super::JpegError;
use super::bits::Bits;

/// Bits that are looked up at once.
const LOOK: u32 = 11;
/// The longest code.
const LONGEST: usize = 16;
/// Coefficients of a block.
pub(super) const BLOCK: u32 = 64;

/// A table of DHT. The symbol of a DC code is how many bits follow; that of an AC code is the number of zeros
/// before the coefficient times 16, and how many bits follow.
pub(super) struct Table {
    /// What DHT says of it: how many codes of each length there are, and their symbols.
    source: Vec<u8>,
    /// By the next [`LOOK`] bits: the code's length times 256 and its symbol; 0: longer, or none.
    codes: Box<[u16; 1 << LOOK]>,
    /// By the next [`LOOK`] bits: as many whole AC codes as fit, with the bits that follow them. See [`Chain`].
    chains: Option<Box<[Chain; 1 << LOOK]>>,
    /// Codes of each length lie below this, filled up to 16 bits with zeros.
    limits: [u32; LONGEST + 1],
    /// What to add to a code of each length for the place of its symbol.
    offsets: [i32; LONGEST + 1],
}

/// Some AC codes in a row: bits 0 to 4 how many bits they take, 5 to 10 by how many coefficients they go on,
/// 15 whether the last one ends the block. 0: there is none.
#[derive(Clone, Copy, Default)]
pub(super) struct Chain(u16);

impl Chain {
    pub(super) fn bits(self) -> u32 {
        u32::from(self.0 & 31)
    }

    pub(super) fn coefficients(self) -> u32 {
        u32::from(self.0 >> 5 & 63)
    }

    pub(super) fn ends(self) -> bool {
        self.0 & 0x8000 != 0
    }

    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl Table {
    /// Of DHT's 16 numbers of codes and the symbols behind them.
    ///
    /// # Errors
    /// More codes than there can be.
    pub(super) fn new(source: &[u8]) -> Result<Table, JpegError> {
        let (counts, symbols) = source.split_at(LONGEST);
        let mut table = Table {
            source: source.to_vec(),
            codes: Box::new([0; 1 << LOOK]),
            chains: None,
            limits: [0; LONGEST + 1],
            offsets: [0; LONGEST + 1],
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=LONGEST {
            table.offsets[length] = place as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                if code >> length != 0 {
                    return Err(JpegError::damaged("a Huffman table has too many codes"));
                }
                if let Some(free) = LOOK.checked_sub(length as u32) {
                    let entry = (length as u16) << 8 | u16::from(symbols[place]);
                    let first = (code << free) as usize;
                    table.codes[first..first + (1 << free)].fill(entry);
                }
                code += 1;
                place += 1;
            }
            table.limits[length] = code << (LONGEST - length);
            code <<= 1;
        }
        Ok(table)
    }

    /// Whether DHT says this of it.
    pub(super) fn is(&self, source: &[u8]) -> bool {
        self.source == source
    }

    /// Takes the next code off; its symbol, or `None` if there is no such code. Needs 16 bits.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits) -> Option<u8> {
        let entry = self.codes[bits.peek(LOOK) as usize];
        if entry != 0 {
            bits.skip(u32::from(entry >> 8));
            return Some(entry as u8);
        }
        self.long(bits)
    }

    #[cold]
    fn long(&self, bits: &mut Bits) -> Option<u8> {
        let next = bits.peek(LONGEST as u32);
        let length = (LOOK as usize + 1..=LONGEST).find(|&l| next < self.limits[l])?;
        bits.skip(length as u32);
        let place = (next >> (LONGEST - length)) as i32 + self.offsets[length];
        let symbols = &self.source[LONGEST..];
        symbols.get(usize::try_from(place).ok()?).copied()
    }

    /// Prepares [`Table::chain`].
    pub(super) fn link(&mut self) {
        if self.chains.is_some() {
            return;
        }
        let mut chains = Box::new([Chain::default(); 1 << LOOK]);
        for (next, chain) in chains.iter_mut().enumerate() {
            let (mut used, mut coefficients, mut end) = (0, 0, 0);
            while used < LOOK {
                let rest = next << used & ((1 << LOOK) - 1);
                let entry = self.codes[rest];
                let length = u32::from(entry >> 8);
                if entry == 0 || length > LOOK - used {
                    break;
                }
                let Some((zeros, size)) = ac(entry as u8) else {
                    break;
                };
                let on = if size == 0 && zeros == 0 {
                    0
                } else {
                    zeros + 1
                };
                if coefficients + on >= BLOCK {
                    break;
                }
                used += length + size;
                coefficients += on;
                if on == 0 {
                    end = 0x8000;
                    break;
                }
            }
            *chain = Chain((used | coefficients << 5) as u16 | end);
        }
        self.chains = Some(chains);
    }

    /// The codes among the next [`LOOK`] bits. Needs [`Table::link`].
    #[inline(always)]
    pub(super) fn chain(&self, bits: &Bits) -> Chain {
        match &self.chains {
            Some(chains) => chains[bits.peek(LOOK) as usize],
            None => Chain::default(),
        }
    }
}

/// The zeros and the size of a sequential AC symbol; (0, 0) ends the block, (15, 0) is sixteen zeros. `None` if it
/// means nothing.
#[inline(always)]
pub(super) fn ac(symbol: u8) -> Option<(u32, u32)> {
    match (symbol >> 4, symbol & 15) {
        (0 | 15, 0) | (_, 1..=10) => Some((u32::from(symbol >> 4), u32::from(symbol & 15))),
        _ => None,
    }
}

/// The tables of T.81, K.3.3: those of pictures that have none, as DHT would say them. By class (0: DC, 1: AC)
/// and number.
pub(super) fn standard() -> [(usize, usize, Vec<u8>); 4] {
    let table = |counts: [u8; 16], symbols: &[u8]| [&counts, symbols].concat();
    let dc: Vec<u8> = (0..12).collect();
    [
        (
            0,
            0,
            table([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &dc),
        ),
        (
            0,
            1,
            table([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &dc),
        ),
        (
            1,
            0,
            table(
                [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
                &LUMA_AC,
            ),
        ),
        (
            1,
            1,
            table(
                [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
                &CHROMA_AC,
            ),
        ),
    ]
}

#[rustfmt::skip]
const LUMA_AC: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
    0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];
#[rustfmt::skip]
const CHROMA_AC: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
    0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];
