//! The page's own files, built into the program: it works without a network beyond the station's.

use crate::hex::hex;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt, IfNoneMatch};
use sha2::{Digest, Sha256};

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
    /// By this a browser asks whether its copy still is what is served. Weak: zipped or not, it is the same.
    tag: String,
}

impl Asset {
    /// Makes a file of this kind (media type) ready.
    pub fn new(kind: &'static str, text: &'static str) -> Asset {
        let digest = Sha256::digest(text.as_bytes());
        let tag = format!("W/\"{}\"", hex(&digest[..8]));
        Asset { kind, text, tag }
    }

    /// The file, or that the browser has it already. Its copy is asked after each time: another program has other
    /// files.
    pub fn answer(&self, headers: &HeaderMap) -> Response {
        let always = [
            (header::ETAG, self.tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        if is_known(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, always).into_response();
        }
        (always, [(header::CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

/// Whether who asks has what this entity tag stands for (`If-None-Match`: RFC 9110, 13.1.2).
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let asked = headers.typed_get::<IfNoneMatch>();
    let tag = tag.parse::<ETag>();
    matches!((asked, tag), (Some(asked), Ok(tag)) if !asked.precondition_passes(&tag))
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
        assert_eq!((tag.len(), tag != Asset::new("", "").tag), (20, true));
        let asks = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_known(&headers, &tag)
        };
        let strong = &tag[2..];
        assert!(asks(&tag) && asks(strong) && asks(&format!("\"1\", {tag}")));
        assert!(!asks("\"1\"") && !asks("") && !is_known(&HeaderMap::new(), &tag));
    }
}
