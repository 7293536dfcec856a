//! The bundle reader and everything that builds a network from what it read.
//!
//! A mutated file almost always fails at its digests, so the target then puts the right digests in and
//! tries again: what lies behind them must stand malformed manifests and tensors just as well.
#![no_main]

use faprompt_edge::bundle::envelope::{METADATA_KEY, manifest_digest, part_digests, split};
use faprompt_edge::bundle::{Bundle, BundleError};
use faprompt_edge::faprompt::{Adaptation, AdaptationMode};
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::vision::Encoder;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use safetensors::SafeTensors;
use std::collections::HashMap;

/// The same file with digests that fit.
fn digested(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, data) = split(bytes).ok()?;
    let mut envelope: serde_json::Value =
        serde_json::from_str(header.metadata().as_ref()?.get(METADATA_KEY)?).ok()?;
    let manifest = envelope.get("manifest")?.to_string();
    let mut digests = part_digests(&header, data);
    digests.insert("manifest".into(), manifest_digest(&manifest));
    envelope["digests"] = serde_json::to_value(digests).ok()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let metadata = HashMap::from([(METADATA_KEY.to_string(), envelope.to_string())]);
    safetensors::serialize(file.tensors(), Some(metadata)).ok()
}

// Nearly all bytes of a bundle are weights, of which one is as good as another: three of four mutations
// are of the header alone, with its length put right.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let length = data[..size]
        .first_chunk::<8>()
        .map_or(u64::MAX, |b| u64::from_le_bytes(*b));
    let end = usize::try_from(length)
        .ok()
        .and_then(|n| n.checked_add(8))
        .filter(|end| *end <= size);
    let Some(end) = end.filter(|_| seed % 4 != 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    let room = (max_size - size).min(256);
    let mut header = data[8..end].to_vec();
    let old = header.len();
    header.resize(old + room, 0);
    let new = fuzzer_mutate(&mut header, old, old + room);
    let rest = data[end..size].to_vec();
    data[..8].copy_from_slice(&(new as u64).to_le_bytes());
    data[8..8 + new].copy_from_slice(&header[..new]);
    data[8 + new..8 + new + rest.len()].copy_from_slice(&rest);
    8 + new + rest.len()
});

fuzz_target!(|bytes: &[u8]| {
    let bundle = match Bundle::from_bytes(bytes.to_vec()) {
        Err(BundleError::Damaged { .. }) => match digested(bytes).map(Bundle::from_bytes) {
            Some(Ok(bundle)) => bundle,
            _ => return,
        },
        Ok(bundle) => bundle,
        Err(_) => return,
    };
    let arithmetic = [Arithmetic::F32, Arithmetic::Int8][usize::from(bytes.len() % 2 == 0)];
    let _ = Encoder::load(&bundle, arithmetic);
    let _ = Adaptation::load(&bundle, AdaptationMode::Exact, arithmetic);
    let _ = Adaptation::load(&bundle, AdaptationMode::Linear, arithmetic);
});
