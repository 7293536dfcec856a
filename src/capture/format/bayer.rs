//! A colour sensor's raw samples to RGB: black level, lens shading, white balance, bilinear interpolation.
//!
//! Samples are brought to 8 bits one by one, then interpolated: for the network's 8-bit input that is
//! as good as the other way round, and three rows of bytes stay in the first cache.

use super::flat::Shading;
use super::{BayerOrder, Layout, Roi, Samples};

/// How raw samples become pictures. The default takes them as they are.
///
/// - Black level: cap the lens, take the mean sample (v4l2-ctl --stream-to, or the sensor's data sheet:
///   Sony's have 60 of 1023 or 240 of 4095, as a rule).
/// - White balance: put a grey card under the line's own light, take the three colours' means above
///   black, and divide green by each: `[g/r, 1.0, g/b]`.
/// - Shift: V4L2's formats hold 10 or 12 bits in the low bits. Jetson Xavier and its successors fill the
///   high bits instead (6 for RAW10, 4 for RAW12); pictures far too bright say so.
/// - Transfer curve: sensors are linear, photographs are not, and the network was trained on photographs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Development {
    /// The sample of no light, in the format's own steps.
    pub black_level: u16,
    /// Factors for red, green, blue.
    pub white_balance: [f32; 3],
    /// Bits by which samples are shifted up in their 16-bit words.
    pub sample_shift: u8,
    /// Whether to apply sRGB's transfer curve (IEC 61966-2-1).
    pub srgb_curve: bool,
}

impl Default for Development {
    fn default() -> Self {
        Development {
            black_level: 0,
            white_balance: [1.0; 3],
            sample_shift: 0,
            srgb_curve: false,
        }
    }
}

impl Development {
    /// By how many bits samples that are stored in this way are shifted up: packed and 8-bit ones have no room.
    pub(super) fn shift(&self, samples: Samples) -> u32 {
        match samples {
            Samples::Bits10 | Samples::Bits12 => u32::from(self.sample_shift).min(15),
            _ => 0,
        }
    }

    /// One channel's table from sample to 8 bits. 16-bit samples go by their upper 12 bits, so that all
    /// three tables stay in the first cache.
    fn table(&self, channel: usize, bits: u32) -> Vec<u8> {
        let full = f64::from(1u32 << bits);
        let black = f64::from(self.black_level);
        let gain = f64::from(self.white_balance[channel]) * 256.0 / (full - black);
        let step = 1u32 << (bits - bits.min(12));
        (0..1u32 << bits.min(12))
            .map(|i| {
                let value = (f64::from(i * step) - black) * gain;
                let value = if self.srgb_curve {
                    let linear = (value / 255.0).clamp(0.0, 1.0);
                    255.0
                        * if linear <= 0.003_130_8 {
                            12.92 * linear
                        } else {
                            1.055 * linear.powf(1.0 / 2.4) - 0.055
                        }
                } else {
                    value
                };
                // Cut, not rounded: 8 bits that a driver padded to 10 come out as they were. (A float that is too
                // large becomes 255, NaN becomes 0.)
                value as u8
            })
            .collect()
    }
}

/// Three neighbouring rows at 8 bits, and the tables that make them.
pub(super) struct Demosaic {
    order: BayerOrder,
    samples: Samples,
    shift: u32,
    /// One per channel: red, green, blue.
    tables: [Vec<u8>; 3],
    /// Row y lies in slot y % 3, one column of neighbours on either side.
    rows: [Vec<u8>; 3],
    pub(super) shading: Option<Shading>,
}

impl Demosaic {
    pub(super) fn new(
        order: BayerOrder,
        samples: Samples,
        roi: &Roi,
        development: &Development,
    ) -> Self {
        let row = vec![0; roi.width as usize + 2];
        Demosaic {
            order,
            samples,
            shift: development.shift(samples),
            tables: [0, 1, 2].map(|channel| development.table(channel, samples.bits())),
            rows: [row.clone(), row.clone(), row],
            shading: None,
        }
    }

    /// Converts the region. The frame has the layout's size at least.
    pub(super) fn develop(&mut self, frame: &[u8], layout: &Layout, roi: &Roi, rgb: &mut [u8]) {
        let (x, y) = (roi.x as usize, roi.y as usize);
        let (width, height) = (roi.width as usize, roi.height as usize);
        let last = layout.height as usize - 1;
        for row in y.saturating_sub(1)..=y {
            self.load(row, frame, layout, x, width);
        }
        let (red_x, red_y) = self.order.red();
        for (row, out) in (y..y + height).zip(rgb.chunks_exact_mut(3 * width)) {
            if row < last {
                self.load(row + 1, frame, layout, x, width);
            }
            // Beyond the edge the picture is mirrored, which keeps the colours' order.
            let above = if row == 0 { 1 } else { row - 1 };
            let below = if row == last { last - 1 } else { row + 1 };
            let [above, here, below] = [above, row, below].map(|r| self.rows[r % 3].as_slice());
            interpolate(above, here, below, row % 2 == red_y, x % 2 == red_x, out);
        }
    }

