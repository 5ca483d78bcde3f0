//! Roles and instance profiles.

use aws_sdk_iam::types::Role as RawRole;
use serde_json::{Value, json};
use stackpro_cloud::{CloudError, Role, Roles, Tags};
use stackpro_cloud_aws::{Aws, AwsSettings, Iam};

use crate::between::{Between, Fate};
use crate::moto::Moto;

struct Account {
    moto: Moto,
    between: Between,
    roles: Iam,
    raw: aws_sdk_iam::Client,
}

impl Account {
    async fn open() -> Self {
        let moto = Moto::start();
        let between = Between::and(&moto, |_| None).await;
        let aws = between.aws_with(&moto, settings()).await;
        Self { roles: Iam::new(&aws), raw: aws_sdk_iam::Client::new(aws.sdk()), moto, between }
    }

    async fn role(&self, name: &str) -> RawRole {
        self.raw.get_role().role_name(name).send().await.unwrap().role.unwrap()
    }

    /// Statements of its policy; none when it has none.
    async fn policy(&self, name: &str) -> Option<Value> {
        let answer = self.raw.get_role_policy().role_name(name).policy_name("buckets").send().await.ok()?;
        Some(document(answer.policy_document()))
    }

    /// Roles and instance profiles, whoever made them.
    async fn counts(&self) -> (usize, usize) {
        let roles = self.raw.list_roles().send().await.unwrap().roles().len();
        (roles, self.raw.list_instance_profiles().send().await.unwrap().instance_profiles().len())
    }
}

fn settings() -> AwsSettings {
    AwsSettings::new("test", "stackpro.test", "https://console.stackpro.test")
}

