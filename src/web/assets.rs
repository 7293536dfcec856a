//! The page's own files, built into the program: it works without a network beyond the station's.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::Write;

const JS: &str = "text/javascript; charset=utf-8";

/// What is served: name, kind, bytes.
#[rustfmt::skip]
pub const ASSETS: [(&str, &str, &str); 11] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("app.js", JS, include_str!("page/app.js")),
    ("archive.js", JS, include_str!("page/archive.js")),
    ("live.js", JS, include_str!("page/live.js")),
    ("regions.js", JS, include_str!("page/regions.js")),
    ("report.js", JS, include_str!("page/report.js")),
    ("settings.js", JS, include_str!("page/settings.js")),
    ("teach.js", JS, include_str!("page/teach.js")),
    ("texts.js", JS, include_str!("page/texts.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// A file that is ready to be served.
#[derive(Clone)]
pub struct Asset {
    kind: &'static str,
    text: &'static str,
    zipped: Bytes,
    /// By this a browser asks whether its copy still is what is served.
    tag: String,
}

impl Asset {
    /// Makes a file of this kind (media type) ready: milliseconds of work.
    pub fn new(kind: &'static str, text: &'static str) -> Asset {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory: it cannot fail.
        let zipped = encoder
            .write_all(text.as_bytes())
            .and_then(|()| encoder.finish());
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
        Asset {
            kind,
            text,
            zipped: zipped.unwrap_or_default().into(),
            tag: format!("\"{hex}\""),
        }
    }

    /// The file, or that the browser has it already. Its copy is asked after each time: another program has other
    /// files.
    pub fn answer(&self, headers: &HeaderMap) -> Response {
        let always = [
            // Weak: zipped or not, it is the same.
            (header::ETAG, format!("W/{}", self.tag)),
            (header::CACHE_CONTROL, "no-cache".to_string()),
            (header::VARY, "accept-encoding".to_string()),
        ];
        if is_known(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, always).into_response();
        }
        let kind = [(header::CONTENT_TYPE, self.kind)];
        match takes_gzip(headers) && !self.zipped.is_empty() {
            true => {
                let how = [(header::CONTENT_ENCODING, "gzip")];
                (always, kind, how, self.zipped.clone()).into_response()
            }
            false => (always, kind, self.text).into_response(),
        }
    }
}

/// Whether who asks takes gzip, and does not say that it would not (`q=0`).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let asked = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut ways = asked
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','));
    ways.any(|way| {
        let (name, weight) = way.split_once(';').unwrap_or((way, ""));
        let never = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !never
    })
}

/// Whether who asks has what this tag stands for (`If-None-Match`).
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let asked = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = asked
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','));
    tags.any(|t| t.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::collections::BTreeSet;

    /// All scripts: they share one space of names.
    fn scripts() -> String {
        let scripts = ASSETS.iter().filter(|(_, kind, _)| *kind == JS);
        scripts.map(|(.., text)| *text).collect()
    }

    /// Of two functions of one name only the last would be there.
    #[test]
    fn no_two_scripts_give_one_name() {
        let mut names = BTreeSet::new();
        let scripts = scripts();
        for line in scripts.lines() {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let declared = ["function ", "const ", "let ", "class "];
            let Some(rest) = declared.iter().find_map(|word| line.strip_prefix(word)) else {
                continue;
            };
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
            let name = &rest[..end.unwrap_or(rest.len())];
            assert!(names.insert(name), "{name} is there already");
        }
        assert!(names.contains("outcomeText") && names.contains("$"));
    }

    /// A question is a dialog of the page, in its words and large enough for gloves: the browser's own are neither.
    #[test]
    fn the_browsers_own_dialogs_are_not_used() {
        let scripts = scripts();
        for call in ["prompt(", "confirm(", "alert("] {
            let mut before = scripts.match_indices(call).map(|(i, _)| &scripts[..i]);
            // `Confirm(` of something else would be no such call.
            let called = before.any(|s| !s.ends_with(|c: char| c.is_alphanumeric()));
            assert!(!called, "{call}");
        }
    }

    #[test]
    fn a_copy_is_known_by_its_tag_alone() {
        let tag = Asset::new("", "text").tag;
        assert_eq!((tag.len(), tag != Asset::new("", "").tag), (18, true));
        let asks = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_known(&headers, &tag)
        };
        assert!(asks(&tag) && asks(&format!("\"1\", {tag}")) && asks(&format!("W/{tag}")));
        assert!(!asks("\"1\"") && !asks("") && !is_known(&HeaderMap::new(), &tag));
    }

    #[test]
    fn a_file_is_zipped_for_whom_takes_it() {
        let takes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(value).unwrap(),
            );
            takes_gzip(&headers)
        };
        assert!(takes("gzip") && takes("deflate, GZIP;q=0.5, br"));
        assert!(!takes("") && !takes("br, gzip;q=0.000") && !takes("x-gzip"));
        assert!(!takes_gzip(&HeaderMap::new()));
        let script = include_str!("page/app.js");
        let asset = Asset::new(JS, script);
        assert!(asset.zipped.len() * 2 < script.len());
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&asset.zipped[..]);
        std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
        assert_eq!(text, script);
    }
}
