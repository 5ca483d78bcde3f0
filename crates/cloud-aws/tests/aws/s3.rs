use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use serde_json::Value;
use stackpro_cloud::{Buckets, CloudError, LinkUse, Tags};
use stackpro_cloud_aws::{Aws, AwsSettings, S3};

use crate::between::{Between, Call};
use crate::moto::Moto;

const NAME: &str = "stackpro-acme-law-7f3k";
const MINUTE: Duration = Duration::from_mins(1);

fn tags(resource: &str) -> Tags {
    Tags { resource_id: resource.into(), client_id: Some("acme-law-7f3k".into()) }
}

fn client(aws: &Aws) -> Client {
    Client::from_conf(aws_sdk_s3::config::Builder::from(aws.sdk()).force_path_style(true).build())
}

/// The emulator takes any statement that denies for one that denies everything to everyone. So it never hears of
/// policies, and the last one is kept here.
async fn without_policies(moto: &Moto) -> (Between, Arc<Mutex<Option<Value>>>) {
    let last = Arc::new(Mutex::new(None));
    let kept = last.clone();
    let between = Between::and(moto, move |call: &Call| {
        let is_policy = call.what.starts_with("PUT ") && call.what.ends_with("?policy");
        is_policy.then(|| {
            *kept.lock().unwrap() = serde_json::from_slice(&call.body).ok();
            (204, String::new())
        })
    })
    .await;
    (between, last)
}

#[tokio::test]
async fn a_bucket_is_closed_versioned_encrypted_and_marked_however_often_it_is_made() {
    let moto = Moto::start();
    let (between, policy) = without_policies(&moto).await;
    let aws = between.aws(&moto).await;
    let (buckets, client) = (S3::new(&aws), client(&aws));
    buckets.create(NAME, &tags("r1")).await.unwrap();
    assert!(policy.lock().unwrap().as_ref().unwrap().to_string().contains("aws:SecureTransport"));
    // The answer was lost, and by hand somebody opened it.
    client.delete_public_access_block().bucket(NAME).send().await.unwrap();
    S3::new(&aws).create(NAME, &tags("r1")).await.unwrap();

    let closed = client.get_public_access_block().bucket(NAME).send().await.unwrap();
    let closed = closed.public_access_block_configuration.unwrap();
    let all = [
        closed.block_public_acls,
        closed.ignore_public_acls,
        closed.block_public_policy,
        closed.restrict_public_buckets,
    ];
    assert_eq!(all, [Some(true); 4]);
    // The emulator's own answer about versions is malformed.
    for body in ["1", "2"] {
        client.put_object().bucket(NAME).key("a").body(body.as_bytes().to_vec().into()).send().await.unwrap();
    }
    let kept = client.list_object_versions().bucket(NAME).send().await.unwrap();
    assert_eq!(kept.versions().len(), 2);
    let owned = client.get_bucket_ownership_controls().bucket(NAME).send().await.unwrap();
    assert!(format!("{owned:?}").contains("BucketOwnerEnforced"), "{owned:?}");
    let encrypted = client.get_bucket_encryption().bucket(NAME).send().await.unwrap();
    assert!(format!("{encrypted:?}").contains("Aes256"), "{encrypted:?}");
    let lifecycle = client.get_bucket_lifecycle_configuration().bucket(NAME).send().await.unwrap();
    let rule = &lifecycle.rules()[0];
    assert_eq!(rule.noncurrent_version_expiration().unwrap().noncurrent_days(), Some(30));
    assert_eq!(rule.abort_incomplete_multipart_upload().unwrap().days_after_initiation(), Some(3));
    assert_eq!(rule.expiration().unwrap().expired_object_delete_marker(), Some(true));
    let listed = buckets.list().await.unwrap();
    assert_eq!(listed.iter().map(|b| (b.name.as_str(), &b.tags)).collect::<Vec<_>>(), [(NAME, &tags("r1"))]);

    buckets.delete(NAME, "r1").await.unwrap();
    buckets.delete(NAME, "r1").await.unwrap();
    assert!(client.list_buckets().send().await.unwrap().buckets().is_empty());
}

