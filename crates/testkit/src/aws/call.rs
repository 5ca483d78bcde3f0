//! Which call a request is, by the names that AWS documents: `ec2.RunInstances`, `s3.PutBucketPolicy`.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::header::HeaderMap;

/// A request to AWS, told apart.
#[derive(Clone, Debug)]
pub struct Call {
    /// The service's signing name and the API's operation: `ses.CreateEmailIdentity`.
    pub name: String,
    pub service: String,
    /// Parameters of services that take a form; empty for others.
    pub form: BTreeMap<String, String>,
    pub method: Method,
    /// With its query.
    pub path: String,
    /// Of requests that are text.
    pub body: String,
    /// Made by the product, not by a test itself.
    pub by_sdk: bool,
}

impl Call {
    pub(crate) fn read(method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        let service = service(headers).unwrap_or("unsigned").to_owned();
        let body = String::from_utf8(body.to_vec()).unwrap_or_default();
        let form: BTreeMap<String, String> = match headers.get("content-type").and_then(|kind| kind.to_str().ok()) {
            Some(kind) if kind.starts_with("application/x-www-form-urlencoded") => form(&body),
            _ => BTreeMap::new(),
        };
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let operation = match (form.get("Action"), target.and_then(|target| target.split_once('.'))) {
            (Some(action), _) => action.clone(),
            (None, Some((_, operation))) => operation.to_owned(),
            _ => by_path(&service, method, path),
        };
        let name = format!("{service}.{operation}");
        let agent = headers.get("user-agent").and_then(|agent| agent.to_str().ok());
        let by_sdk = agent.is_some_and(|agent| agent.starts_with("aws-sdk-rust"));
        Self { name, service, form, method: method.clone(), path: path.to_owned(), body, by_sdk }
    }

    /// Whether it names this anywhere: a client's id, a bucket.
    pub fn names(&self, what: &str) -> bool {
        self.path.contains(what) || self.body.contains(what)
    }

    /// Whether it changes nothing.
    pub fn is_look(&self) -> bool {
        ["Describe", "Get", "Head", "List", "Search"].iter().any(|verb| self.operation().starts_with(verb))
    }

    pub(crate) fn operation(&self) -> &str {
        self.name.split_once('.').map_or("", |(_, operation)| operation)
    }
}

/// Of the signature's scope: `AKIA…/20260101/eu-central-1/ec2/aws4_request`.
fn service(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get("authorization")?.to_str().ok()?;
    authorization.split_once("Credential=")?.1.split(',').next()?.split('/').nth(3)
}

fn form(body: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (plain(name), plain(value))).collect()
}

