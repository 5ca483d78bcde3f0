//! The rules of the house that no compiler checks, and that documents would otherwise slowly break:
//! sizes, arrows between crates, who may know what, and that every path a document names is there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that a source file may have.
const FILE_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file of ours, relative to the root, with its text.
fn sources(extensions: &[&str]) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "data" | "node_modules") {
                    walk(&path, found);
                }
            } else {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let wanted = |path: &Path| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    found
        .iter()
        .filter(|path| wanted(path))
        .map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The part of a Rust file above its test module.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// What is built into the product: Rust files without tests, nor modules that only tests have.
fn product() -> Vec<(String, String)> {
    let all = sources(&["rs"]);
    let mut tests = BTreeSet::new();
    for (path, text) in &all {
        let folder = Path::new(path).parent().unwrap();
        for rest in text.split("#[cfg(test)]").skip(1) {
            let module = rest.trim_start().strip_prefix("mod ").or(rest.trim_start().strip_prefix("pub(crate) mod "));
            let name = module.and_then(|rest| rest.split([';', ' ']).next()).unwrap_or("tests");
            tests.insert(folder.join(format!("{name}.rs")).display().to_string());
        }
    }
    let apart = ["/tests/", "/benches/", "/examples/", "/testkit/", "_tests.rs"];
    all.into_iter()
        .filter(|(path, _)| !tests.contains(path) && !apart.iter().any(|part| path.contains(part)))
        .map(|(path, text)| (path, without_tests(&text).to_owned()))
        .collect()
}

fn assert_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn no_file_outgrows_its_reader() {
    let long = sources(&["rs", "mjs", "js", "css", "sql", "sh", "html"])
        .into_iter()
        .filter(|(path, _)| !path.contains("/assets/vendor/"))
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > FILE_LINES).then(|| format!("{path}: {lines} lines, {FILE_LINES} are allowed"))
        })
        .collect();
    assert_none("files to be split", long);
}

#[test]
fn every_crate_says_what_it_does() {
    let silent = sources(&["rs"])
        .into_iter()
        .filter(|(path, _)| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.ends_with("/mod.rs"))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert_none("these must open with //! and say what they do and never do", silent);
}

#[test]
fn nothing_unfinished_is_kept() {
    // Put together here, so that this file does not hold them.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["to", "do!("].concat(),
        ["unimplemented", "!("].concat(),
        ["allow(dead", "_code)"].concat(),
        ["#[ign", "ore"].concat(),
    ];
    let mut found = Vec::new();
    for (path, text) in sources(&["rs", "mjs", "js", "html", "css", "sh", "toml", "md"]) {
        for (number, line) in text.lines().enumerate() {
            found.extend(words.iter().filter(|w| line.contains(*w)).map(|w| format!("{path}:{}: {w}", number + 1)));
        }
    }
    assert_none("unfinished work", found);
}

#[test]
fn only_the_store_knows_sql() {
    let statements = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "BEGIN IMMEDIATE"];
    let mut found = Vec::new();
    for (path, text) in product().into_iter().filter(|(path, _)| !path.starts_with("crates/store/")) {
        for (number, line) in text.lines().enumerate() {
            let code = !line.trim_start().starts_with("//");
            if code && statements.iter().any(|s| line.contains(s)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("SQL outside the store", found);
}

#[test]
fn only_the_binary_reads_the_environment() {
    let mut found = Vec::new();
    for (path, text) in product().into_iter().filter(|(path, _)| !path.starts_with("crates/stackpro/")) {
        for (number, line) in text.lines().enumerate() {
            // Handing the environment on to a child (`var_os`) is not reading a setting.
            if line.contains("env::var(") || line.contains("env::vars(") {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("settings are passed in by the binary", found);
}

#[test]
fn documents_name_only_paths_that_exist() {
    let root = root();
    let tops: BTreeSet<String> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !matches!(name.as_str(), "target" | "data"))
        .collect();
    let mut missing = Vec::new();
    for (document, text) in sources(&["md"]) {
        let beside = root.join(&document);
        let beside = beside.parent().unwrap();
        for path in named_paths(&text, &tops) {
            if !root.join(&path).exists() && !beside.join(&path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
        for link in links(&text) {
            if !beside.join(&link).exists() {
                missing.push(format!("{document}: link to {link}"));
            }
        }
    }
    assert_none("documents name what is not there", missing);
}

/// What stands in backticks and looks like a path of ours.
fn named_paths(text: &str, tops: &BTreeSet<String>) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|token| token.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)))
        .filter(|token| {
            let first = token.split('/').next().unwrap_or_default();
            let document = Path::new(token).extension().is_some_and(|e| e == "md") && !token.starts_with('/');
            document || (token.contains('/') && tops.contains(first))
        })
        .map(|token| token.trim_end_matches('/').to_owned())
        .collect()
}

/// The targets of Markdown links that lead to files.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .map(str::to_owned)
        .collect()
}

/// Our crates and what each depends on, without what only its tests need.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let uses = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
        let names = uses.map(|d| d["name"].as_str().unwrap().to_owned()).collect();
        found.insert(package["name"].as_str().unwrap().to_owned(), names);
    }
    found
}

