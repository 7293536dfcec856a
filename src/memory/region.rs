//! Regions of the picture: rectangles and polygons that are judged or left out.
//!
//! A small TOML file:
//!
//! ```toml
//! [[region]]
//! name = "thread"
//! rectangle = [0.1, 0.2, 0.9, 0.8]   # left, top, right, bottom; 0..1 of the picture's width and height
//! offset = 0.05                      # added to the threshold here
//!
//! [[region]]
//! name = "date stamp"
//! exclude = true
//! polygon = [[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]
//! ```
//!
//! If no region is to be judged, the whole picture is, except for what is left out. A patch counts if more than
//! half of it is judged; where regions overlap, the last one's offset applies.

use crate::tiling::Tiling;
use serde::{Deserialize, Serialize};

/// Most regions that a picture may have.
pub const MOST: usize = 32;
/// Most corners that a polygon may have.
const CORNERS: usize = 64;
/// Points along each side of a patch that are tested for lying in a region.
const POINTS: usize = 8;

/// Why regions cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum RegionError {
    /// The file cannot be read, is not TOML, or has an unknown key.
    #[error("{0}")]
    File(String),
    /// One region cannot be used.
    #[error("region {number} (`{name}`): {what}")]
    Region {
        /// Its number in the file, from 1.
        number: usize,
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// No patch is judged by it: it is smaller than one, and another region's offset counts there, or none.
    #[error(
        "region {number} (`{name}`) decides nothing: it is smaller than a patch, which is {patch} of the picture; make it larger"
    )]
    TooSmall {
        /// Its number in the file, from 1.
        number: usize,
        /// Its name.
        name: String,
        /// A patch's shares of the picture's width and height, in percent.
        patch: String,
    },
    /// No patch would be judged.
    #[error("the regions leave no patch of the picture to be looked at: every part would be good")]
    Nothing,
}

/// A region of the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name for people.
    pub name: String,
    /// Whether it is left out instead of judged.
    #[serde(default)]
    pub exclude: bool,
    /// Left, top, right, bottom as shares of the picture's width and height, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rectangle: Option<[f32; 4]>,
    /// Corners, x and y as shares of the picture's width and height, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polygon: Option<Vec<[f32; 2]>>,
    /// Added to the threshold in this region, -1..=1.
    #[serde(default)]
    pub offset: f32,
}

/// The regions of a picture, checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    /// The regions in the order of the file.
    #[serde(default, rename = "region")]
    all: Vec<Region>,
}

impl Region {
    /// Its corners as a polygon, also of a rectangle.
    pub fn corners(&self) -> Vec<[f32; 2]> {
        match (&self.polygon, self.rectangle) {
            (Some(corners), _) => corners.clone(),
            (None, Some([l, t, r, b])) => vec![[l, t], [r, t], [r, b], [l, b]],
            (None, None) => vec![],
        }
    }

    fn check(&self) -> Result<(), String> {
        match (&self.rectangle, &self.polygon) {
            (Some(_), Some(_)) => return Err("a rectangle and a polygon; give one of them".into()),
            (None, None) => return Err("neither a rectangle nor a polygon".into()),
            (Some([l, t, r, b]), None) if !(l < r && t < b) => {
                return Err(format!(
                    "rectangle = [{l}, {t}, {r}, {b}]: left is to be below right, and top below bottom"
                ));
            }
            (None, Some(corners)) if !(3..=CORNERS).contains(&corners.len()) => {
                return Err(format!(
                    "a polygon of {} corners; 3 to {CORNERS}",
                    corners.len()
                ));
            }
            _ => (),
        }
        let outside = |v: &f32| !(0.0..=1.0).contains(v);
        if let Some(v) = self.corners().as_flattened().iter().find(|v| outside(v)) {
            return Err(format!("{v} is not in 0..1 of the picture"));
        }
        if !(-1.0..=1.0).contains(&self.offset) {
            return Err(format!("offset = {} is not in -1..1", self.offset));
        }
        if self.exclude && self.offset != 0.0 {
            return Err("what is left out has no threshold: drop `offset`".into());
        }
        Ok(())
    }

    /// Whether a point lies inside a polygon: a ray to the right crosses its edges an odd number of times.
    fn holds(corners: &[[f32; 2]], [x, y]: [f32; 2]) -> bool {
        let mut inside = false;
        for (i, [x1, y1]) in corners.iter().enumerate() {
            let [x2, y2] = corners[(i + 1) % corners.len()];
            if (*y1 > y) != (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 {
                inside = !inside;
            }
        }
        inside
    }
}

/// A group of patches with one threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Added to the threshold for these patches, -1..=1.
    pub offset: f32,
    /// For each patch of the picture, in raster order: whether it belongs to the group.
    pub patches: Vec<bool>,
}

