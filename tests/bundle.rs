//! Bundles that are bad, cut, tampered with, of another version or another architecture.

mod common;

use common::{export_to, options};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::{Bundle, BundleError, Keys};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options};
use faprompt_edge::train::random::{self, Architecture};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A bundle small enough to try every byte of.
fn small() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (clip, prompts) =
            random::write(&Architecture::Minimal.sizes(), 1, folder.path()).unwrap();
        let mut options = options(Selection::Paper, Precision::Int8);
        (options.image_size, options.vv_layers) = (None, Some(1));
        let out = folder.path().join("small.bundle");
        export_to(&clip, &prompts, &options, &out);
        std::fs::read(out).unwrap()
    })
}

fn open(bytes: Vec<u8>) -> Result<Bundle, BundleError> {
    let bundle = Bundle::from_bytes(bytes)?;
    Inspector::new(&bundle, Options::default())?;
    Inspector::new(
        &bundle,
        Options {
            adaptation: AdaptationMode::Linear,
            ..Options::default()
        },
    )?;
    Ok(bundle)
}

fn code(bytes: Vec<u8>) -> ExitCode {
    open(bytes).err().map_or(ExitCode::Good, |e| e.exit_code())
}

fn header_len() -> usize {
    8 + u64::from_le_bytes(small()[..8].try_into().unwrap()) as usize
}

#[test]
fn the_small_bundle_opens() {
    assert_eq!(code(small().to_vec()), ExitCode::Good);
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let (whole, start) = (small(), header_len());
    // Every byte of the header, every 97th of the data.
    for at in (0..start).chain((start..whole.len()).step_by(97)) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        match open(bytes) {
            Err(_) => (),
            Ok(_) => panic!("byte {at} was changed unnoticed"),
        }
    }
}

#[test]
fn damage_in_a_part_names_the_part() {
    let file = SafeTensors::deserialize(small()).unwrap();
    for (tensor, part) in [
        ("encoder/conv1", "encoder"),
        ("tower/suffix", "tower"),
        ("prior/fc1.weight", "prior"),
        ("linear/jacobian", "linear"),
        ("prototypes/normal", "prototypes"),
    ] {
        let data = file.tensor(tensor).unwrap().data();
        let at = data.as_ptr() as usize - small().as_ptr() as usize + data.len() / 2;
        let mut bytes = small().to_vec();
        bytes[at] ^= 0x10;
        match open(bytes) {
            Err(BundleError::Damaged { part: found, .. }) => assert_eq!(found, part),
            other => panic!("{tensor}: {other:?}"),
        }
    }
}

