//! What stands before and between the scans of a JPEG file: its segments.

use super::JpegError;

/// Start of image, without its 0xff.
pub(super) const SOI: u8 = 0xd8;
/// End of image.
pub(super) const EOI: u8 = 0xd9;
/// Define Huffman tables.
pub(super) const DHT: u8 = 0xc4;
/// Start of scan.
pub(super) const SOS: u8 = 0xda;
/// The first of eight restart markers.
pub(super) const RST: u8 = 0xd0;

/// A component of the frame: a colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component {
    id: u8,
    /// Blocks of an interleaved MCU, across and down.
    pub(super) across: u32,
    pub(super) down: u32,
    /// The number of its quantisation table.
    quantisation: usize,
    /// That table's first step, by which DC is divided; 0: not known yet.
    step: u16,
}

impl Component {
    /// The largest DC that samples of 8 bits make, divided by its step: 1024 rounded, and one for encoders that
    /// round as they like.
    pub(super) fn most_dc(&self) -> i32 {
        1024 / i32::from(self.step.max(1)) + 2
    }
}

/// What SOF says.
#[derive(Clone, Debug)]
pub(super) struct FrameHeader {
    pub(super) progressive: bool,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: Vec<Component>,
    /// The most blocks of any component in an MCU.
    most_across: u32,
    most_down: u32,
}

impl FrameHeader {
    /// Of SOF's marker and what stands behind its length.
    pub(super) fn read(marker: u8, data: &[u8]) -> Result<FrameHeader, JpegError> {
        if let Some(what) = unread(marker) {
            return Err(JpegError::unsupported(what));
        }
        let [precision, y1, y0, x1, x0, count, rest @ ..] = data else {
            return Err(JpegError::damaged("a frame header that is too short"));
        };
        let (width, height) = (
            u32::from(u16::from_be_bytes([*x1, *x0])),
            u32::from(u16::from_be_bytes([*y1, *y0])),
        );
        match *precision {
            8 => (),
            12 => return Err(JpegError::unsupported("12 bits per sample")),
            _ => return Err(JpegError::damaged("a frame header without sense")),
        }
        let (entries, behind) = rest.as_chunks::<3>();
        if entries.len() != usize::from(*count) || !behind.is_empty() || width == 0 {
            return Err(JpegError::damaged("a frame header without sense"));
        }
        if height == 0 {
            return Err(JpegError::unsupported("its height stands behind the scan"));
        }
        let mut components = Vec::with_capacity(entries.len());
        for &[id, sampling, quantisation] in entries {
            let (across, down) = (u32::from(sampling >> 4), u32::from(sampling & 15));
            let twice = components.iter().any(|c: &Component| c.id == id);
            if twice || !(1..=4).contains(&across) || !(1..=4).contains(&down) || quantisation > 3 {
                return Err(JpegError::damaged("a component without sense"));
            }
            let quantisation = usize::from(quantisation);
            components.push(Component {
                id,
                across,
                down,
                quantisation,
                step: 0,
            });
        }
        if !matches!(components.len(), 1 | 3 | 4) {
            let what = format!("{} colour components", components.len());
            return Err(JpegError::Unsupported(what));
        }
        let most = |of: fn(&Component) -> u32| components.iter().map(of).max().unwrap_or(1);
        Ok(FrameHeader {
            progressive: marker == 0xc2,
            width,
            height,
            most_across: most(|c| c.across),
            most_down: most(|c| c.down),
            components,
        })
    }

    /// Interleaved MCUs, across and down.
    pub(super) fn mcus(&self) -> (u32, u32) {
        (
            self.width.div_ceil(8 * self.most_across),
            self.height.div_ceil(8 * self.most_down),
        )
    }

    /// A component's blocks that carry picture, across and down.
    pub(super) fn blocks(&self, component: &Component) -> (u32, u32) {
        let size = |length: u32, part: u32, most: u32| (length * part).div_ceil(most).div_ceil(8);
        (
            size(self.width, component.across, self.most_across),
            size(self.height, component.down, self.most_down),
        )
    }

    /// Takes the quantisation tables' first steps; whether every component has one.
    pub(super) fn quantise(&mut self, steps: [u16; 4]) -> bool {
        for component in &mut self.components {
            component.step = steps[component.quantisation];
        }
        self.components.iter().all(|c| c.step > 0)
    }
}

/// What a frame of this marker is, if it is not read.
fn unread(marker: u8) -> Option<&'static str> {
    match marker {
        0xc0..=0xc2 => None,
        0xc3 | 0xc7 => Some("lossless coding"),
        0xc5 | 0xc6 => Some("hierarchical coding"),
        _ => Some("arithmetic coding"),
    }
}