/// Operations of services that tell them by method and path.
fn by_path(service: &str, method: &Method, path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let found = match service {
        "s3" => s3(method, &parts, query),
        "route53" => route53(method, &parts),
        "ses" => ses(method, &parts),
        _ => None,
    };
    // Still told apart, and a name that no list of calls has.
    found.unwrap_or_else(|| format!("{method} {path}?{query}"))
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html>
fn s3(method: &Method, parts: &[&str], query: &str) -> Option<String> {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let of_bucket = [
        ("publicAccessBlock", "PublicAccessBlock"),
        ("versioning", "BucketVersioning"),
        ("encryption", "BucketEncryption"),
        ("policy", "BucketPolicy"),
        ("lifecycle", "BucketLifecycleConfiguration"),
        ("tagging", "BucketTagging"),
        ("ownershipControls", "BucketOwnershipControls"),
        ("location", "BucketLocation"),
        ("cors", "BucketCors"),
    ];
    let kind = |name: &str| match method.as_str() {
        "PUT" => Some(format!("Put{name}")),
        "GET" => Some(format!("Get{name}")),
        // DeleteBucketLifecycle and DeleteBucketTagging are named without what follows.
        "DELETE" => Some(format!("Delete{}", name.trim_end_matches("Configuration"))),
        _ => None,
    };
    let name = match (method.as_str(), parts.len()) {
        ("GET", 0) => "ListBuckets",
        (_, 1) => {
            if let Some((_, name)) = of_bucket.iter().find(|(query, _)| has(query)) {
                return kind(name);
            }
            match method.as_str() {
                "PUT" => "CreateBucket",
                "DELETE" => "DeleteBucket",
                "HEAD" => "HeadBucket",
                "POST" if has("delete") => "DeleteObjects",
                "GET" if has("versions") => "ListObjectVersions",
                "GET" if has("uploads") => "ListMultipartUploads",
                "GET" if has("list-type") => "ListObjectsV2",
                _ => return None,
            }
        }
        ("PUT", _) if has("uploadId") => "UploadPart",
        ("POST", _) if has("uploads") => "CreateMultipartUpload",
        ("POST", _) if has("uploadId") => "CompleteMultipartUpload",
        ("DELETE", _) if has("uploadId") => "AbortMultipartUpload",
        ("PUT", _) => "PutObject",
        ("GET", _) => "GetObject",
        ("HEAD", _) => "HeadObject",
        ("DELETE", _) => "DeleteObject",
        _ => return None,
    };
    Some(name.to_owned())
}

/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_Operations_Amazon_Route_53.html>
fn route53(method: &Method, parts: &[&str]) -> Option<String> {
    let name = match (method.as_str(), parts) {
        ("POST", [_, "hostedzone"]) => "CreateHostedZone",
        ("GET", [_, "hostedzone"]) => "ListHostedZones",
        ("GET", [_, "hostedzonesbyname"]) => "ListHostedZonesByName",
        ("GET", [_, "hostedzonecount"]) => "GetHostedZoneCount",
        ("GET", [_, "hostedzone", _]) => "GetHostedZone",
        ("DELETE", [_, "hostedzone", _]) => "DeleteHostedZone",
        ("POST", [_, "hostedzone", _, "rrset"]) => "ChangeResourceRecordSets",
        ("GET", [_, "hostedzone", _, "rrset"]) => "ListResourceRecordSets",
        ("GET", [_, "change", _]) => "GetChange",
        ("GET", [_, "hostedzonelimit", _, _]) => "GetHostedZoneLimit",
        ("GET", [_, "accountlimit", _]) => "GetAccountLimit",
        ("POST", [_, "tags", _, _]) => "ChangeTagsForResource",
        ("GET", [_, "tags", _, _]) => "ListTagsForResource",
        ("POST", [_, "tags", _]) => "ListTagsForResources",
        _ => return None,
    };
    Some(name.to_owned())
}

/// <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Operations.html>
fn ses(method: &Method, parts: &[&str]) -> Option<String> {
    let [_, _, rest @ ..] = parts else { return None };
    let name = match (method.as_str(), rest) {
        ("POST", ["identities"]) => "CreateEmailIdentity",
        ("GET", ["identities"]) | ("POST", ["list-identities"]) => "ListEmailIdentities",
        ("GET", ["identities", _]) => "GetEmailIdentity",
        ("DELETE", ["identities", _]) => "DeleteEmailIdentity",
        ("PUT", ["identities", _, "mail-from"]) => "PutEmailIdentityMailFromAttributes",
        ("PUT", ["identities", _, "configuration-set"]) => "PutEmailIdentityConfigurationSetAttributes",
        ("PUT", ["identities", _, "feedback"]) => "PutEmailIdentityFeedbackAttributes",
        ("PUT", ["identities", _, "dkim"]) => "PutEmailIdentityDkimAttributes",
        ("PUT", ["identities", _, "dkim", "signing"]) => "PutEmailIdentityDkimSigningAttributes",
        ("POST", ["configuration-sets"]) => "CreateConfigurationSet",
        ("GET", ["configuration-sets"]) | ("POST", ["list-configuration-sets"]) => "ListConfigurationSets",
        ("GET", ["configuration-sets", _]) => "GetConfigurationSet",
        ("DELETE", ["configuration-sets", _]) => "DeleteConfigurationSet",
        ("POST", ["configuration-sets", _, "event-destinations"]) => "CreateConfigurationSetEventDestination",
        ("GET", ["configuration-sets", _, "event-destinations"]) => "GetConfigurationSetEventDestinations",
        ("PUT", ["configuration-sets", _, "event-destinations", _]) => "UpdateConfigurationSetEventDestination",
        ("DELETE", ["configuration-sets", _, "event-destinations", _]) => "DeleteConfigurationSetEventDestination",
        ("PUT", ["configuration-sets", _, "suppression-options"]) => "PutConfigurationSetSuppressionOptions",
        ("PUT", ["configuration-sets", _, "sending"]) => "PutConfigurationSetSendingOptions",
        ("PUT", ["configuration-sets", _, "reputation-options"]) => "PutConfigurationSetReputationOptions",
        ("PUT", ["configuration-sets", _, "delivery-options"]) => "PutConfigurationSetDeliveryOptions",
        ("POST", ["outbound-emails"]) => "SendEmail",
        ("GET", ["account"]) => "GetAccount",
        ("PUT", ["suppression", "addresses"]) => "PutSuppressedDestination",
        ("GET", ["suppression", "addresses"]) => "ListSuppressedDestinations",
        ("GET", ["suppression", "addresses", _]) => "GetSuppressedDestination",
        ("DELETE", ["suppression", "addresses", _]) => "DeleteSuppressedDestination",
        ("POST", ["tags"]) => "TagResource",
        ("GET", ["tags"]) => "ListTagsForResource",
        ("DELETE", ["tags"]) => "UntagResource",
        _ => return None,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(service: &str, method: Method, path: &str) -> String {
        let mut headers = HeaderMap::new();
        let scope = format!("AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/{service}/aws4_request, Signature=0");
        headers.insert("authorization", scope.parse().unwrap());
        Call::read(&method, path, &headers, b"").name
    }

    #[test]
    fn a_request_is_named_as_aws_names_it() {
        assert_eq!(name("s3", Method::PUT, "/acme?publicAccessBlock"), "s3.PutPublicAccessBlock");
        assert_eq!(name("s3", Method::PUT, "/acme/"), "s3.CreateBucket");
        assert_eq!(name("s3", Method::POST, "/acme/?delete"), "s3.DeleteObjects");
        assert_eq!(name("s3", Method::DELETE, "/acme/a/b"), "s3.DeleteObject");
        assert_eq!(name("s3", Method::GET, "/?x-id=ListBuckets"), "s3.ListBuckets");
        let rrset = "/2013-04-01/hostedzone/Z1/rrset/";
        assert_eq!(name("route53", Method::POST, rrset), "route53.ChangeResourceRecordSets");
        assert_eq!(name("ses", Method::PUT, "/v2/email/identities/a/mail-from").len(), 38);
        assert_eq!(name("ses", Method::PATCH, "/v2/email/x"), "ses.PATCH /v2/email/x?");
    }

    #[test]
    fn forms_and_targets_name_the_operation() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        let call = Call::read(&Method::POST, "/", &headers, b"Action=RunInstances&UserData=a%2Bb+c");
        assert_eq!((call.operation(), call.form["UserData"].as_str()), ("RunInstances", "a+b c"));
        headers.insert("content-type", "application/x-amz-json-1.1".parse().unwrap());
        headers.insert("x-amz-target", "AmazonSSM.GetParameter".parse().unwrap());
        let asked = Call::read(&Method::POST, "/", &headers, b"{}");
        assert_eq!((asked.operation(), asked.is_look(), call.is_look()), ("GetParameter", true, false));
    }
}
