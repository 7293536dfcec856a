//! Checks every board of `boards/` and builds them in, says which bundle is built in, and keeps test programs
//! small. A mistake in a board is a build error that names file and key.

// Built here too, so that a board of the repository and a user's own file get the same checks. Parts of
// them are for the program only.
#[allow(dead_code)]
#[path = "src/board/check.rs"]
mod check;
#[allow(dead_code)]
#[path = "src/board/pins.rs"]
mod pins;
#[allow(dead_code)]
#[path = "src/board/spec.rs"]
mod spec;
#[path = "src/board/values.rs"]
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn boards(folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut boards = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml")
            && let Some(name) = path.file_stem().and_then(|n| n.to_str())
        {
            boards.insert(name.to_owned(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(boards)
}

/// One line per mistake.
fn mistakes(boards: &BTreeMap<String, String>) -> BTreeSet<String> {
    let named = |name: &str| boards.get(name).map(String::as_str);
    let mut found = BTreeSet::new();
    for (name, text) in boards.iter().filter(|(name, _)| *name != check::BASE) {
        let file = format!("boards/{name}.toml");
        match check::resolve(&file, text, &named) {
            Ok(board) if board.name != *name => {
                found.insert(format!(
                    "{file}: name: is `{}`, must be `{name}`",
                    board.name
                ));
            }
            Ok(_) => (),
            Err(check::Mistakes(list)) => found.extend(list.iter().map(ToString::to_string)),
        }
    }
    found
}

/// The bundle that the package installs as the default one, as `Cargo.toml` says: the one that is built in.
fn default_bundle(manifest: &str) -> Option<String> {
    let manifest: toml::Table = manifest.parse().ok()?;
    let deb = manifest["package"].get("metadata")?.get("deb")?;
    let mut assets = deb.get("assets")?.as_array()?.iter();
    assets.find_map(|asset| {
        let (from, to) = (asset.get(0)?.as_str()?, asset.get(1)?.as_str()?);
        to.ends_with("/default.bundle").then(|| from.to_owned())
    })
}

fn main() -> std::io::Result<()> {
    for path in [
        "build.rs",
        "Cargo.toml",
        "boards",
        "src/board/check.rs",
        "src/board/pins.rs",
        "src/board/spec.rs",
        "src/board/values.rs",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    // Lines of 300 dependencies are 345 of the 365 MB of each test program; where a test fails its message says.
    for kind in ["tests", "benches", "examples"] {
        println!("cargo::rustc-link-arg-{kind}=-Wl,--strip-debug");
    }
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    match default_bundle(&std::fs::read_to_string(root.join("Cargo.toml"))?) {
        Some(bundle) if root.join(&bundle).is_file() => {
            let bundle = root.join(bundle);
            println!("cargo::rustc-env=DEFAULT_BUNDLE={}", bundle.display());
        }
        other => println!(
            "cargo::error=Cargo.toml: package.metadata.deb.assets: no file for default.bundle: {other:?}"
        ),
    }
    let boards = boards(&root.join("boards"))?;
    for mistake in mistakes(&boards) {
        println!("cargo::error={mistake}");
    }
    let texts: String = boards
        .iter()
        .map(|(name, text)| format!("    ({name:?}, {text:?}),\n"))
        .collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    std::fs::write(out.join("boards.rs"), format!("&[\n{texts}]\n"))
}
