use super::*;
use std::collections::BTreeSet;

/// Paths and methods as they stand in the router above: `.route("/path", get(...).post(...))`.
fn routes() -> BTreeSet<String> {
    let source = include_str!("mod.rs");
    let (_, router) = source.split_once("let router = Router::new()").unwrap();
    let (router, _) = router.split_once(";\n").unwrap();
    let mut routes = BTreeSet::new();
    for route in router.split(".route(").skip(1) {
        let (path, handlers) = route
            .trim_start()
            .strip_prefix('"')
            .and_then(|route| route.split_once('"'))
            .unwrap();
        for method in ["get", "post", "put", "delete"] {
            if handlers.contains(&format!(" {method}("))
                || handlers.contains(&format!(".{method}("))
            {
                routes.insert(format!("{method} {path}"));
            }
        }
    }
    routes
}

#[test]
fn every_path_is_described_and_nothing_else_is() {
    let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = described["paths"].as_object().unwrap().iter();
    let described: BTreeSet<String> = paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(routes(), described);
    assert!(described.len() >= 11);
}
