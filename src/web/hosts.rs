//! By which names the page may be asked for.
//!
//! A stranger's page may be called by a name that its owner lets point to this station (DNS rebinding): a browser that shows
//! it then takes the station for that page's own server, and lets its scripts read what they like. The name that the browser
//! asks for is that stranger's, so a request for a name that is not this station's is answered with 421 (RFC 9110, 15.5.20).
//! An address needs no look-up that anybody could turn.

use crate::board::HostName;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};

/// The refusal of a request that is not for this station by one of these names, by an address, by `localhost` or by the
/// node's own name: 421 for another name; 400 for a request that says none, or more than one.
pub fn refusal(request: &Request, names: &[HostName]) -> Option<Response> {
    let host = match request.uri().authority() {
        // The whole address in the first line goes before the header (RFC 9112, 3.2.2).
        Some(authority) => authority.clone(),
        None => {
            let mut said = request.headers().get_all(header::HOST).iter();
            match (said.next(), said.next()) {
                (Some(host), None) => match Authority::try_from(host.as_bytes()) {
                    Ok(authority) => authority,
                    Err(_) => return Some(bad("the header Host is no name of a computer\n")),
                },
                _ => return Some(bad("a request has one header Host\n")),
            }
        }
    };
    let host = host.host();
    if is_own(host, names, own_name) {
        return None;
    }
    let text = format!(
        "The station's page is not served as {host}. If that is the station's name, start the station with \
         --web-host {host}, or say so in the board's file: network.web_hosts = [\"{host}\"]. Its address will do, too.\n"
    );
    Some((StatusCode::MISDIRECTED_REQUEST, text).into_response())
}

fn bad(text: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// The node's name, as it is now: a network may give it one later than the page is there.
pub fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_ascii_lowercase()
}

fn is_own(host: &str, names: &[HostName], own_name: impl FnOnce() -> String) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if host.parse::<IpAddr>().is_ok() || in_brackets.is_some_and(|h| h.parse::<Ipv6Addr>().is_ok())
    {
        return true;
    }
    // A name may end in the root's dot.
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host == "localhost" || names.iter().any(|name| name.as_ref() == host) {
        return true;
    }
    let own = own_name();
    let (short, _) = own.split_once('.').unwrap_or((&own, ""));
    // By multicast DNS (RFC 6762) a computer is SHORT.local.
    !short.is_empty()
        && (host == own || host == short || host.strip_suffix(".local") == Some(short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn own_names_and_addresses_are_served_and_no_others() {
        let names: Vec<HostName> = vec!["Line1.Plant".parse().unwrap()];
        let own = || "node7.factory".to_string();
        for host in [
            "127.0.0.1",
            "192.168.10.7",
            "[::1]",
            "[fe80::1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "node7.factory",
            "node7",
            "Node7.local",
            "line1.plant",
            "LINE1.plant.",
        ] {
            assert!(is_own(host, &names, own), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "line1",
            "plant",
            "line1.plant.evil",
            "node7.evil",
            "node7.factory.local",
            "127.1",
            "0x7f000001",
            "::1",
            "[localhost]",
            "",
            ".",
            ".local",
        ] {
            let is_plain_address = host == "::1";
            assert_eq!(is_own(host, &names, own), is_plain_address, "{host}");
        }
        // A node without a name.
        assert!(!is_own(".local", &[], String::new) && !is_own("", &[], String::new));
    }

    #[test]
    fn the_name_is_that_of_the_address_or_of_the_one_header() {
        let status = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header("Host", *host);
            }
            let request = request.body(Body::empty()).unwrap();
            refusal(&request, &[]).map(|answer| answer.status().as_u16())
        };
        assert_eq!(status("/", &["127.0.0.1:8080"]), None);
        assert_eq!(status("/", &["[::1]:8080"]), None);
        assert_eq!(status("/", &["evil.example:8080"]), Some(421));
        // What stands before an @ is no name.
        assert_eq!(status("/", &["localhost@evil.example"]), Some(421));
        assert_eq!(status("http://evil.example/", &["localhost"]), Some(421));
        assert_eq!(status("http://localhost/", &["evil.example"]), None);
        for hosts in [&[][..], &["localhost", "localhost"], &["two words"], &[""]] {
            assert_eq!(status("/", hosts), Some(400), "{hosts:?}");
        }
    }
}
