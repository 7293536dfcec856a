//! How a frame is cut into tiles: rows and columns of equal size that lie over each other's edges.
//!
//! Each tile fills the encoder's whole input, so that small defects and long parts keep their pixels. Knows
//! shares and pixels; nothing of networks.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most rows, and most columns.
pub const MOST: u8 = 8;
/// How much of a tile's side lies in its neighbour if nothing else is said, percent.
pub const OVERLAP: u8 = 10;
/// Most of it, percent.
pub const WIDEST: u8 = 50;

/// Rows and columns of tiles, and how far neighbours lie over each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Tiling {
    rows: u8,
    columns: u8,
    /// Percent of a tile's side; 0 of a whole frame.
    overlap: u8,
}

/// How a file says it: as text, or 1 for a frame that is not cut.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Count(u64),
    Text(String),
}

/// Pixels of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A tile's part of an axis: where it begins and how long it is, shares of the axis.
fn share(tile: u8, tiles: u8, overlap: u8) -> (f32, f32) {
    let over = f32::from(overlap) / 100.0;
    let length = 1.0 / (f32::from(tiles) - f32::from(tiles - 1) * over);
    match tiles {
        1 => (0.0, 1.0),
        n => (f32::from(tile) * (1.0 - length) / f32::from(n - 1), length),
    }
}

/// The same in whole pixels: all tiles of an axis are equally long, and the last one ends with the axis.
fn pixels(tile: u8, tiles: u8, overlap: u8, whole: u32) -> (u32, u32) {
    let (_, length) = share(0, tiles, overlap);
    let length = ((whole as f32 * length).ceil() as u32).clamp(whole.min(1), whole);
    let last = u32::from(tiles - 1).max(1);
    let first =
        (u64::from(tile) * u64::from(whole - length) + u64::from(last / 2)) / u64::from(last);
    (first as u32, length)
}

impl Default for Tiling {
    /// A frame that is not cut.
    fn default() -> Self {
        Tiling::WHOLE
    }
}

impl Tiling {
    /// One tile: the frame as it is.
    pub const WHOLE: Tiling = Tiling {
        rows: 1,
        columns: 1,
        overlap: 0,
    };

    /// Two tiles, one above the other.
    #[cfg(test)]
    pub(crate) const TWO: Tiling = Tiling {
        rows: 2,
        columns: 1,
        overlap: OVERLAP,
    };

    /// Rows and columns of 1..=[`MOST`], and an overlap of 0..=[`WIDEST`] percent of a tile's side.
    ///
    /// # Errors
    /// What is out of range.
    pub fn new(rows: u32, columns: u32, overlap: u32) -> Result<Tiling, String> {
        let most = u32::from(MOST);
        if !(1..=most).contains(&rows) || !(1..=most).contains(&columns) {
            return Err(format!("{rows}x{columns}: 1 to {MOST} rows and columns"));
        }
        if overlap > u32::from(WIDEST) {
            return Err(format!("an overlap of {overlap} %: 0 to {WIDEST}"));
        }
        Ok(Tiling {
            rows: rows as u8,
            columns: columns as u8,
            overlap: if rows * columns == 1 {
                0
            } else {
                overlap as u8
            },
        })
    }

    /// The number of tiles.
    pub fn count(self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Whether the frame is not cut at all.
    pub fn is_whole(self) -> bool {
        self.count() == 1
    }

    /// The row and the column of a tile; tiles are counted row by row.
    fn place(self, tile: usize) -> (u8, u8) {
        let columns = usize::from(self.columns);
        ((tile / columns) as u8, (tile % columns) as u8)
    }

    /// A tile's pixels of a frame of this size; all tiles are equally large.
    pub fn area(self, tile: usize, width: u32, height: u32) -> Area {
        let (row, column) = self.place(tile);
        let (x, width) = pixels(column, self.columns, self.overlap, width);
        let (y, height) = pixels(row, self.rows, self.overlap, height);
        Area {
            x,
            y,
            width,
            height,
        }
    }

    /// A tile's left, top, right and bottom as shares of the frame, 0..=1.
    pub fn shares(self, tile: usize) -> [f32; 4] {
        let (row, column) = self.place(tile);
        let (x, width) = share(column, self.columns, self.overlap);
        let (y, height) = share(row, self.rows, self.overlap);
        [x, y, x + width, y + height]
    }

    /// For each of `points` points of the frame's height: the rows of tiles that see it, where in a tile of
    /// `cells` cells it lies (the cell above, the cell below, the weight of the second), and how much that
    /// tile says, the less the nearer its edge is. What all of them say adds up to 1.
    pub(crate) fn down(self, points: usize, cells: usize) -> Vec<Vec<Sight>> {
        sights(self.rows, self.overlap, points, cells)
    }

    /// The same across its width.
    pub(crate) fn across(self, points: usize, cells: usize) -> Vec<Vec<Sight>> {
        sights(self.columns, self.overlap, points, cells)
    }

    /// Columns of tiles.
    pub(crate) fn columns(self) -> usize {
        self.columns.into()
    }
}

/// What a row or a column of tiles sees of a point.
pub(crate) struct Sight {
    pub(crate) tile: usize,
    pub(crate) cells: (usize, usize, f32),
    pub(crate) weight: f32,
}

fn sights(tiles: u8, overlap: u8, points: usize, cells: usize) -> Vec<Vec<Sight>> {
    // Rounding leaves no point between two tiles.
    const SLACK: f32 = 1e-4;
    let of = |point: usize| {
        let at = (point as f32 + 0.5) / points as f32;
        let sees = |tile: u8| {
            let (first, length) = share(tile, tiles, overlap);
            let inside = (at - first).min(first + length - at);
            let cell = ((at - first) / length * cells as f32 - 0.5).clamp(0.0, cells as f32 - 1.0);
            let low = cell as usize;
            (inside >= -SLACK).then(|| Sight {
                tile: tile.into(),
                cells: (low, (low + 1).min(cells - 1), cell - low as f32),
                weight: inside.max(SLACK),
            })
        };
        let mut seen: Vec<Sight> = (0..tiles).filter_map(sees).collect();
        let sum: f32 = seen.iter().map(|s| s.weight).sum();
        seen.iter_mut().for_each(|s| s.weight /= sum);
        seen
    };
    (0..points).map(of).collect()
}

/// `2x3`, and `2x3+20` where the overlap is not [`OVERLAP`].
impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)?;
        match self.is_whole() || self.overlap == OVERLAP {
            true => Ok(()),
            false => write!(f, "+{}", self.overlap),
        }
    }
}