#[tokio::test]
async fn who_is_admitted_is_in_the_policy_and_nobody_else() {
    let moto = Moto::start();
    let (between, policy) = without_policies(&moto).await;
    let mut settings = between.aws(&moto).await.settings().clone();
    settings.kms_key = Some("arn:aws:kms:eu-central-1:123456789012:key/1".into());
    settings.bucket_principals = vec!["arn:aws:iam::123456789012:role/admin".into()];
    let aws = moto.aws_at(settings).await;
    let buckets = S3::new(&aws);
    buckets.create(NAME, &tags("r1")).await.unwrap();
    let admitted = || {
        policy.lock().unwrap().clone().unwrap()["Statement"][1]["Condition"]["ArnNotLike"]["aws:PrincipalArn"].clone()
    };
    let mut all = vec![
        "arn:aws:sts::123456789012:user/moto",
        "arn:aws:iam::123456789012:role/admin",
        "arn:aws:iam::123456789012:role/stackpro/test/test-storage",
        "arn:aws:iam::123456789012:role/stackpro/test/*",
    ];
    assert_eq!(admitted(), Value::from(all.clone()));
    let encrypted = client(&aws).get_bucket_encryption().bucket(NAME).send().await.unwrap();
    let rules = encrypted.server_side_encryption_configuration.unwrap().rules;
    let by = rules[0].apply_server_side_encryption_by_default().unwrap();
    assert!(by.kms_master_key_id().unwrap().ends_with("key/1"));
    // Instances are shut out before it is emptied.
    buckets.delete(NAME, "r1").await.unwrap();
    all.pop();
    assert_eq!(admitted(), Value::from(all));
}

#[tokio::test]
async fn a_name_that_anybody_else_has_is_taken_and_their_bucket_stays() {
    for region in ["eu-central-1", "us-east-1"] {
        let moto = Moto::start();
        let mut settings = AwsSettings::new("test", "stackpro.test", "https://console.stackpro.test");
        settings.region = Some(region.into());
        let aws = moto.aws_with(settings.clone()).await;
        let (buckets, client) = (S3::new(&aws), client(&aws));
        let make = async |name: &str| {
            let place = (region != "us-east-1").then(|| {
                let place = BucketLocationConstraint::from(region);
                CreateBucketConfiguration::builder().location_constraint(place).build()
            });
            client.create_bucket().bucket(name).set_create_bucket_configuration(place).send().await.unwrap();
        };
        let is_taken = async |name: &str| {
            let made = buckets.create(name, &tags("r1")).await;
            assert!(
                matches!(&made, Err(CloudError::Taken { cause, .. }) if cause.contains(name)),
                "{region} {name}: {made:?}"
            );
            buckets.delete(name, "r1").await.unwrap();
            client.head_bucket().bucket(name).send().await.unwrap();
        };
        // The operator's own, which has no tags of ours.
        make("stackpro-theirs").await;
        client.put_object().bucket("stackpro-theirs").key("a").send().await.unwrap();
        is_taken("stackpro-theirs").await;
        // Another resource's of ours, and another installation's.
        buckets.create("stackpro-two", &tags("r2")).await.unwrap();
        is_taken("stackpro-two").await;
        settings.installation = "other".into();
        S3::new(&moto.aws_with(settings).await).create("stackpro-three", &tags("r1")).await.unwrap();
        is_taken("stackpro-three").await;
        // One of ours who died between making and marking it: nothing is in it.
        make("stackpro-half").await;
        buckets.create("stackpro-half", &tags("r1")).await.unwrap();
        let mut names: Vec<_> = buckets.list().await.unwrap().into_iter().map(|bucket| bucket.name).collect();
        names.sort();
        assert_eq!(names, ["stackpro-half", "stackpro-two"], "{region}");
        make("stackpro-half-2").await;
        buckets.delete("stackpro-half-2", "r1").await.unwrap();
        assert!(client.head_bucket().bucket("stackpro-half-2").send().await.is_err());
    }
}

/// Another account's: said by 409 and by 403, which the emulator never says.
#[tokio::test]
async fn another_accounts_bucket_is_taken_and_never_touched() {
    let moto = Moto::start();
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    let between = Between::and(&moto, move |call| {
        let bucket = call.what.contains(&format!("/{NAME}"));
        match call.what.split(' ').next() {
            Some("PUT") if bucket => Some((409, error("BucketAlreadyExists"))),
            Some(_) if bucket => Some((403, error("AccessDenied"))),
            _ => None,
        }
    })
    .await;
    let buckets = S3::new(&between.aws(&moto).await);
    assert!(matches!(buckets.create(NAME, &tags("r1")).await, Err(CloudError::Taken { .. })));
    buckets.delete(NAME, "r1").await.unwrap();
    assert_eq!(between.count("DELETE"), 0, "{:?}", between.calls());
}

