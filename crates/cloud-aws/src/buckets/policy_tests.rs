//! Policies are judged here, since the emulator accepts any and understands few of them.

use serde_json::Value;

use super::*;

const BUCKET: &str = "stackpro-acme-law-7f3k";
const ROLE: &str = "arn:aws:iam::123456789012:role/stackpro/test/stackpro-0192";
const OTHER: &str = "arn:aws:iam::123456789012:role/stackpro/other/stackpro-0193";
const US: &str = "arn:aws:iam::123456789012:role/control/StackPro";

fn identity() -> Identity {
    let arn = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
    Identity {
        account: "123456789012".into(),
        partition: "aws".into(),
        principals: vec![arn("StackPro"), arn("*/StackPro")],
    }
}

fn bucket_policy() -> Value {
    let mut admitted = identity().principals;
    admitted.push(instance_roles(&identity(), "test"));
    bucket(&identity(), BUCKET, &admitted)
}

/// AWS's patterns: `*` stands for anything, other slashes too.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| matches(rest, text)))),
    }
}

fn any(patterns: &Value, text: &str) -> bool {
    match patterns {
        Value::String(pattern) => matches(pattern, text),
        Value::Array(patterns) => patterns.iter().any(|pattern| any(pattern, text)),
        other => panic!("{other} is no pattern"),
    }
}

struct Asked<'a> {
    /// None of an anonymous caller.
    principal: Option<&'a str>,
    action: &'a str,
    resource: &'a str,
    tls: bool,
}

/// Whether a statement is about this request, as IAM evaluates it. What we don't use is not understood, and fails.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>
fn concerns(statement: &Value, asked: &Asked<'_>) -> bool {
    let members = statement.as_object().unwrap();
    let known = ["Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"];
    assert!(members.keys().all(|key| known.contains(&key.as_str())), "{statement}");
    let action = match (members.get("Action"), members.get("NotAction")) {
        (Some(actions), None) => any(actions, asked.action),
        (None, Some(actions)) => !any(actions, asked.action),
        _ => panic!("either Action or NotAction: {statement}"),
    };
    let conditions = members.get("Condition").and_then(Value::as_object);
    let holds = conditions.into_iter().flatten().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, wanted)| match (operator.as_str(), key.as_str()) {
            ("Bool", "aws:SecureTransport") => any(wanted, if asked.tls { "true" } else { "false" }),
            // A negated operator holds when the key is absent, others do not.
            ("ArnNotLike", "aws:PrincipalArn") => !asked.principal.is_some_and(|arn| any(wanted, arn)),
            ("ArnLike", "aws:PrincipalArn") => asked.principal.is_some_and(|arn| any(wanted, arn)),
            other => panic!("{other:?} is not understood"),
        })
    });
    let resource = members.get("Resource").is_none_or(|resources| any(resources, asked.resource));
    action && resource && holds
}

fn effects<'a>(policy: &'a Value, asked: &Asked<'_>) -> Vec<&'a str> {
    assert_eq!(policy["Version"], "2012-10-17", "the old version knows no variables");
    let statements = policy["Statement"].as_array().unwrap().iter();
    statements.filter(|statement| concerns(statement, asked)).map(|s| s["Effect"].as_str().unwrap()).collect()
}

fn is_denied(policy: &Value, principal: Option<&str>, action: &str, tls: bool) -> bool {
    let arn = format!("arn:aws:s3:::{BUCKET}");
    let object = format!("{arn}/files/a");
    let [on_bucket, on_object] = [arn.as_str(), object.as_str()]
        .map(|resource| effects(policy, &Asked { principal, action, resource, tls }).contains(&"Deny"));
    assert_eq!(on_bucket, on_object, "a bucket and what is in it are one");
    on_bucket
}