/// IAM's policies come percent-encoded.
fn document(text: &str) -> Value {
    let text = percent_encoding::percent_decode_str(text).decode_utf8().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tags(resource: &str) -> Tags {
    Tags { resource_id: resource.into(), client_id: Some("acme".into()) }
}

#[tokio::test]
async fn a_role_lives_and_ends_with_its_profile() {
    let account = Account::open().await;
    let roles = &account.roles;
    for _ in 0..2 {
        roles.create("test-i1", &tags("r1")).await.unwrap();
    }
    let made = account.role("test-i1").await;
    assert_eq!(made.path(), "/stackpro/test/");
    assert_eq!(made.permissions_boundary(), None);
    let statement = document(made.assume_role_policy_document().unwrap())["Statement"][0].clone();
    assert_eq!(statement["Principal"], json!({ "Service": "ec2.amazonaws.com" }));
    let told: Vec<_> = made.tags().iter().map(|tag| (tag.key(), tag.value())).collect();
    let expected = [("stackpro:installation", "test"), ("stackpro:resource", "r1"), ("stackpro:client", "acme")];
    assert_eq!(told, expected);
    let profile = account.raw.get_instance_profile().instance_profile_name("test-i1").send().await.unwrap();
    let profile = profile.instance_profile.unwrap();
    assert_eq!(profile.roles().iter().map(RawRole::role_name).collect::<Vec<_>>(), ["test-i1"]);

    assert_eq!(account.policy("test-i1").await, None);
    let buckets = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    roles.allow("test-i1", &buckets(&["a", "b"])).await.unwrap();
    roles.allow("test-i1", &buckets(&["b", "c"])).await.unwrap();
    let policy = account.policy("test-i1").await.unwrap();
    let [on_buckets, on_objects] = policy["Statement"].as_array().unwrap().as_slice() else { panic!("{policy}") };
    assert_eq!(on_buckets["Resource"], json!(["arn:aws:s3:::b", "arn:aws:s3:::c"]));
    assert_eq!(on_objects["Resource"], json!(["arn:aws:s3:::b/*", "arn:aws:s3:::c/*"]));
    // Nothing but S3's objects: no shell, no policy, no other service.
    for action in [on_buckets, on_objects].iter().flat_map(|statement| statement["Action"].as_array().unwrap()) {
        let action = action.as_str().unwrap();
        assert!(action.starts_with("s3:") && !action.contains('*') && !action.contains("Policy"), "{action}");
    }
    for _ in 0..2 {
        roles.allow("test-i1", &[]).await.unwrap();
    }
    assert_eq!(account.policy("test-i1").await, None);

    roles.allow("test-i1", &buckets(&["a"])).await.unwrap();
    for _ in 0..2 {
        roles.delete("test-i1").await.unwrap();
    }
    assert_eq!(account.counts().await, (0, 0));
}

#[tokio::test]
async fn whatever_becomes_of_an_answer_the_next_attempt_makes_it_whole() {
    let account = Account::open().await;
    let roles = &account.roles;
    for action in ["CreateRole", "CreateInstanceProfile", "AddRoleToInstanceProfile"] {
        account.between.plan(action, [Fate::AnswerLost]);
        let lost = roles.create("test-i1", &tags("r1")).await.unwrap_err();
        assert!(matches!(lost, CloudError::Transient { .. }), "{lost}");
    }
    roles.create("test-i1", &tags("r1")).await.unwrap();
    assert_eq!(account.counts().await, (1, 1));
    let missing = || Fate::Refused("NoSuchEntity", "The role with name test-i1 cannot be found.");
    account.between.plan("PutRolePolicy", [missing(), Fate::AnswerLost]);
    for _ in 0..2 {
        let early = roles.allow("test-i1", &["a".into()]).await.unwrap_err();
        assert!(matches!(early, CloudError::Transient { .. }), "{early}");
    }
    assert!(account.policy("test-i1").await.is_some());
    account.between.plan("DeleteRole", [Fate::Refused("ConcurrentModification", "Try again.")]);
    let busy = roles.delete("test-i1").await.unwrap_err();
    assert!(matches!(busy, CloudError::Transient { .. }), "{busy}");
    for action in ["RemoveRoleFromInstanceProfile", "DeleteInstanceProfile", "DeleteRolePolicy", "DeleteRole"] {
        account.between.plan(action, [Fate::AnswerLost]);
        let lost = roles.delete("test-i1").await.unwrap_err();
        assert!(matches!(lost, CloudError::Transient { .. }), "{lost}");
    }
    roles.delete("test-i1").await.unwrap();
    assert_eq!(account.counts().await, (0, 0));
}

#[tokio::test]
async fn ours_are_listed_all_and_told_from_others() {
    let account = Account::open().await;
    let theirs = account.raw.create_role().role_name("test-i1").assume_role_policy_document("{}");
    theirs.send().await.unwrap();
    let taken = account.roles.create("test-i1", &tags("r1")).await.unwrap_err();
    assert!(matches!(&taken, CloudError::Refused { cause, .. } if cause.contains("not ours")), "{taken}");
    let other =
        account.between.aws_with(&account.moto, AwsSettings { installation: "other".into(), ..settings() }).await;
    Iam::new(&other).create("other-i1", &tags("r1")).await.unwrap();
    assert_eq!(account.roles.list().await.unwrap(), []);

    // More than a page.
    let names: Vec<String> = (0..101).map(|number| format!("test-i{:03}", 100 + number)).collect();
    for name in &names {
        let request = account.raw.create_role().role_name(name).path("/stackpro/test/");
        let request = request.assume_role_policy_document("{}").description(json!(tags(name)).to_string());
        request.send().await.unwrap();
    }
    let mut listed = account.roles.list().await.unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let expected: Vec<Role> = names.iter().map(|name| Role { name: name.clone(), tags: tags(name) }).collect();
    assert_eq!(listed, expected);
    assert!(account.between.of("ListRoles").len() >= 3);
}

#[tokio::test]
async fn a_boundary_is_set_where_there_is_one_and_arns_are_of_their_partition() {
    let account = Account::open().await;
    let boundary = Some("arn:aws:iam::123456789012:policy/boundary".to_owned());
    let region = Some("cn-north-1".to_owned());
    let aws: Aws =
        account.moto.aws_with(AwsSettings { permissions_boundary: boundary.clone(), region, ..settings() }).await;
    let (roles, raw) = (Iam::new(&aws), aws_sdk_iam::Client::new(aws.sdk()));
    roles.create("test-i1", &tags("r1")).await.unwrap();
    roles.allow("test-i1", &["a".into()]).await.unwrap();
    let made = raw.get_role().role_name("test-i1").send().await.unwrap().role.unwrap();
    let set = made.permissions_boundary().and_then(|boundary| boundary.permissions_boundary_arn());
    assert_eq!(set, boundary.as_deref());
    let policy = raw.get_role_policy().role_name("test-i1").policy_name("buckets").send().await.unwrap();
    assert!(document(policy.policy_document()).to_string().contains(r#""arn:aws-cn:s3:::a""#));
}