#[test]
fn arrows_between_crates_only_point_down() {
    let allowed: &[(&str, &[&str])] = &[
        ("stackpro-domain", &[]),
        ("stackpro-protocol", &["domain"]),
        ("stackpro-flow", &["domain"]),
        ("stackpro-cloud", &["domain"]),
        ("stackpro-cloud-aws", &["domain", "cloud", "tls"]),
        ("stackpro-store", &["domain", "flow"]),
        ("stackpro-tls", &["domain"]),
        ("stackpro-agent", &["domain", "protocol", "tls"]),
        ("stackpro-server", &["domain", "protocol", "flow", "cloud", "store", "tls"]),
        ("stackpro-simulation", &["domain", "protocol", "flow", "cloud", "store", "server"]),
        (
            "stackpro",
            &["domain", "protocol", "flow", "cloud", "cloud-aws", "store", "agent", "server", "simulation", "tls"],
        ),
        ("stackpro-testkit", &["domain", "protocol", "tls"]),
    ];
    let allowed: BTreeMap<&str, &[&str]> = allowed.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, uses) in dependencies() {
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} is new: say in this test what it may depend on"));
            continue;
        };
        for used in uses.iter().filter_map(|u| u.strip_prefix("stackpro-")) {
            if !may.contains(&used) {
                wrong.push(format!("{name} -> {used}"));
            }
        }
    }
    assert_none("arrows that point up", wrong);
}

#[test]
fn each_crate_is_kept_from_what_it_must_not_know() {
    let forbidden: &[(&str, &[&str])] = &[
        // No IO, no async, no clock, no randomness.
        ("stackpro-domain", &["tokio", "async-trait", "futures", "sqlx", "reqwest", "axum", "rand", "rustix", "uuid"]),
        ("stackpro-protocol", &["tokio", "sqlx", "reqwest", "axum"]),
        ("stackpro-flow", &["sqlx", "reqwest", "axum"]),
        ("stackpro-cloud", &["sqlx"]),
        ("stackpro-tls", &["sqlx", "axum", "rand"]),
        ("stackpro-agent", &["sqlx", "rcgen", "x509-parser", "instant-acme"]),
        ("stackpro-server", &["sqlx", "rcgen", "x509-parser", "instant-acme"]),
        ("stackpro", &["sqlx"]),
    ];
    let uses = dependencies();
    let mut wrong = Vec::new();
    for (name, never) in forbidden {
        wrong.extend(never.iter().filter(|n| uses[*name].contains(**n)).map(|n| format!("{name} -> {n}")));
    }
    for (name, uses) in uses.iter().filter(|(name, _)| *name != "stackpro-cloud-aws") {
        wrong.extend(uses.iter().filter(|used| used.starts_with("aws-")).map(|used| format!("{name} -> {used}")));
    }
    assert_none("dependencies that the design forbids", wrong);
}

#[test]
fn the_rules_above_can_fail() {
    let tops = BTreeSet::from(["crates".to_owned()]);
    assert_eq!(named_paths("see `crates/none/x.rs`, `a b/c`, `GET /x/y`", &tops), ["crates/none/x.rs"]);
    assert_eq!(links("[a](docs/x.md#y) [b](https://x.example)"), ["docs/x.md"]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\nSELECT "), "a\n");
}