#[test]
fn a_bucket_is_reached_by_the_admitted_over_tls_and_by_nobody_else() {
    let policy = bucket_policy();
    for action in
        ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObjectVersion", "s3:PutLifecycleConfiguration"]
    {
        for admitted in [ROLE, US, "arn:aws:iam::123456789012:role/StackPro"] {
            assert!(!is_denied(&policy, Some(admitted), action, true), "{admitted} {action}");
            assert!(is_denied(&policy, Some(admitted), action, false), "{admitted} {action} without TLS");
        }
        let strangers = [
            OTHER,
            "arn:aws:iam::123456789012:user/admin",
            "arn:aws:iam::999999999999:role/StackPro",
            "arn:aws:iam::999999999999:role/stackpro/test/stackpro-0192",
            "arn:aws:iam::123456789012:role/stackpro/test",
            "arn:aws:iam::123456789012:role/StackProX",
            "arn:aws:iam::123456789012:role/XStackPro",
        ];
        for stranger in strangers.into_iter().map(Some).chain([None]) {
            assert!(is_denied(&policy, stranger, action, true), "{stranger:?} {action}");
        }
    }
}

#[test]
fn nobody_is_locked_out_for_good() {
    let policy = bucket_policy();
    for action in NEVER_DENIED {
        assert!(!is_denied(&policy, Some("arn:aws:iam::123456789012:role/Admin"), action, true), "{action}");
    }
}

/// "Block public access" refuses a policy that allows anything to everyone, and this one has nothing to allow.
#[test]
fn a_buckets_policy_allows_nothing_and_is_small() {
    let policy = bucket_policy();
    assert!(policy["Statement"].as_array().unwrap().iter().all(|statement| statement["Effect"] == "Deny"));
    let many: Vec<String> = (0..100).map(|number| format!("{ROLE}-{number}")).collect();
    let text = bucket(&identity(), BUCKET, &many).to_string();
    assert!(text.len() < 20 * 1024, "S3 takes 20 KB, this has {}", text.len());
}

#[test]
fn a_session_reaches_one_bucket_and_writes_below_its_folder_alone() {
    let policy = session(&identity(), BUCKET, None);
    assert!(policy.to_string().len() <= 2048, "STS takes 2048 letters");
    let role = storage_role(&identity(), None);
    let may = |action: &str, resource: &str| {
        let asked = Asked { principal: Some(US), action, resource, tls: true };
        let [session, role] = [&policy, &role].map(|policy| effects(policy, &asked) == ["Allow"]);
        assert!(role || !session, "a session can do no more than its role: {action} {resource}");
        session
    };
    let arn = format!("arn:aws:s3:::{BUCKET}");
    assert!(may("s3:ListBucket", &arn));
    assert!(may("s3:GetObject", &format!("{arn}/backups/data/00")));
    assert!(may("s3:PutObject", &format!("{arn}/files/a")));
    for (action, resource) in [
        ("s3:PutObject", format!("{arn}/backups/data/00")),
        ("s3:DeleteObject", format!("{arn}/config")),
        ("s3:DeleteObjectVersion", format!("{arn}/files/a")),
        ("s3:GetObject", format!("{arn}-2/files/a")),
        ("s3:ListBucket", format!("{arn}-2")),
        ("s3:PutBucketPolicy", arn.clone()),
        ("s3:DeleteBucket", arn.clone()),
        ("s3:PutLifecycleConfiguration", arn.clone()),
    ] {
        assert!(!may(action, &resource), "{action} {resource}");
    }
}

#[test]
fn the_storage_role_trusts_us_alone() {
    let policy = trust(&identity(), &identity().principals);
    let may = |arn: &str| {
        let asked = Asked { principal: Some(arn), action: "sts:AssumeRole", resource: "", tls: true };
        effects(&policy, &asked) == ["Allow"]
    };
    assert!(may(US));
    assert!(!may(ROLE));
    assert_eq!(policy["Statement"][0]["Principal"]["AWS"], "arn:aws:iam::123456789012:root");
}