/// The patches of a grid that are judged, in groups by threshold. A patch is in one group or in none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Looked(Vec<Group>);

impl Looked {
    /// All patches of the picture, in one group.
    pub fn everywhere(patches: usize) -> Looked {
        Looked(vec![Group {
            offset: 0.0,
            patches: vec![true; patches],
        }])
    }

    /// The groups, at least one.
    pub fn groups(&self) -> &[Group] {
        &self.0
    }

    /// Whether a patch is judged.
    pub fn counts(&self, patch: usize) -> bool {
        self.0.iter().any(|g| g.patches[patch])
    }

    /// The part of it in one tile of `patches` patches: the same groups, some of which may have no patch there.
    pub(crate) fn tile(&self, tile: usize, patches: usize) -> Looked {
        let group = |g: &Group| Group {
            offset: g.offset,
            patches: g.patches[tile * patches..][..patches].to_vec(),
        };
        Looked(self.0.iter().map(group).collect())
    }

    /// Sets the scores of patches that are not judged to 0.
    pub fn mask(&self, scores: &mut [f32]) {
        for (patch, score) in scores.iter_mut().enumerate() {
            if !self.counts(patch) {
                *score = 0.0;
            }
        }
    }

    /// Whether it is made for this many patches, and any of them is judged.
    pub fn is_of(&self, patches: usize) -> bool {
        let fits = |g: &Group| g.patches.len() == patches && g.offset.abs() <= 1.0;
        self.0.iter().all(fits) && self.0.iter().any(|g| g.patches.contains(&true))
    }
}

/// Whether an offset of a region raises `threshold` so far that no score, which is 0..=1, lies above it.
pub(crate) fn blinds(threshold: f32, offset: f32) -> bool {
    threshold < 1.0 && threshold + offset >= 1.0
}