/// What a marker starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A frame.
    FrameHeader,
    /// Huffman tables.
    Huffman,
    /// Quantisation tables.
    Quantisation,
    /// The restart interval.
    Restart,
    /// A scan.
    Scan,
    /// Arithmetic coding's conditions.
    Arithmetic,
    /// The number of lines, behind the first scan.
    Lines,
    /// The end.
    End,
    /// Application data number n.
    Application(u8),
    /// Comments and the like.
    Skipped,
    /// A marker that has no business there, or none anywhere.
    Stray,
}

impl Kind {
    pub(super) fn of(marker: u8) -> Kind {
        match marker {
            DHT => Kind::Huffman,
            0xcc => Kind::Arithmetic,
            0xc8 => Kind::Stray,
            0xc0..=0xcf => Kind::FrameHeader,
            EOI => Kind::End,
            SOS => Kind::Scan,
            0xdb => Kind::Quantisation,
            0xdc => Kind::Lines,
            0xdd => Kind::Restart,
            0xe0..=0xef => Kind::Application(marker & 15),
            0xf0..=0xfe => Kind::Skipped,
            _ => Kind::Stray,
        }
    }
}

/// A component's part in a scan.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Its place in the frame.
    pub(super) component: usize,
    /// Its Huffman tables.
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// What SOS says.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// First and last coefficient, in zigzag order.
    pub(super) first: u32,
    pub(super) last: u32,
    /// Bits of the coefficients that are there already (0: this is their first scan), and that are left to come.
    pub(super) high: u8,
    pub(super) low: u8,
}

impl Scan {
    /// Of what stands behind SOS's length.
    pub(super) fn read(data: &[u8], frame: &FrameHeader) -> Result<Scan, JpegError> {
        let wrong = || JpegError::damaged("a scan header without sense");
        let (count, rest) = data.split_first().ok_or_else(wrong)?;
        let (entries, rest) = rest
            .split_at_checked(2 * usize::from(*count))
            .ok_or_else(wrong)?;
        let &[first, last, approximation] = rest else {
            return Err(wrong());
        };
        let mut parts: Vec<Part> = Vec::with_capacity(4);
        for &[id, tables] in entries.as_chunks::<2>().0 {
            let component = frame.components.iter().position(|c| c.id == id);
            let component = component.ok_or_else(wrong)?;
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            // In the frame's order, none twice.
            let before = parts.last().is_some_and(|p| p.component >= component);
            if before || dc > 3 || ac > 3 {
                return Err(wrong());
            }
            parts.push(Part { component, dc, ac });
        }
        let blocks = |p: &Part| {
            let c = &frame.components[p.component];
            c.across * c.down
        };
        if parts.is_empty() || parts.len() > 1 && parts.iter().map(blocks).sum::<u32>() > 10 {
            return Err(wrong());
        }
        Ok(Scan {
            parts,
            first: u32::from(first),
            last: u32::from(last),
            high: approximation >> 4,
            low: approximation & 15,
        })
    }
}

/// Takes the first steps of DQT's tables.
pub(super) fn quantisation(mut data: &[u8], steps: &mut [u16; 4]) -> Result<(), JpegError> {
    while let Some((&what, rest)) = data.split_first() {
        let (bytes, number) = (1 + usize::from(what >> 4), usize::from(what & 15));
        let (table, rest) = match rest.split_at_checked(64 * bytes) {
            Some(split) if bytes <= 2 && number <= 3 => split,
            _ => {
                let what = "a quantisation table of another size";
                return Err(JpegError::damaged(what));
            }
        };
        // By zero nothing was divided.
        let value = |step: &[u8]| step.iter().fold(0, |n, b| n << 8 | u16::from(*b));
        let mut values = table.chunks_exact(bytes).map(value);
        steps[number] = values.next().unwrap_or(0);
        if steps[number] == 0 || values.any(|step| step == 0) {
            return Err(JpegError::damaged("a quantisation table with zeros"));
        }
        data = rest;
    }
    Ok(())
}

/// The tables of a DHT: class (0: DC, 1: AC), number, and what [`super::huffman::Table::new`] is made of.
pub(super) fn huffman(
    mut data: &[u8],
) -> impl Iterator<Item = Result<(usize, usize, &[u8]), JpegError>> {
    std::iter::from_fn(move || {
        let (&what, rest) = data.split_first()?;
        let (class, number) = (usize::from(what >> 4), usize::from(what & 15));
        let counts = rest.get(..16).unwrap_or_default();
        let symbols: usize = counts.iter().map(|n| usize::from(*n)).sum();
        let split = rest.split_at_checked(16 + symbols);
        let Some((table, rest)) = split.filter(|_| class <= 1 && number <= 3 && symbols <= 256)
        else {
            data = &[];
            let what = "a Huffman table of another size";
            return Some(Err(JpegError::damaged(what)));
        };
        data = rest;
        Some(Ok((class, number, table)))
    })
}