    /// Brings a row to 8 bits, columns x - 1 to x + width, mirrored at the picture's edges.
    fn load(&mut self, y: usize, frame: &[u8], layout: &Layout, x: usize, width: usize) {
        let (red_x, red_y) = self.order.red();
        let row = &frame[y * layout.stride..];
        let last = layout.width as usize - 1;
        // The colours of even and odd columns in this row.
        let colour = if y % 2 == red_y { 0 } else { 2 };
        let even_is_green = (red_x == 0) != (y % 2 == red_y);
        let tables = if even_is_green {
            [&self.tables[1], &self.tables[colour]]
        } else {
            [&self.tables[colour], &self.tables[1]]
        };
        let slot = &mut self.rows[y % 3];
        let (samples, shift) = (self.samples, self.shift);
        if let Some(shading) = &self.shading {
            let (gains, left) = shading.row(y);
            // 16 bits are looked up by their upper 12.
            let cut = samples.bits() - samples.bits().min(12);
            return fill(slot, x, width, last, tables, |x| {
                shading.lift(samples.read(row, x) >> shift, gains[x - left]) >> cut
            });
        }
        // One loop per way of storing, so that the choice stays out of the loop.
        match samples {
            Samples::Bits8 => fill(slot, x, width, last, tables, |x| usize::from(row[x])),
            Samples::Bits10 => fill(slot, x, width, last, tables, |x| {
                Samples::Bits10.read(row, x) >> shift
            }),
            Samples::Bits12 => fill(slot, x, width, last, tables, |x| {
                Samples::Bits12.read(row, x) >> shift
            }),
            Samples::Bits16 => fill(slot, x, width, last, tables, |x| {
                Samples::Bits16.read(row, x) >> 4
            }),
            Samples::Packed10 => fill(slot, x, width, last, tables, |x| {
                Samples::Packed10.read(row, x)
            }),
            Samples::Packed12 => fill(slot, x, width, last, tables, |x| {
                Samples::Packed12.read(row, x)
            }),
        }
    }
}

/// Looks up columns x - 1 to x + width of a row. A sample beyond its table (bits that should be zero)
/// counts as the brightest.
fn fill(
    slot: &mut [u8],
    x: usize,
    width: usize,
    last: usize,
    tables: [&Vec<u8>; 2],
    sample: impl Fn(usize) -> usize,
) {
    let at = |x: usize| {
        let table = tables[x % 2];
        table[sample(x).min(table.len() - 1)]
    };
    slot[0] = at(if x == 0 { 1 } else { x - 1 });
    for (i, value) in slot[1..=width].iter_mut().enumerate() {
        *value = at(x + i);
    }
    slot[width + 1] = at(if x + width > last {
        last - 1
    } else {
        x + width
    });
}

/// One row of pixels. The slices start one column to the left of it.
fn interpolate(
    above: &[u8],
    here: &[u8],
    below: &[u8],
    red_row: bool,
    mut coloured: bool,
    out: &mut [u8],
) {
    let two = |a: u8, b: u8| (u16::from(a) + u16::from(b)).div_ceil(2) as u8;
    let four = |a: u8, b: u8, c: u8, d: u8| {
        ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) / 4) as u8
    };
    // In rows of blue samples red and blue change places, columns likewise.
    if !red_row {
        coloured = !coloured;
    }
    let (own, other) = if red_row { (0, 2) } else { (2, 0) };
    let neighbours = above.windows(3).zip(here.windows(3)).zip(below.windows(3));
    for (((n, h), s), pixel) in neighbours.zip(out.chunks_exact_mut(3)) {
        if coloured {
            pixel[own] = h[1];
            pixel[1] = four(n[1], h[0], h[2], s[1]);
            pixel[other] = four(n[0], n[2], s[0], s[2]);
        } else {
            pixel[own] = two(h[0], h[2]);
            pixel[1] = h[1];
            pixel[other] = two(n[1], s[1]);
        }
        coloured = !coloured;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_take_black_off_and_balance_whites() {
        let plain = Development::default();
        for bits in [8, 10, 12, 16] {
            let table = plain.table(0, bits);
            let per = table.len() / 256;
            assert!(
                table
                    .iter()
                    .enumerate()
                    .all(|(i, &v)| usize::from(v) == i / per)
            );
        }
        let sony = Development {
            black_level: 60,
            white_balance: [2.0, 1.0, 1.0],
            ..plain
        };
        let (red, green) = (sony.table(0, 10), sony.table(1, 10));
        assert_eq!((green[0], green[60], green[1023]), (0, 0, 255));
        // Half of what is above black.
        assert_eq!((green[542], red[542], red[301]), (128, 255, 128));
        let curve = Development {
            srgb_curve: true,
            ..plain
        };
        // 18 % grey is 118 of 255 in sRGB.
        assert!((117..=119).contains(&curve.table(1, 12)[737]));
    }
}