impl FromStr for Tiling {
    type Err = String;

    fn from_str(text: &str) -> Result<Tiling, String> {
        let wrong = || format!("`{text}`: ROWSxCOLUMNS, as in 2x3, or with an overlap 2x3+20");
        let (size, overlap) = match text.split_once('+') {
            None => (text, u32::from(OVERLAP)),
            Some((size, overlap)) => (size, overlap.parse().map_err(|_| wrong())?),
        };
        let (rows, columns) = size.split_once('x').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        Tiling::new(number(rows)?, number(columns)?, overlap)
    }
}

impl TryFrom<Written> for Tiling {
    type Error = String;

    fn try_from(written: Written) -> Result<Tiling, String> {
        match written {
            Written::Count(1) => Ok(Tiling::WHOLE),
            Written::Count(n) => Err(format!("{n} tiles, of which nobody says how they lie")),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Tiling> for Written {
    fn from(tiling: Tiling) -> Written {
        match tiling.is_whole() {
            true => Written::Count(1),
            false => Written::Text(tiling.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_tiles_of_a_long_part() {
        let tiling: Tiling = "3x1+25".parse().unwrap();
        // 3 t - 2 * 0.25 t = 1250.
        let tops = [0, 1, 2].map(|tile| tiling.area(tile, 500, 1250));
        assert_eq!(tops.map(|a| a.y), [0, 375, 750]);
        assert!(
            tops.iter()
                .all(|a| (a.x, a.width, a.height) == (0, 500, 500))
        );
        let [left, top, right, bottom] = tiling.shares(1);
        assert_eq!((left, right), (0.0, 1.0));
        assert!((top - 0.3).abs() < 1e-6 && (bottom - 0.7).abs() < 1e-6);
    }

    #[test]
    fn words_on_the_command_line_and_in_files() {
        let shown = |text: &str| text.parse::<Tiling>().map(|t| t.to_string());
        assert_eq!(shown("2x3"), Ok("2x3".into()));
        assert_eq!(shown("2x3+10"), Ok("2x3".into()));
        assert_eq!(shown("8x1+0"), Ok("8x1+0".into()));
        assert_eq!("1x1+30".parse(), Ok(Tiling::WHOLE));
        for text in [
            "0x1", "9x1", "2x3+51", "2x", "x", "2x3x4", "2x3+", "-1x2", "2 x 3",
        ] {
            assert!(shown(text).is_err(), "{text}");
        }
        let written = |tiling: Tiling| serde_json::to_string(&tiling).unwrap();
        assert_eq!(written(Tiling::WHOLE), "1");
        let cut = "2x3+20".parse().unwrap();
        assert_eq!(written(cut), "\"2x3+20\"");
        assert_eq!(serde_json::from_str::<Tiling>(&written(cut)).unwrap(), cut);
        assert_eq!(serde_json::from_str::<Tiling>("1").unwrap(), Tiling::WHOLE);
        assert!(serde_json::from_str::<Tiling>("4").is_err());
    }

    proptest! {
        /// Every pixel lies in a tile, none outside of the frame, and tiles are equally large.
        #[test]
        fn tiles_cover_the_frame(rows in 1u32..=8, columns in 1u32..=8, overlap in 0u32..=50,
                                 width in 1u32..300, height in 1u32..300) {
            let tiling = Tiling::new(rows, columns, overlap).unwrap();
            let areas: Vec<Area> = (0..tiling.count()).map(|t| tiling.area(t, width, height)).collect();
            let size = (areas[0].width, areas[0].height);
            prop_assert!(areas.iter().all(|a| (a.width, a.height) == size && size.0 > 0 && size.1 > 0));
            prop_assert!(areas.iter().all(|a| a.x + a.width <= width && a.y + a.height <= height));
            for x in 0..width {
                prop_assert!(areas.iter().any(|a| (a.x..a.x + a.width).contains(&x)), "column {x}");
            }
            for y in 0..height {
                prop_assert!(areas.iter().any(|a| (a.y..a.y + a.height).contains(&y)), "row {y}");
            }
        }

        /// What tiles say of a point adds up to 1.
        #[test]
        fn every_point_is_seen(rows in 1u32..=8, overlap in 0u32..=50, points in 1usize..300) {
            let tiling = Tiling::new(rows, 1, overlap).unwrap();
            for seen in tiling.down(points, 7) {
                let sum: f32 = seen.iter().map(|s| s.weight).sum();
                prop_assert!((sum - 1.0).abs() < 1e-4);
                prop_assert!(seen.iter().all(|s| s.cells.1 < 7 && (0.0..=1.0).contains(&s.cells.2)));
            }
        }
    }
}
