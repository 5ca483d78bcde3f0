//! The calls that stand in the code, each by the name that its errors bear: `"ec2.RunInstances"`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SERVICES: [&str; 9] = ["ec2", "iam", "route53", "s3", "servicequotas", "ses", "sns", "ssm", "sts"];

/// Every call that the product makes to AWS.
pub fn calls_in_the_code() -> BTreeSet<String> {
    let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cloud-aws/src");
    texts_of(&code).into_iter().filter(|text| is_call(text)).collect()
}

/// Every text between quotes in a file or in the files of a folder, without their tests.
pub fn texts_of(path: &Path) -> BTreeSet<String> {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder of code");
        return entries.flat_map(|entry| texts_of(&entry.expect("a file of code").path())).collect();
    }
    let text = fs::read_to_string(path).expect("a file of code");
    texts_in(text.split("#[cfg(test)]").next().unwrap_or_default())
}

/// Every text between quotes.
pub fn texts_in(code: &str) -> BTreeSet<String> {
    code.lines().flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned)).collect()
}

fn is_call(text: &str) -> bool {
    let Some((service, operation)) = text.split_once('.') else { return false };
    let letters = operation.bytes().all(|byte| byte.is_ascii_alphanumeric());
    SERVICES.contains(&service) && letters && operation.starts_with(|first: char| first.is_ascii_uppercase())
}
