//! Rule about crates: a lower crate does not depend on a higher one.

use serde_json::Value;

use super::Violation;

/// Every crate of the workspace, and the crates it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("ar7-engine", &[]),
    ("ar7-registry", &["ar7-engine"]),
    ("ar7", &["ar7-engine", "ar7-registry"]),
    ("ar7-arguments", &["ar7"]),
    ("ar7-mount", &["ar7", "ar7-engine", "ar7-registry"]),
    ("ar7-cli", &["ar7", "ar7-arguments", "ar7-mount", "ar7-engine", "ar7-registry"]),
    ("xtask", &[]),
    ("ar7-fuzz", &["ar7", "ar7-arguments", "ar7-engine", "ar7-registry", "xtask"]),
    ("ar7-benches", &["ar7-engine", "ar7-registry", "xtask"]),
];

/// The crate of generators and oracles, which tests of any crate may use.
const SHARED_BY_TESTS: &str = "ar7-fuzz";

/// Checks the output of `cargo metadata`.
pub(super) fn check(metadata: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    if packages.is_empty() {
        violations.push(Violation::new("Cargo.toml", None, "lists no packages"));
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            let message = format!("{name} is in no layer: add it to xtask/src/tidy/layers.rs");
            violations.push(Violation::new("Cargo.toml", None, message));
            continue;
        };
        for dependency in package["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
            let on = dependency["name"].as_str().unwrap_or_default();
            let of_ours = LAYERS.iter().any(|(layer, _)| *layer == on);
            let for_tests = dependency["kind"].as_str() == Some("dev") && on == SHARED_BY_TESTS;
            if of_ours && !for_tests && !allowed.contains(&on) {
                let message = format!("{name} may not depend on {on}");
                violations.push(Violation::new("Cargo.toml", None, message));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(package: &str, on: &str, kind: Option<&str>) -> Vec<String> {
        let metadata = json!({ "packages": [
            { "name": package, "dependencies": [{ "name": on, "kind": kind }] },
        ]});
        check(&metadata).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn upward_dependencies_are_found() {
        for (package, on) in [
            ("ar7-engine", "ar7-registry"),
            ("ar7-engine", "ar7-cli"),
            ("ar7-engine", "ar7-fuzz"),
            ("ar7-registry", "ar7-cli"),
            ("ar7-registry", "ar7"),
            ("ar7-registry", "xtask"),
            ("xtask", "ar7-engine"),
            ("ar7-cli", "ar7-benches"),
        ] {
            let message = format!("Cargo.toml: {package} may not depend on {on}");
            assert_eq!(messages(package, on, None), [message]);
        }
        assert_eq!(messages("ar7-engine", "ar7-registry", Some("dev")).len(), 1);
    }

    #[test]
    fn downward_and_external_dependencies_are_allowed() {
        assert_eq!(messages("ar7-registry", "ar7-engine", None), [""; 0]);
        assert_eq!(messages("ar7-engine", "uuid", None), [""; 0]);
        assert_eq!(messages("ar7-engine", "ar7-fuzz", Some("dev")), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert_eq!(messages("ar7-new", "uuid", None).len(), 1);
        assert_eq!(check(&json!({})).len(), 1);
    }
}