impl Regions {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`RegionError`]: not TOML, an unknown key, or a shape that is none.
    pub fn parse(text: &str) -> Result<Regions, RegionError> {
        let regions: Regions =
            toml::from_str(text).map_err(|e| RegionError::File(e.to_string().trim().into()))?;
        regions.check()?;
        Ok(regions)
    }

    /// Refuses shapes that are none.
    ///
    /// # Errors
    /// [`RegionError`] with the region and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), RegionError> {
        if self.all.len() > MOST {
            let what = format!("{} regions; at most {MOST}", self.all.len());
            return Err(RegionError::File(what));
        }
        for (region, number) in self.all.iter().zip(1..) {
            region.check().map_err(|what| RegionError::Region {
                number,
                name: region.name.clone(),
                what,
            })?;
        }
        Ok(())
    }

    /// Whether there are no regions, so that the whole picture is judged.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The regions, in the order of the file.
    pub fn all(&self) -> &[Region] {
        &self.all
    }

    /// By how much they raise the threshold at most, 0..=1; 0 if they raise it nowhere.
    pub fn highest_offset(&self) -> f32 {
        let looked = self.all.iter().filter(|r| !r.exclude);
        looked.fold(0.0, |most, region| most.max(region.offset))
    }

    /// Whether they raise `threshold` so far that no score lies above it somewhere: that is their doing, not that of a
    /// threshold of 1.
    pub fn blinds(&self, threshold: f32) -> bool {
        blinds(threshold, self.highest_offset())
    }

    /// The patches that are judged, of `grid` x `grid` patches in each tile. Each has the offset that counts at most of its
    /// points, the lower one of two that count at as many.
    ///
    /// # Errors
    /// [`RegionError::Nothing`] if there are none, [`RegionError::TooSmall`] if one of the regions has none that has its
    /// offset.
    pub fn on(&self, grid: usize, tiles: Tiling) -> Result<Looked, RegionError> {
        let patches = tiles.count() * grid * grid;
        let any_included = self.all.iter().any(|r| !r.exclude);
        let shapes: Vec<(Vec<[f32; 2]>, &Region)> =
            self.all.iter().map(|r| (r.corners(), r)).collect();
        let mut groups: Vec<Group> = vec![];
        let mut decides = vec![false; self.all.len()];
        for cell in 0..patches {
            let (tile, place) = (cell / (grid * grid), cell % (grid * grid));
            let [left, top, right, bottom] = tiles.shares(tile);
            let mut inside = 0;
            // For each region how many points it decides, and one more for where there are only exclusions.
            let mut points = vec![0; self.all.len() + 1];
            for point in 0..POINTS * POINTS {
                let along = |place: usize, point: usize, (from, to): (f32, f32)| {
                    let share = (place as f32 + (point as f32 + 0.5) / POINTS as f32) / grid as f32;
                    from + (to - from) * share
                };
                let at = [
                    along(place % grid, point % POINTS, (left, right)),
                    along(place / grid, point / POINTS, (top, bottom)),
                ];
                let mut last = (!any_included).then_some(self.all.len());
                let mut left_out = false;
                for (number, (corners, region)) in shapes.iter().enumerate() {
                    if Region::holds(corners, at) {
                        left_out |= region.exclude;
                        if !region.exclude {
                            last = Some(number);
                        }
                    }
                }
                if let Some(number) = last.filter(|_| !left_out) {
                    points[number] += 1;
                    inside += 1;
                }
            }
            if inside <= POINTS * POINTS / 2 {
                continue;
            }
            let offset_of = |number: usize| self.all.get(number).map_or(0.0, |r| r.offset);
            let counting = |offset: f32| -> usize {
                let own = points
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| offset_of(*n) == offset);
                own.map(|(_, points)| points).sum()
            };
            let there = (0..points.len()).filter(|n| points[*n] > 0).map(offset_of);
            let more = |a: &f32, b: &f32| counting(*a).cmp(&counting(*b)).then(b.total_cmp(a));
            let offset = there.max_by(more).unwrap_or_default();
            for (number, decides) in decides.iter_mut().enumerate() {
                *decides |= points[number] > 0 && offset_of(number) == offset;
            }
            let group = match groups.iter().position(|g| g.offset == offset) {
                Some(known) => known,
                None => {
                    groups.push(Group {
                        offset,
                        patches: vec![false; patches],
                    });
                    groups.len() - 1
                }
            };
            groups[group].patches[cell] = true;
        }
        if groups.is_empty() {
            return Err(RegionError::Nothing);
        }
        let [left, top, right, bottom] = tiles.shares(0);
        let percent = |length: f32| 100.0 * length / grid as f32;
        let small = self
            .all
            .iter()
            .zip(decides)
            .position(|(r, decides)| !r.exclude && !decides);
        match small {
            None => Ok(Looked(groups)),
            Some(number) => Err(RegionError::TooSmall {
                number: number + 1,
                name: self.all[number].name.clone(),
                patch: format!(
                    "{:.1} x {:.1} %",
                    percent(right - left),
                    percent(bottom - top)
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_in_and_out() {
        let text = "[[region]]\nname = \"a\"\nrectangle = [0, 0, 0.5, 1]\noffset = 0.1\n\
                    [[region]]\nname = \"b\"\nexclude = true\npolygon = [[0, 0], [0.5, 0], [0, 1]]";
        let looked = Regions::parse(text).unwrap().on(4, Tiling::WHOLE).unwrap();
        // The left half, without the triangle that has its upper left corner.
        let want = [
            0, 0, 0, 0, //
            0, 1, 0, 0, //
            0, 1, 0, 0, //
            1, 1, 0, 0,
        ];
        let [group] = looked.groups() else {
            panic!("{looked:?}")
        };
        assert_eq!(
            (group.offset, want.map(|w| w == 1).to_vec()),
            (0.1, group.patches.clone())
        );
        assert!(looked.counts(5) && !looked.counts(0) && looked.is_of(16) && !looked.is_of(15));
        let other = "[[region]]\nname = \"c\"\nrectangle = [0.5, 0, 1, 1]\n";
        let two = Regions::parse(&format!("{text}\n{other}"))
            .unwrap()
            .on(4, Tiling::WHOLE)
            .unwrap();
        let offsets: Vec<f32> = two.groups().iter().map(|g| g.offset).collect();
        assert_eq!(offsets, [0.0, 0.1]);
        let all = Regions::default().on(2, Tiling::TWO).unwrap();
        assert_eq!(all, Looked::everywhere(8));
    }

    #[test]
    fn a_threshold_of_1_is_no_regions_doing() {
        let raised = Regions::parse(
            "[[region]]\nname = \"a\"\nrectangle = [0, 0, 0.5, 1]\noffset = 0.25\n\
             [[region]]\nname = \"b\"\nrectangle = [0.5, 0, 1, 1]\noffset = -0.25\n",
        )
        .unwrap();
        assert!(raised.blinds(0.75) && !raised.blinds(0.5));
        assert!(!raised.blinds(1.0) && !Regions::default().blinds(1.0));
    }

    /// A patch of 16 is a quarter of the side.
    #[test]
    fn a_region_that_no_patch_would_go_by_is_refused_by_name() {
        let region = |name: &str, rectangle: &str, offset: f32| {
            format!("[[region]]\nname = \"{name}\"\nrectangle = {rectangle}\noffset = {offset}\n")
        };
        let on = |text: &str| Regions::parse(text).unwrap().on(4, Tiling::WHOLE);
        let left = region("left", "[0, 0, 0.5, 1]", 0.0);
        let small = region("small", "[0.6, 0.6, 0.65, 0.65]", -0.9);
        let error = on(&format!("{left}{small}")).unwrap_err();
        assert!(matches!(&error, RegionError::TooSmall { number: 2, name, .. } if name == "small"));
        assert!(
            error.to_string().contains("25.0 x 25.0 % of the picture"),
            "{error}"
        );
        // Inside another one its offset would not count, and with the same offset it changes nothing.
        let within = region("small", "[0.1, 0.1, 0.15, 0.15]", -0.9);
        assert!(on(&format!("{left}{within}")).is_err());
        let same = region("small", "[0.1, 0.1, 0.15, 0.15]", 0.0);
        assert!(on(&format!("{left}{same}")).is_ok());
        // Two strips of an eighth each are a patch wide together.
        let strips =
            region("a", "[0.5, 0, 0.625, 1]", 0.1) + &region("b", "[0.625, 0, 0.75, 1]", 0.1);
        assert!(on(&strips).is_ok());
        // A part that is left out may be as small as it likes.
        let hole =
            "[[region]]\nname = \"hole\"\nexclude = true\nrectangle = [0.6, 0.6, 0.65, 0.65]\n";
        assert!(on(&format!("{left}{hole}")).is_ok());
    }

    #[test]
    fn a_patch_goes_by_the_offset_of_most_of_its_points() {
        let text = "[[region]]\nname = \"strict\"\nrectangle = [0, 0, 0.45, 1]\noffset = -0.2\n\
                    [[region]]\nname = \"lax\"\nrectangle = [0.45, 0, 1, 1]\noffset = 0.1\n";
        let looked = Regions::parse(text).unwrap().on(2, Tiling::WHOLE).unwrap();
        let strict = looked.groups().iter().find(|g| g.offset == -0.2).unwrap();
        assert_eq!(strict.patches, [true, false, true, false]);
    }

    #[test]
    fn a_region_is_where_it_is_in_every_tile() {
        let text = "[[region]]\nname = \"low\"\nrectangle = [0, 0.5, 1, 1]";
        let looked = Regions::parse(text).unwrap().on(10, Tiling::TWO).unwrap();
        // A tile is 1 / 1.9 of the height: the lower half begins 0.95 down the first one, and 0.053 down the
        // second, in the middle of its first row of patches.
        let rows = |tile: usize| -> Vec<usize> {
            let of = looked.tile(tile, 100);
            (0..10).filter(|row| of.counts(row * 10)).collect()
        };
        assert!(rows(0).is_empty(), "{:?}", rows(0));
        assert_eq!(rows(1), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("[[region]]\nname = \"x\"", "neither a rectangle"),
            (
                "[[region]]\nname = \"x\"\nrectangle = [0.5, 0, 0.1, 1]",
                "region 1 (`x`): rectangle",
            ),
            (
                "[[region]]\nname = \"x\"\nrectangle = [0, 0, 1, 7]",
                "7 is not in 0..1",
            ),
            (
                "[[region]]\nname = \"x\"\nrectangle = [0, nan, 1, 1]",
                "left is to be below right",
            ),
            (
                "[[region]]\nname = \"x\"\npolygon = [[0, 0], [1, 1]]",
                "2 corners",
            ),
            (
                "[[region]]\nname = \"x\"\nrectangle = [0, 0, 1, 1]\noffset = 2",
                "offset = 2",
            ),
            (
                "[[region]]\nname = \"x\"\nexclude = true\nrectangle = [0, 0, 1, 1]\noffset = 0.1",
                "no threshold",
            ),
            ("[[region]]\nname = \"x\"\ncircle = 1", "circle"),
            ("region = 7", "region"),
        ] {
            let error = Regions::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let nothing = "[[region]]\nname = \"x\"\nexclude = true\nrectangle = [0, 0, 1, 1]";
        let nothing = Regions::parse(nothing).unwrap();
        assert_eq!(nothing.on(3, Tiling::WHOLE), Err(RegionError::Nothing));
    }
}
