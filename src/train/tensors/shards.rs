//! Weights that are stored in several files, with an index that says which tensor is in which (Hugging
//! Face's `model.safetensors.index.json`, `pytorch_model.bin.index.json`).

use super::{TensorError, Tensors};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

const ENDING: &str = ".index.json";

/// The index that a file is, or that it is a shard of (`NAME-00001-of-00002.EXT` beside
/// `NAME.EXT.index.json`).
pub fn index_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(ENDING) {
        return Some(path.to_path_buf());
    }
    let (stem, extension) = name.rsplit_once('.')?;
    let mut parts = stem.rsplitn(4, '-');
    let (count, of, number, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if of != "of" || !digits(count) || !digits(number) {
        return None;
    }
    let index = path.with_file_name(format!("{rest}.{extension}{ENDING}"));
    index.is_file().then_some(index)
}

/// All tensors that the index names, from the shards beside it.
pub(super) fn load(index: &Path) -> Result<Tensors, TensorError> {
    let fail = |e: &dyn std::fmt::Display| TensorError::File(format!("{}: {e}", index.display()));
    let text = std::fs::read_to_string(index).map_err(|e| fail(&e))?;
    let named: Index = serde_json::from_str(&text).map_err(|e| fail(&e))?;
    let files: BTreeSet<&String> = named.weight_map.values().collect();
    if files.is_empty() {
        return Err(fail(&"it names no shard"));
    }
    let mut all = Tensors {
        path: index.to_path_buf(),
        files: vec![],
        notes: Default::default(),
        map: BTreeMap::new(),
        read: RefCell::default(),
        scripted: false,
        computed: None,
    };
    for file in files {
        // A shard lies beside its index: a name with a folder in it could be any file of the machine.
        let mut parts = Path::new(file).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(fail(&format!("shard `{file}` is no plain file name")));
        }
        let path = index.with_file_name(file);
        if !path.is_file() {
            return Err(fail(&format!("its shard {file} is not beside it")));
        }
        let shard = Tensors::load_one(&path)
            .map_err(|e| TensorError::File(format!("{}: {e}", path.display())))?;
        for (name, raw) in shard.map {
            let wanted = named.weight_map.get(&name);
            if wanted.is_some_and(|w| w != file) {
                continue;
            }
            if all.map.insert(name.clone(), raw).is_some() {
                return Err(fail(&format!("tensor `{name}` is in two shards")));
            }
        }
        all.notes.extend(shard.notes);
        all.files.push(path);
    }
    if let Some((name, file)) = named
        .weight_map
        .iter()
        .find(|(n, _)| !all.map.contains_key(*n))
    {
        return Err(fail(&format!("tensor `{name}` is not in {file}")));
    }
    Ok(all)
}
