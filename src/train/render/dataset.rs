//! Rendered pictures as a data set on disk, in AnomalyCLIP's layout.

use super::{Picture, pair};
use crate::train::TrainError;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes `scenes` pairs of `side` pixels to `folder`: `images/`, `masks/` and `meta.json`, whose classes
/// are the products and whose species are the defect words.
///
/// # Errors
/// [`TrainError::Output`]: the file cannot be written.
pub fn write(
    folder: &Path,
    seed: u64,
    scenes: u32,
    side: usize,
    bar: &ProgressBar,
) -> Result<(), TrainError> {
    let failed = |path: &Path, source| TrainError::Output {
        path: path.into(),
        source,
    };
    for name in ["images", "masks"] {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).map_err(|e| failed(&path, e))?;
    }
    let one = |index: u32| -> Result<Vec<(String, serde_json::Value)>, TrainError> {
        let save = |image: &dyn Fn(&Path) -> image::ImageResult<()>, name: &str| {
            let path = folder.join(name);
            image(&path).map_err(|e| failed(&path, std::io::Error::other(e)))
        };
        let (normal, abnormal) = pair(seed, index.into(), side);
        let describe =
            |p: &Picture, kind: &str| -> Result<(String, serde_json::Value), TrainError> {
                let image = format!("images/{index:06}-{kind}.png");
                save(&|path| p.image.save(path), &image)?;
                let mask = if p.defect.is_some() {
                    let mask = format!("masks/{index:06}.png");
                    save(&|path| p.mask.save(path), &mask)?;
                    mask
                } else {
                    String::new()
                };
                let record = json!({
                    "img_path": image,
                    "mask_path": mask,
                    "cls_name": p.product,
                    "specie_name": p.defect.map_or("good", |d| d.word()),
                    "anomaly": u8::from(p.defect.is_some()),
                });
                Ok((p.product.to_string(), record))
            };
        let records = vec![describe(&normal, "good")?, describe(&abnormal, "bad")?];
        bar.inc(1);
        Ok(records)
    };
    let records: Vec<_> = (0..scenes)
        .into_par_iter()
        .map(one)
        .collect::<Result<_, _>>()?;
    let mut classes: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for (class, record) in records.into_iter().flatten() {
        classes.entry(class).or_default().push(record);
    }
    let path = folder.join("meta.json");
    let text = json!({ "train": {}, "test": classes }).to_string();
    crate::bundle::save(text.as_bytes(), &path).map_err(|e| failed(&path, e))
}
