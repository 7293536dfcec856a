//! OpenAI's TorchScript archives: the pickle of a scripted module, next to its code.
//!
//! `data.pkl` builds `__torch__.…` objects whose state is a dict of attributes: tensors, numbers and
//! further objects. Their names along the way are the names of the state dict.

use super::{Data, Raw, TensorError};
use repugnant_pickle::ops::PickleOp;
use repugnant_pickle::{SequenceType, Value, evaluate, parse_ops};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// Modules nest no deeper than this in any CLIP; a loop of references would.
const MAX_DEPTH: usize = 32;

fn fail(e: impl std::fmt::Display) -> TensorError {
    TensorError::File(format!("TorchScript archive: {e}"))
}

/// The tensors of a TorchScript archive; `None` if the file is none.
pub(super) fn load(path: &Path) -> Result<Option<BTreeMap<String, Raw>>, TensorError> {
    let Ok(mut archive) = File::open(path)
        .map_err(fail)
        .and_then(|f| ZipArchive::new(f).map_err(fail))
    else {
        return Ok(None);
    };
    // A scripted module differs from a plain checkpoint by its constants.
    let Some(root) = archive
        .file_names()
        .find_map(|n| n.ok()?.strip_suffix("/constants.pkl").map(str::to_string))
    else {
        return Ok(None);
    };
    let length = std::fs::metadata(path).map_err(fail)?.len();
    let bytes = member(&mut archive, &format!("{root}/data.pkl"), MAX_PICKLE)?;
    let (_, ops) = parse_ops::<nom::error::Error<&[u8]>>(&bytes)
        .map_err(|_| fail("its data.pkl is no pickle"))?;
    if let Some(op) = ops.iter().find(|op| !is_expected(op)) {
        return Err(fail(format!(
            "its data.pkl has an instruction that torch does not write: {op:.40?}"
        )));
    }
    let (values, _) = evaluate(&ops, true).map_err(fail)?;
    let mut found = vec![];
    for value in &values {
        collect(value, "", 0, &mut found)?;
    }
    let mut storages: HashMap<String, Vec<u8>> = HashMap::new();
    let mut map = BTreeMap::new();
    for (name, tensor) in found {
        if !storages.contains_key(tensor.storage) {
            storages.insert(
                tensor.storage.to_string(),
                member(
                    &mut archive,
                    &format!("{root}/data/{}", tensor.storage),
                    length,
                )?,
            );
        }
        map.insert(
            name.clone(),
            tensor.gather(&name, &storages[tensor.storage])?,
        );
    }
    Ok(Some(map))
}

/// The largest data.pkl that is looked at; that of ViT-L/14 is under 1 MB.
const MAX_PICKLE: u64 = 64 << 20;

/// Whether torch's pickler writes such an instruction. The evaluator does not bound what others do.
fn is_expected(op: &PickleOp) -> bool {
    use PickleOp::*;
    matches!(
        op,
        PROTO(_)
            | GLOBAL(..)
            | MARK
            | STOP
            | NONE
            | NEWTRUE
            | NEWFALSE
            | BININT(_)
            | BININT1(_)
            | BININT2(_)
            | LONG1(_)
            | BINFLOAT(_)
            | BINUNICODE(_)
            | EMPTY_TUPLE
            | TUPLE
            | TUPLE1
            | TUPLE2
            | TUPLE3
            | EMPTY_LIST
            | APPEND
            | APPENDS
            | EMPTY_DICT
            | SETITEM
            | SETITEMS
            | BINPUT(_)
            | LONG_BINPUT(_)
            | BINGET(_)
            | LONG_BINGET(_)
            | BINPERSID
            | NEWOBJ
            | REDUCE
            | BUILD
    )
}

fn member(archive: &mut ZipArchive<File>, name: &str, limit: u64) -> Result<Vec<u8>, TensorError> {
    let mut bytes = vec![];
    // torch stores its members uncompressed: one that grows beyond the file is no weight.
    let entry = archive.by_name(name).map_err(fail)?;
    let read = entry
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if read as u64 > limit {
        return Err(fail(format!("{name} is larger than it can be")));
    }
    Ok(bytes)
}

