//! Pictures of rejected parts, as the recorder left them. Only names that it gives are read.

use std::io;
use std::path::Path;

/// Pictures that are listed.
const LISTED: usize = 200;

/// Whether the recorder may have given this name: a part's number, a dash, the frame's name. No folder, no way up.
fn is_ours(name: &str) -> bool {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let plain = !name.contains(['/', '\\', '\0']) && !name.contains("..");
    plain && digits >= 5 && name[digits..].starts_with('-') && name.ends_with(".png")
}

/// The newest pictures' names, newest first.
///
/// # Errors
/// The folder cannot be read. That there is none yet is no error.
pub fn newest(out: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(out.join("rejects")) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_ours(&name) {
            names.push(name);
        }
    }
    // Part numbers only grow; they have five digits or more.
    let number = |name: &String| name.split('-').next().and_then(|n| n.parse::<u64>().ok());
    names.sort_by_key(|name| std::cmp::Reverse(number(name)));
    names.truncate(LISTED);
    Ok(names)
}

/// A picture, if there is one of this name.
pub fn read(out: &Path, name: &str) -> Option<Vec<u8>> {
    is_ours(name).then(|| std::fs::read(out.join("rejects").join(name)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recorders_pictures_are_given_away() {
        let out = tempfile::tempdir().unwrap();
        assert!(newest(out.path()).unwrap().is_empty());
        let folder = out.path().join("rejects");
        std::fs::create_dir(&folder).unwrap();
        for name in ["00009-a.png", "100000-b.png", "00010-c.png", "notes.txt"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        std::fs::write(out.path().join("00011-secret.png"), "secret").unwrap();
        let names = newest(out.path()).unwrap();
        assert_eq!(names, ["100000-b.png", "00010-c.png", "00009-a.png"]);
        assert_eq!(read(out.path(), "00009-a.png").unwrap(), b"00009-a.png");
        for name in [
            "notes.txt",
            "../00011-secret.png",
            "00011-/../../00011-secret.png",
            "00012-x.png",
        ] {
            assert_eq!(read(out.path(), name), None, "{name}");
        }
    }
}
