//! What is said of an account before anything is launched: each line right, and when it is not, what to do.

use std::net::SocketAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{Name, RData, Record};
use serde_json::json;
use sha2::{Digest, Sha256};
use stackpro_cloud::Check;
use stackpro_cloud_aws::{Aws, AwsSettings, Release};

use crate::between::{Between, Call};
use crate::moto::Moto;

const SUMS: &str = "00  stackpro-x86_64\n00  docker-compose-x86_64\n";

fn sum(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Says of every domain that these answer for it.
async fn world(servers: Vec<String>) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.queries.clone_from(&question.queries);
            for server in &servers {
                let host = Name::from_ascii(server).unwrap();
                answer.add_answer(Record::from_rdata(question.queries[0].name().clone(), 60, RData::NS(NS(host))));
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

/// An account of which the emulator does not know what it may have.
async fn account(moto: &Moto, buckets: f64, sums: &'static str) -> Between {
    Between::and(moto, move |call: &Call| {
        if call.what.ends_with("/release/SHA256SUMS") {
            return Some((200, sums.to_owned()));
        }
        if call.what.contains("/v2/email/account") {
            let quota = json!({ "Max24HourSend": 200.0, "MaxSendRate": 14.0, "SentLast24Hours": 190.0 });
            let said = json!({ "ProductionAccessEnabled": true, "SendingEnabled": true, "SendQuota": quota });
            return Some((200, said.to_string()));
        }
        // The account has no quota of buckets of its own: it has what every account has.
        if call.action() == "GetServiceQuota" && call.text().contains("L-DC2B2D3D") {
            return Some((400, json!({ "__type": "NoSuchResourceException", "Message": "no" }).to_string()));
        }
        let value = match (call.text().contains("L-1216C47A"), call.text().contains("L-DC2B2D3D")) {
            (true, _) => 64.0,
            (_, true) => buckets,
            _ => return None,
        };
        Some((200, json!({ "Quota": { "Value": value } }).to_string()))
    })
    .await
}

async fn lines(aws: &Aws) -> Vec<Check> {
    aws.cloud().checks.all().await
}

fn found<'a>(lines: &'a [Check], name: &str) -> Result<&'a str, &'a str> {
    let line = lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("no {name} in {lines:?}"));
    line.found.as_deref().map_err(String::as_str)
}

#[tokio::test]
async fn each_line_says_what_is_so_or_what_to_do() {
    let moto = Moto::start();
    let between = account(&moto, 1_000.0, SUMS).await;
    let plain = between.aws(&moto).await;
    let client = aws_sdk_route53::Client::new(plain.sdk());
    let made = client.create_hosted_zone().name("stackpro.test").caller_reference("r").send().await.unwrap();
    let serving = made.delegation_set.unwrap().name_servers;
    let endpoint = plain.settings().endpoint.clone().unwrap();
    let release = Some(Release { url: format!("{endpoint}/release"), sha256: sum(SUMS) });
    let resolver = Some(world(serving.clone()).await);
    let aws = between.aws_with(&moto, AwsSettings { release, resolver, ..plain.settings().clone() }).await;

    let said = lines(&aws).await;
    assert_eq!(found(&said, "region"), Ok("eu-central-1"));
    assert!(found(&said, "credentials").unwrap().contains("123456789012"), "{said:?}");
    assert_eq!(found(&said, "quota of instances"), Ok("0 of 64 vCPUs are used"));
    assert_eq!(found(&said, "quota of buckets"), Ok("0 of 1000 buckets are used"));
    assert!(found(&said, "zone").unwrap().contains("the world asks it"), "{said:?}");
    assert!(found(&said, "image").unwrap().starts_with("ami-"), "{said:?}");
    assert!(found(&said, "release").unwrap().contains("as its checksum says"), "{said:?}");
    assert!(found(&said, "mail").unwrap_err().contains("190 of 200 mails a day"), "{said:?}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do_about_it() {
    let moto = Moto::start();
    let between = account(&moto, 20.0, "00  stackpro-x86_64\n").await;
    let plain = between.aws(&moto).await;
    let client = aws_sdk_route53::Client::new(plain.sdk());
    client.create_hosted_zone().name("stackpro.test").caller_reference("r").send().await.unwrap();
    let endpoint = plain.settings().endpoint.clone().unwrap();
    let release = |sha256| Some(Release { url: format!("{endpoint}/release"), sha256 });
    let with = async |release, servers: &[&str]| {
        let resolver = Some(world(servers.iter().map(|&server| server.to_owned()).collect()).await);
        let aws = between.aws_with(&moto, AwsSettings { release, resolver, ..plain.settings().clone() }).await;
        lines(&aws).await
    };
    let said = with(release("0".repeat(64)), &[]).await;
    assert!(found(&said, "quota of buckets").unwrap_err().contains("L-DC2B2D3D"), "{said:?}");
    assert!(found(&said, "zone").unwrap_err().contains("the world asks nobody: set the name servers"), "{said:?}");
    assert!(found(&said, "release").unwrap_err().contains("STACKPRO_RELEASE_SHA256"), "{said:?}");

    let said = with(release(sum("00  stackpro-x86_64\n")), &["ns1.elsewhere.example."]).await;
    assert!(found(&said, "zone").unwrap_err().contains("ns1.elsewhere.example"), "{said:?}");
    assert!(found(&said, "release").unwrap_err().contains("docker-compose-x86_64"), "{said:?}");

    let said = with(None, &[]).await;
    assert!(found(&said, "release").unwrap_err().contains("STACKPRO_RELEASE_URL"), "{said:?}");
}
