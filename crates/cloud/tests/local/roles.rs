//! What an instance may do.

use std::fs;

use stackpro_cloud::local::Fault;
use stackpro_cloud::{CloudError, Role};

use super::{Home, spec, tags};

fn refused<T: std::fmt::Debug>(result: Result<T, CloudError>, code: &str) {
    let error = result.unwrap_err();
    assert!(matches!(&error, CloudError::Refused { cause, .. } if cause.starts_with(code)), "{error:?}");
}

#[tokio::test]
async fn a_role_may_use_what_was_said_last_and_is_one_owners() {
    let home = Home::new();
    let roles = home.local.cloud().roles;
    roles.create("one", &tags("r1")).await.unwrap();
    let buckets = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let kept = || {
        let file = fs::read(home.local.folder().join("roles/one.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&file).unwrap()["buckets"].clone()
    };
    assert_eq!(kept(), serde_json::json!([]));
    roles.allow("one", &buckets(&["a", "b"])).await.unwrap();
    roles.allow("one", &buckets(&["b"])).await.unwrap();
    assert_eq!(kept(), serde_json::json!(["b"]));
    // Made again after a lost answer, it keeps what it may.
    roles.create("one", &tags("r1")).await.unwrap();
    assert_eq!(kept(), serde_json::json!(["b"]));
    refused(roles.create("one", &tags("r2")).await, "EntityAlreadyExists");

    let other = Role { name: "role".into(), tags: tags("role") };
    assert_eq!(roles.list().await.unwrap(), [Role { name: "one".into(), tags: tags("r1") }, other.clone()]);
    for _ in 0..2 {
        roles.delete("one").await.unwrap();
    }
    refused(roles.allow("one", &[]).await, "NoSuchEntity");
    assert_eq!(home.again().cloud().roles.list().await.unwrap(), [other]);
}

#[tokio::test]
async fn names_follow_the_rules_of_iam() {
    let home = Home::new();
    let roles = home.local.cloud().roles;
    for good in ["a", "stackpro-0199c1d4-role", "a+b=c,d.e@f_g", &"x".repeat(64)] {
        roles.create(good, &tags("r")).await.unwrap();
    }
    for bad in ["", &"x".repeat(65), "a b", "../x", "a/b", "ä", ".lock"] {
        refused(roles.create(bad, &tags("r")).await, "ValidationError");
        refused(roles.allow(bad, &[]).await, "ValidationError");
        refused(roles.delete(bad).await, "ValidationError");
    }
}

#[tokio::test]
async fn an_instance_is_launched_with_a_role_that_is_there() {
    let home = Home::new();
    let cloud = home.local.cloud();
    let mut wanted = spec("a");
    wanted.role = "later".into();
    let early = cloud.compute.launch(&wanted).await.unwrap_err();
    assert!(matches!(&early, CloudError::Transient { cause, .. } if cause.contains("iamInstanceProfile")), "{early:?}");
    assert!(cloud.compute.list().await.unwrap().is_empty());
    home.local.faults().plan("roles.create", 1, Fault::After);
    assert!(matches!(cloud.roles.create("later", &tags("r")).await, Err(CloudError::Transient { .. })));
    cloud.roles.create("later", &tags("r")).await.unwrap();
    cloud.compute.launch(&wanted).await.unwrap();
}