#[test]
fn cut_files_are_told_apart_from_foreign_ones() {
    let whole = small();
    assert_eq!(code(vec![]), ExitCode::NotABundle);
    assert_eq!(
        code(b"\x89PNG\r\n\x1a\n and so on".to_vec()),
        ExitCode::NotABundle
    );
    assert_eq!(code(vec![0xff; 4096]), ExitCode::NotABundle);
    assert_eq!(
        code(
            std::fs::read(common::golden(
                "layouts/open_clip/open_clip_model.safetensors"
            ))
            .unwrap()
        ),
        ExitCode::NotABundle
    );
    for length in [
        9,
        header_len() - 1,
        header_len(),
        header_len() + 1,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        assert_eq!(
            code(whole[..length].to_vec()),
            ExitCode::BundleCut,
            "cut to {length}"
        );
    }
    match open(whole[..whole.len() - 1].to_vec()) {
        Err(BundleError::Cut { part, missing: 1 }) => {
            assert!(!part.is_empty() && part != "header", "{part}")
        }
        other => panic!("{other:?}"),
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert_eq!(code(longer), ExitCode::BundleDamaged);
}

/// The small bundle with its envelope changed and no digest left right but those that `change` sets.
fn with_envelope(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let (_, metadata) = SafeTensors::read_metadata(small()).unwrap();
    let text = &metadata.metadata().as_ref().unwrap()["faprompt"];
    let mut envelope: serde_json::Value = serde_json::from_str(text).unwrap();
    change(&mut envelope);
    let file = SafeTensors::deserialize(small()).unwrap();
    let tensors: Vec<(String, TensorView)> = file.tensors();
    let metadata = HashMap::from([("faprompt".to_string(), envelope.to_string())]);
    safetensors::serialize(tensors, Some(metadata)).unwrap()
}

/// The small bundle with another manifest, rightly digested: what a faulty exporter would write.
fn with_manifest(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    with_envelope(|envelope| {
        change(&mut envelope["manifest"]);
        let text = envelope["manifest"].to_string();
        envelope["digests"]["manifest"] =
            faprompt_edge::bundle::envelope::manifest_digest(&text).into();
    })
}

#[test]
fn another_version_is_named() {
    let bytes = with_envelope(|e| e["format_version"] = 2.into());
    match open(bytes) {
        Err(BundleError::Version(2)) => (),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        code(with_envelope(|e| e["format_version"] = "one".into())),
        ExitCode::NotABundle
    );
}

#[test]
fn manifests_that_no_network_fits_are_refused() {
    assert_eq!(
        code(with_manifest(|_| ())),
        ExitCode::Good,
        "the change must be what is refused"
    );
    for (path, value) in [
        ("/image/size", 1e9 as u64),
        ("/image/size", 24),
        ("/image/size", 0),
        ("/image/patch", 0),
        ("/image/patch", 5),
        ("/vision/width", 128),
        ("/vision/width", u64::MAX / 2),
        ("/vision/layers", 2),
        ("/vision/layers", 0),
        ("/vision/heads", 0),
        ("/vision/heads", 3),
        ("/text/layers", 1 << 40),
        ("/text/heads", 7),
        ("/vv_layers", 9),
        ("/vv_layers", 0),
        ("/prompts/abnormal_prompts", 1 << 50),
        ("/prompts/abnormal_prompts", 3),
        ("/prompts/suffix_rows", 1),
        ("/prompts/suffix_rows", 50),
        ("/prompts/deep_blocks", 2),
        ("/prompts/deep_length", 70),
        ("/prompts/deep_length", 4),
        ("/prior/selected_patches", 5),
        ("/prior/selected_patches", 0),
        ("/prior/hidden", 8000),
        ("/scores/temperature", 0),
        ("/scores/threshold", 2),
    ] {
        let bytes = with_manifest(|m| *m.pointer_mut(path).expect(path) = value.into());
        let error = open(bytes)
            .err()
            .unwrap_or_else(|| panic!("{path} = {value} was accepted"));
        assert_eq!(
            error.exit_code(),
            ExitCode::BundleArchitecture,
            "{path} = {value}: {error}"
        );
    }
    for change in [
        ("/precision", "int4"),
        ("/prior/selection", "best"),
        ("/activation", "relu"),
    ] {
        let bytes = with_manifest(|m| *m.pointer_mut(change.0).unwrap() = change.1.into());
        assert_eq!(code(bytes), ExitCode::BundleArchitecture, "{change:?}");
    }
    assert_eq!(
        code(with_manifest(|m| m["surprise"] = 1.into())),
        ExitCode::BundleArchitecture
    );
    let raw = serde_json::json!({"block": 1, "stream": "x", "form": "raw", "rows": "all"});
    assert_eq!(
        code(with_manifest(|m| m["memory"] = vec![raw.clone()].into())),
        ExitCode::Good
    );
    for (key, value) in [
        ("block", 9.into()),
        ("rows", "class".into()),
        ("form", "cooked".into()),
    ] {
        let mut tap = raw.clone();
        tap[key] = value;
        let bytes = with_manifest(|m| m["memory"] = vec![tap.clone()].into());
        assert_eq!(code(bytes), ExitCode::BundleArchitecture, "{tap}");
    }
    assert_eq!(
        code(with_manifest(|m| *m = 7.into())),
        ExitCode::BundleArchitecture
    );
}

#[test]
fn tampering_with_the_manifest_alone_is_noticed() {
    let bytes = with_envelope(|e| e["manifest"]["scores"]["threshold"] = 0.99.into());
    match open(bytes) {
        Err(BundleError::Damaged { part, .. }) => assert_eq!(part, "manifest"),
        other => panic!("{other:?}"),
    }
}

fn signed(folder: &Path) -> (PathBuf, PathBuf, minisign::KeyPair) {
    let bundle = folder.join("signed.bundle");
    std::fs::write(&bundle, small()).unwrap();
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = folder.join("key.pub");
    std::fs::write(&key, pair.pk.to_box().unwrap().to_string()).unwrap();
    sign(&bundle, &pair);
    (bundle, key, pair)
}

fn sign(bundle: &Path, pair: &minisign::KeyPair) {
    let bytes = std::fs::read(bundle).unwrap();
    let signature = minisign::sign(Some(&pair.pk), &pair.sk, &bytes[..], None, None).unwrap();
    std::fs::write(
        bundle.with_extension("bundle.minisig"),
        signature.to_string(),
    )
    .unwrap();
}

#[test]
fn signatures() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, key_file, pair) = signed(folder.path());
    let key = Keys::load(&[&key_file]).unwrap();
    let open = |keys: &Keys| {
        Bundle::open(&bundle, keys)
            .map(|_| ())
            .map_err(|e| e.exit_code())
    };
    assert_eq!(open(&key), Ok(()));
    // Another key.
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    std::fs::write(
        folder.path().join("other.pub"),
        other.pk.to_box().unwrap().to_string(),
    )
    .unwrap();
    let other = folder.path().join("other.pub");
    assert_eq!(
        open(&Keys::load(&[&other]).unwrap()),
        Err(ExitCode::BundleSignature)
    );
    // While keys are changed, both are trusted. Other files of the folder are no keys.
    let both = Keys::installed(folder.path()).unwrap();
    assert_eq!(both.files().count(), 2);
    assert_eq!(open(&both), Ok(()));
    assert!(
        Keys::installed(&folder.path().join("none"))
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        Keys::installed(&other).err().map(|e| e.exit_code()),
        Some(ExitCode::PublicKey)
    );
    // Checked before anything is parsed: what is wrong with the contents does not matter.
    let signature = bundle.with_extension("bundle.minisig");
    std::fs::write(&bundle, b"no bundle at all").unwrap();
    assert_eq!(open(&key), Err(ExitCode::BundleSignature));
    // A signature only says who signed.
    sign(&bundle, &pair);
    assert_eq!(open(&key), Err(ExitCode::NotABundle));
    std::fs::write(&signature, "nonsense").unwrap();
    assert_eq!(open(&key), Err(ExitCode::BundleSignature));
    std::fs::remove_file(&signature).unwrap();
    assert_eq!(open(&key), Err(ExitCode::BundleSignature));
    // Keys that are none.
    std::fs::write(&key_file, "untrusted comment: x\nAAAA\n").unwrap();
    for path in [key_file, folder.path().join("absent.pub")] {
        assert_eq!(
            Keys::load(&[&path]).err().map(|e| e.exit_code()),
            Some(ExitCode::PublicKey)
        );
    }
}

#[test]
fn the_fuzzers_seeds_are_bundles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/bundle");
    for seed in ["int8.bundle", "f16.bundle", "f32.bundle"] {
        assert_eq!(
            code(std::fs::read(folder.join(seed)).unwrap()),
            ExitCode::Good,
            "{seed}"
        );
    }
}

#[test]
fn what_is_no_file_is_unreadable() {
    for path in [Path::new("/nonexistent/x.bundle"), Path::new("/")] {
        let error = Bundle::open(path, &Keys::default()).err().unwrap();
        assert_eq!(error.exit_code(), ExitCode::BundleUnreadable);
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}
