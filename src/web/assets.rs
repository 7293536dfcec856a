//! The page's own files, built into the program: it works without a network beyond the station's.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Scripts in the order in which they run, as one: a browser gets them by one request. They share one space of names.
#[rustfmt::skip]
pub const SCRIPT: &str = concat!(
    include_str!("page/texts.js"), include_str!("page/app.js"), include_str!("page/live.js"),
    include_str!("page/archive.js"), include_str!("page/teach.js"), include_str!("page/regions.js"),
    include_str!("page/settings.js"), include_str!("page/report.js"),
);

/// What is served: name, kind, bytes.
#[rustfmt::skip]
pub const ASSETS: [(&str, &str, &str); 4] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("page.js", "text/javascript; charset=utf-8", SCRIPT),
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// The tag by which a browser asks whether its copy still is what is served.
pub fn tag(bytes: &str) -> String {
    let digest = Sha256::digest(bytes.as_bytes());
    let hex: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}

/// The file, or that the browser has it already. Its copy is asked after each time: another program has other files.
pub fn answer(headers: &HeaderMap, tag: &str, kind: &'static str, bytes: &'static str) -> Response {
    let known = [
        (header::ETAG, tag.to_string()),
        (header::CACHE_CONTROL, "no-cache".to_string()),
    ];
    match is_known(headers, tag) {
        true => (StatusCode::NOT_MODIFIED, known).into_response(),
        false => (known, [(header::CONTENT_TYPE, kind)], bytes).into_response(),
    }
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

    /// Of two functions of one name only the last would be there.
    #[test]
    fn no_two_scripts_give_one_name() {
        let mut names = BTreeSet::new();
        for line in SCRIPT.lines() {
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
        for call in ["prompt(", "confirm(", "alert("] {
            let mut before = SCRIPT.match_indices(call).map(|(i, _)| &SCRIPT[..i]);
            // `Confirm(` or `.alert(` of something else would be no such call.
            let called = before
                .any(|s| !s.ends_with(|c: char| c.is_alphanumeric()) || s.ends_with("window."));
            assert!(!called, "{call}");
        }
    }

    #[test]
    fn a_copy_is_known_by_its_tag_alone() {
        let tag = tag(SCRIPT);
        assert_eq!((tag.len(), tag != super::tag("")), (18, true));
        let asks = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_known(&headers, &tag)
        };
        assert!(asks(&tag) && asks(&format!("\"1\", {tag}")) && asks(&format!("W/{tag}")));
        assert!(!asks("\"1\"") && !asks("") && !is_known(&HeaderMap::new(), &tag));
    }
}