/// A tensor as the pickle describes it.
struct View<'a> {
    storage: &'a str,
    dtype: &'static str,
    item: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View<'_> {
    /// Copies the elements out of their storage, row-major.
    fn gather(&self, name: &str, storage: &[u8]) -> Result<Raw, TensorError> {
        let outside = || fail(format!("tensor `{name}` reaches outside its storage"));
        let count = self
            .shape
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(*d))
            .ok_or_else(outside)?;
        // More elements than stored bytes can only be a broadcast, which no weight is.
        if count > storage.len() || self.shape.len() != self.strides.len() {
            return Err(outside());
        }
        let mut bytes = Vec::with_capacity(count * self.item);
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..count {
            let steps = index
                .iter()
                .zip(&self.strides)
                .map(|(i, s)| i.checked_mul(*s));
            let at = steps
                .chain([Some(self.offset)])
                .try_fold(0usize, |sum, x| sum.checked_add(x?))
                .ok_or_else(outside)?;
            let start = at.checked_mul(self.item).ok_or_else(outside)?;
            bytes.extend_from_slice(
                storage
                    .get(start..)
                    .and_then(|s| s.get(..self.item))
                    .ok_or_else(outside)?,
            );
            for d in (0..index.len()).rev() {
                index[d] += 1;
                if index[d] < self.shape[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        Ok(Raw {
            shape: self.shape.clone(),
            dtype: self.dtype.into(),
            data: Data::Read(bytes),
        })
    }
}

fn tuple<'v, 'a>(value: &'v Value<'a>) -> Option<&'v [Value<'a>]> {
    match value {
        Value::Seq(SequenceType::Tuple, items) => Some(items),
        _ => None,
    }
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    tuple(value)?.iter().map(size).collect()
}

fn size(value: &Value) -> Option<usize> {
    match value {
        Value::Int(i) => usize::try_from(*i).ok(),
        _ => None,
    }
}

fn global<'v>(value: &'v Value) -> Option<(&'v str, &'v str)> {
    match value {
        Value::Raw(op) => match op.as_ref() {
            PickleOp::GLOBAL(module, name) => Some((module, name)),
            _ => None,
        },
        _ => None,
    }
}

/// `torch._utils._rebuild_tensor_v2(persistent storage, offset, shape, strides, ...)`.
fn tensor<'v>(value: &'v Value) -> Option<View<'v>> {
    let Value::Global(function, arguments) = value else {
        return None;
    };
    if global(function)? != ("torch._utils", "_rebuild_tensor_v2") {
        return None;
    }
    let [storage, offset, shape, strides, ..] = tuple(arguments.first()?)? else {
        return None;
    };
    let Value::PersId(id) = storage else {
        return None;
    };
    let [Value::String("storage"), kind, Value::String(key), ..] = tuple(id)? else {
        return None;
    };
    let (dtype, item) = match global(kind)? {
        ("torch", "DoubleStorage") => ("F64", 8),
        ("torch", "FloatStorage") => ("F32", 4),
        ("torch", "HalfStorage") => ("F16", 2),
        ("torch", "BFloat16Storage") => ("BF16", 2),
        ("torch", "LongStorage") => ("I64", 8),
        ("torch", "IntStorage") => ("I32", 4),
        _ => return None,
    };
    Some(View {
        storage: key,
        dtype,
        item,
        offset: size(offset)?,
        shape: sizes(shape)?,
        strides: sizes(strides)?,
    })
}

/// The attributes of an object, or the items of a dict.
fn entries<'v, 'a>(value: &'v Value<'a>) -> Vec<(&'v str, &'v Value<'a>)> {
    match value {
        Value::Build(_, state) => entries(state),
        Value::Seq(SequenceType::Dict, items) => {
            items.iter().filter_map(tuple).flat_map(pairs).collect()
        }
        _ => vec![],
    }
}

/// A dict's items come one by one or in batches, as the pickle wrote them.
fn pairs<'v, 'a>(items: &'v [Value<'a>]) -> Vec<(&'v str, &'v Value<'a>)> {
    match items {
        [Value::String(key), value] => vec![(*key, value)],
        batch => batch.iter().filter_map(tuple).flat_map(pairs).collect(),
    }
}

fn collect<'v>(
    value: &'v Value,
    prefix: &str,
    depth: usize,
    found: &mut Vec<(String, View<'v>)>,
) -> Result<(), TensorError> {
    if depth > MAX_DEPTH {
        return Err(fail("its modules nest too deep"));
    }
    if let Some(view) = tensor(value) {
        found.push((prefix.to_string(), view));
        return Ok(());
    }
    for (key, child) in entries(value) {
        let name = if prefix.is_empty() {
            key.to_string()
        } else {
            format!("{prefix}.{key}")
        };
        collect(child, &name, depth + 1, found)?;
    }
    Ok(())
}