/// The same answer for a bucket of ours is our own want of rights, and must not be taken for "there is none".
#[tokio::test]
async fn a_bucket_that_we_may_not_look_at_is_not_gone() {
    let moto = Moto::start();
    S3::new(&moto.aws().await).create(NAME, &tags("r1")).await.unwrap();
    let between = Between::and(&moto, |call| {
        call.what
            .contains("?tagging")
            .then(|| (403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".into()))
    })
    .await;
    let buckets = S3::new(&between.aws(&moto).await);
    assert!(
        matches!(buckets.delete(NAME, "r1").await, Err(CloudError::Refused { cause, .. }) if cause.contains("AccessDenied"))
    );
    assert!(buckets.list().await.is_err(), "a bucket that cannot be told must not look ownerless or missing");
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again_and_what_does_not_is_said() {
    let cases = [
        (409, "OperationAborted", "transient"),
        (503, "SlowDown", "throttled"),
        (500, "InternalError", "transient"),
        (400, "TooManyBuckets", "refused"),
        (400, "InvalidBucketName", "refused"),
    ];
    for (status, code, expected) in cases {
        let moto = Moto::start();
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let between =
            Between::and(&moto, move |call| call.what.starts_with("PUT ").then(|| (status, body.clone()))).await;
        let failed = S3::new(&between.aws(&moto).await).create(NAME, &tags("r1")).await.unwrap_err();
        let kind = match failed {
            CloudError::Transient { .. } => "transient",
            CloudError::Throttled { .. } => "throttled",
            CloudError::Refused { .. } => "refused",
            _ => "another",
        };
        assert_eq!(kind, expected, "{code}");
    }
}

#[tokio::test]
async fn a_bucket_with_thousands_of_versions_is_emptied_a_part_at_a_time() {
    let moto = Moto::start();
    // Eleven full pages before what is really there.
    let mut pages = 11;
    let between = Between::and(&moto, move |call| {
        if call.what.starts_with("PUT ") && call.what.ends_with("?policy") {
            return Some((204, String::new()));
        }
        if !call.what.starts_with("GET ") || !call.what.contains("?versions") || pages == 0 {
            return None;
        }
        pages -= 1;
        let version = |number: usize| format!("<Version><Key>{pages}-{number}</Key><VersionId>v</VersionId></Version>");
        let versions: String = (0..1_000).map(version).collect();
        Some((200, format!("<ListVersionsResult><IsTruncated>true</IsTruncated>{versions}</ListVersionsResult>")))
    })
    .await;
    let aws = between.aws(&moto).await;
    let (buckets, client) = (S3::new(&aws), client(&aws));
    buckets.create(NAME, &tags("r1")).await.unwrap();
    for version in 0..3 {
        let body = format!("{version}").into_bytes().into();
        client.put_object().bucket(NAME).key("files/a & <b>").body(body).send().await.unwrap();
    }
    client.create_multipart_upload().bucket(NAME).key("files/half").send().await.unwrap();
    let mut parts = 0;
    loop {
        let before = between.calls().len();
        let done = buckets.delete(NAME, "r1").await;
        assert!(between.calls().len() - before <= 40, "one call does a bounded part");
        match done {
            Ok(()) => break,
            Err(CloudError::Pending { what, .. }) => assert!(what.contains("objects removed"), "{what}"),
            Err(error) => panic!("{error}"),
        }
        parts += 1;
        assert!(parts < 5, "it does not end");
    }
    assert!(parts >= 1, "it did all at once");
    assert!(client.list_buckets().send().await.unwrap().buckets().is_empty());
}

#[tokio::test]
async fn what_cannot_be_removed_is_said_and_a_bucket_that_fills_again_is_emptied_again() {
    let moto = Moto::start();
    let mut refused = 0;
    let between = Between::and(&moto, move |call| {
        let is_policy = call.what.starts_with("PUT ") && call.what.ends_with("?policy");
        if is_policy {
            return Some((204, String::new()));
        }
        if call.what.starts_with("POST ") && call.what.contains("?delete") && refused == 0 {
            refused += 1;
            let error = "<Error><Key>a</Key><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";
            return Some((200, format!("<DeleteResult>{error}</DeleteResult>")));
        }
        (call.what.starts_with("DELETE ") && refused == 1).then(|| {
            refused += 1;
            (409, "<Error><Code>BucketNotEmpty</Code><Message>not empty</Message></Error>".to_owned())
        })
    })
    .await;
    let aws = between.aws(&moto).await;
    let (buckets, client) = (S3::new(&aws), client(&aws));
    buckets.create(NAME, &tags("r1")).await.unwrap();
    client.put_object().bucket(NAME).key("a").send().await.unwrap();
    assert!(
        matches!(buckets.delete(NAME, "r1").await, Err(CloudError::Transient { cause, .. }) if cause.contains("InternalError"))
    );
    assert!(matches!(buckets.delete(NAME, "r1").await, Err(CloudError::Pending { .. })));
    buckets.delete(NAME, "r1").await.unwrap();
    let gone = client.head_bucket().bucket(NAME).send().await.unwrap_err();
    assert_eq!(gone.code(), Some("NotFound"));
}

#[tokio::test]
async fn listing_costs_one_call_once_tags_are_known() {
    let moto = Moto::start();
    let between = Between::and(&moto, |_| None).await;
    let aws = between.aws(&moto).await;
    let buckets = S3::new(&aws);
    for number in 0..5 {
        buckets.create(&format!("stackpro-c{number}"), &tags("r1")).await.unwrap();
    }
    client(&aws)
        .create_bucket()
        .bucket("theirs")
        .create_bucket_configuration(
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::EuCentral1).build(),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(buckets.list().await.unwrap().len(), 5);
    let before = between.calls().len();
    assert_eq!(buckets.list().await.unwrap().len(), 5);
    assert_eq!(between.calls().len() - before, 1, "{:?}", between.calls());
    buckets.delete("stackpro-c0", "r1").await.unwrap();
    assert_eq!(buckets.list().await.unwrap().len(), 4);
}

#[tokio::test]
async fn links_are_for_one_object_type_and_length_and_for_minutes() {
    let moto = Moto::start();
    let (between, _) = without_policies(&moto).await;
    let aws = between.aws(&moto).await;
    let (buckets, client) = (S3::new(&aws), client(&aws));
    buckets.create(NAME, &tags("r1")).await.unwrap();
    let what = LinkUse::Put { content_type: "text/plain".into(), content_length: 5 };
    let put = buckets.link(NAME, "files/a b", &what, 15 * MINUTE).await.unwrap();
    assert_eq!(put.method, "PUT");
    assert!(put.url.contains("X-Amz-Expires=900") && put.url.contains("files/a%20b"), "{}", put.url);
    let signed = put.url.split("X-Amz-SignedHeaders=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    for header in ["content-type", "content-length", "host"] {
        assert!(signed.contains(header), "{header} is not bound: {signed}");
    }
    assert!(!put.url.contains("checksum") && !put.headers.iter().any(|(name, _)| name.contains("checksum")), "{put:?}");
    assert!(put.headers.contains(&("content-type".into(), "text/plain".into())), "{put:?}");
    assert!(put.headers.contains(&("content-length".into(), "5".into())), "{put:?}");

    client.put_object().bucket(NAME).key("files/a b").body(b"hello".to_vec().into()).send().await.unwrap();
    let get = buckets.link(NAME, "files/a b", &LinkUse::Get, MINUTE).await.unwrap();
    assert!(get.url.contains("response-content-disposition=attachment"), "{}", get.url);
    assert_eq!((get.method.as_str(), get.headers.len()), ("GET", 0));
}

#[tokio::test]
async fn credentials_are_of_a_role_made_once_and_held_to_one_bucket() {
    let moto = Moto::start();
    let sessions = Arc::new(Mutex::new(Vec::new()));
    let kept = sessions.clone();
    let between = Between::and(&moto, move |call| {
        let text = call.text();
        if text.contains("Action=AssumeRole") {
            kept.lock().unwrap().push(text);
            // AWS says of a role that is not there what it says of one that we may not take.
            let denied = kept.lock().unwrap().len() == 1;
            let body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
            return denied.then(|| (403, body.to_owned()));
        }
        None
    })
    .await;
    let aws = between.aws(&moto).await;
    let buckets = S3::new(&aws);
    let first = buckets.credentials(NAME, 60 * MINUTE).await;
    assert!(matches!(first, Err(CloudError::Pending { .. })), "{first:?}");
    let given = buckets.credentials(NAME, 60 * MINUTE).await.unwrap().unwrap();
    assert!(given.access_key_id.starts_with("ASIA"), "{given:?}");
    assert_eq!(given.region, "eu-central-1");
    assert!(!format!("{given:?}").contains("secret_access_key: \""), "a secret is not shown");
    let asked = sessions.lock().unwrap()[1].clone();
    for part in [
        "DurationSeconds=3600",
        "RoleSessionName=stackpro-acme-law-7f3k",
        "role%2Fstackpro%2Ftest%2Ftest-storage",
        "Policy=%7B",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let iam = aws_sdk_iam::Client::new(aws.sdk());
    let roles = iam.list_roles().send().await.unwrap().roles;
    assert_eq!(roles.iter().map(|role| role.role_name.as_str()).collect::<Vec<_>>(), ["test-storage"]);
    let rights = iam.get_role_policy().role_name("test-storage").policy_name("test-storage").send().await.unwrap();
    assert!(rights.policy_document.contains("stackpro-"), "{}", rights.policy_document);
}
