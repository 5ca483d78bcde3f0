//! Instances, by an emulator that knows AWS's images and types, and by what it never does (see `between`).

use aws_sdk_ec2::types::{AttributeBooleanValue, Filter, IpPermission, IpRange};
use stackpro_cloud::{CloudError, Compute, InstanceState, LaunchSpec, Roles, Tags};
use stackpro_cloud_aws::{Aws, AwsSettings, Ec2, Iam, Release};

use crate::between::{Between, Fate};
use crate::moto::Moto;

/// Images and types are checked; keys we have none.
const STRICT: [(&str, &str); 2] =
    [("MOTO_ENABLE_AMI_VALIDATION", "1"), ("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "1")];
const ROLE: &str = "test-role";
const NO_ROOM: Fate = Fate::Refused("InsufficientInstanceCapacity", "We currently do not have sufficient capacity.");

const NOTHING_LISTED: &str = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";

/// An account with an emulator behind it, and one in between.
struct Account {
    moto: Moto,
    between: Between,
    aws: Aws,
    raw: aws_sdk_ec2::Client,
    compute: Ec2,
}

impl Account {
    async fn open() -> Self {
        let moto = Moto::start_with(&STRICT);
        let between = Between::and(&moto, |_| None).await;
        let aws = between.aws_with(&moto, settings()).await;
        Iam::new(&aws).create(ROLE, &Tags { resource_id: "role".into(), client_id: None }).await.unwrap();
        let (raw, compute) = (aws_sdk_ec2::Client::new(aws.sdk()), Ec2::new(&aws));
        Self { moto, between, aws, raw, compute }
    }

    /// Another process on the same account.
    fn another(&self) -> Ec2 {
        Ec2::new(&self.aws)
    }

    /// How many there are of any state, whoever made them.
    async fn count(&self) -> usize {
        let answer = self.raw.describe_instances().send().await.unwrap();
        answer.reservations().iter().map(|reservation| reservation.instances().len()).sum()
    }
}

fn settings() -> AwsSettings {
    let release = Some(Release { url: "https://releases.stackpro.test/1".into(), sha256: "0".repeat(64) });
    AwsSettings { release, ..AwsSettings::new("test", "stackpro.test", "https://console.stackpro.test") }
}

fn spec(resource: &str) -> LaunchSpec {
    LaunchSpec {
        token: format!("launch-{resource}"),
        instance_type: "t3.medium".into(),
        role: ROLE.into(),
        enrol_token: "once".into(),
        tags: Tags { resource_id: resource.into(), client_id: None },
    }
}

fn dedicated(resource: &str, client: &str) -> LaunchSpec {
    let tags = Tags { resource_id: resource.into(), client_id: Some(client.into()) };
    LaunchSpec { tags, instance_type: "t4g.micro".into(), ..spec(resource) }
}

fn refused(error: &CloudError, part: &str) {
    assert!(matches!(error, CloudError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
}

fn transient(error: &CloudError, part: &str) {
    assert!(matches!(error, CloudError::Transient { .. }), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
}

#[tokio::test]
async fn an_instance_lives_and_ends() {
    let account = Account::open().await;
    let compute = &account.compute;
    let made = compute.launch(&spec("r1")).await.unwrap();
    assert_eq!((made.instance_type.as_str(), &made.tags), ("t3.medium", &spec("r1").tags));
    assert!(made.launched_at.0 > 1_700_000_000_000, "{made:?}");
    let found = compute.describe(&made.id).await.unwrap().unwrap();
    assert_eq!(found.state, InstanceState::Running);
    let (front, control) = (found.front.unwrap(), found.control.unwrap());
    assert_eq!((front.ip(), front.port(), control.port()), (control.ip(), 443, 443));
    assert_eq!(compute.list().await.unwrap(), [found]);

    account.raw.stop_instances().instance_ids(made.id.as_str()).send().await.unwrap();
    assert_eq!(compute.list().await.unwrap()[0].state, InstanceState::Stopped);
    compute.start(&made.id).await.unwrap();
    compute.start(&made.id).await.unwrap();
    assert_eq!(compute.list().await.unwrap()[0].state, InstanceState::Running);

    for _ in 0..2 {
        compute.terminate(&made.id).await.unwrap();
    }
    assert_eq!(compute.list().await.unwrap(), []);
    assert_eq!(compute.describe(&made.id).await.unwrap().unwrap().state, InstanceState::Terminated);
    account.between.plan("StartInstances", [Fate::Refused("IncorrectInstanceState", "it is terminated")]);
    refused(&compute.start(&made.id).await.unwrap_err(), "IncorrectInstanceState");
    // It is not launched anew, whoever asks.
    refused(&account.another().launch(&spec("r1")).await.unwrap_err(), "terminated since");
    let nobody = "i-00000000000000000".parse().unwrap();
    assert!(compute.describe(&nobody).await.unwrap().is_none());
    compute.terminate(&nobody).await.unwrap();
    assert_eq!(account.count().await, 1);
}

#[tokio::test]
async fn an_instance_is_as_it_should_be() {
    let account = Account::open().await;
    let compute = &account.compute;
    let shared = compute.launch(&spec("r1")).await.unwrap();
    let own = compute.launch(&dedicated("r2", "acme")).await.unwrap();
    let calls = account.between.of("RunInstances");
    let asked = |at: usize, name: &str| calls[at].parameter(name).unwrap_or_default();
    assert_eq!([asked(0, "ClientToken"), asked(1, "ClientToken")], ["launch-r1", "launch-r2"]);
    assert_eq!([asked(0, "DisableApiTermination"), asked(1, "DisableApiTermination")], ["false", "true"]);
    assert_eq!(asked(0, "NetworkInterface.1.AssociatePublicIpAddress"), "true");
    assert_eq!(asked(0, "IamInstanceProfile.Name"), ROLE);
    for (at, kind) in ["instance", "volume", "network-interface"].iter().enumerate() {
        assert_eq!(asked(1, &format!("TagSpecification.{}.ResourceType", at + 1)), *kind);
        let tag = |n: usize| {
            format!(
                "{}={}",
                asked(1, &format!("TagSpecification.{}.Tag.{n}.Key", at + 1)),
                asked(1, &format!("TagSpecification.{}.Tag.{n}.Value", at + 1))
            )
        };
        assert_eq!([1, 2, 3].map(tag), ["stackpro:installation=test", "stackpro:resource=r2", "stackpro:client=acme"]);
    }

    let described = account.raw.describe_instances().instance_ids(own.id.as_str()).send().await.unwrap();
    let described = &described.reservations()[0].instances()[0];
    assert_eq!(described.architecture().unwrap().as_str(), "arm64", "t4g is Graviton");
    let device = described.block_device_mappings().iter().find(|device| device.device_name() == Some("/dev/xvda"));
    let volume = device.unwrap().ebs().unwrap().volume_id().unwrap();
    let volumes = account.raw.describe_volumes().volume_ids(volume).send().await.unwrap();
    let volume = &volumes.volumes()[0];
    assert_eq!(
        (volume.encrypted(), volume.size(), volume.volume_type().unwrap().as_str()),
        (Some(true), Some(30), "gp3")
    );
    assert!(volume.tags().iter().any(|tag| tag.value() == Some("r2")), "{:?}", volume.tags());

    let versions = account.raw.describe_launch_template_versions().launch_template_name("test-instances").send();
    let versions = versions.await.unwrap();
    let [version] = versions.launch_template_versions() else { panic!("one version: {versions:?}") };
    let metadata = version.launch_template_data().unwrap().metadata_options().unwrap();
    assert_eq!(metadata.http_tokens().unwrap().as_str(), "required");
    assert_eq!(metadata.http_put_response_hop_limit(), Some(1));

    // EC2 keeps a protected one from ending; we mean what we say.
    let protect = AttributeBooleanValue::builder().value(true).build();
    let request = account.raw.modify_instance_attribute().instance_id(own.id.as_str());
    request.disable_api_termination(protect).send().await.unwrap();
    compute.terminate(&own.id).await.unwrap();
    assert_eq!(compute.list().await.unwrap().iter().map(|i| &i.id).collect::<Vec<_>>(), [&shared.id]);
}

#[tokio::test]
async fn the_ground_is_found_again_and_made_right() {
    let account = Account::open().await;
    account.compute.launch(&spec("r1")).await.unwrap();
    let name = Filter::builder().name("group-name").values("test-instances").build();
    let group = async || {
        let groups = account.raw.describe_security_groups().filters(name.clone()).send().await.unwrap();
        let [group] = groups.security_groups() else { panic!("one group: {groups:?}") };
        group.clone()
    };
    let ports = |group: &aws_sdk_ec2::types::SecurityGroup| {
        let mut ports: Vec<_> = group
            .ip_permissions()
            .iter()
            .map(|rule| {
                (
                    rule.from_port().unwrap_or(-1),
                    rule.to_port().unwrap_or(-1),
                    rule.ip_ranges().len(),
                    rule.ipv6_ranges().len(),
                )
            })
            .collect();
        ports.sort_unstable();
        ports
    };
    let right = [(80, 80, 1, 1), (443, 443, 1, 1)];
    let made = group().await;
    assert_eq!(ports(&made), right);

    // Someone opens SSH and closes 443; the next process puts it right, and makes nothing twice.
    let id = made.group_id().unwrap();
    let ssh = IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22);
    let ssh = ssh.ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").description("just for today").build()).build();
    account.raw.authorize_security_group_ingress().group_id(id).ip_permissions(ssh).send().await.unwrap();
    let https = made.ip_permissions().iter().find(|rule| rule.from_port() == Some(443)).unwrap().clone();
    account.raw.revoke_security_group_ingress().group_id(id).ip_permissions(https).send().await.unwrap();
    account.another().launch(&spec("r2")).await.unwrap();
    assert_eq!(ports(&group().await), right);

    // Another volume is another version of the same template.
    let larger = account.between.aws_with(&account.moto, AwsSettings { volume_gib: 40, ..settings() }).await;
    for resource in ["r3", "r4"] {
        Ec2::new(&larger).launch(&spec(resource)).await.unwrap();
    }
    account.another().launch(&spec("r5")).await.unwrap();
    let versions: Vec<_> = account
        .between
        .of("RunInstances")
        .iter()
        .map(|call| call.parameter("LaunchTemplate.Version").unwrap())
        .collect();
    assert_eq!(versions, ["1", "1", "2", "2", "1"]);

    // What was removed behind our back is made again at the next attempt.
    account.raw.delete_launch_template().launch_template_name("test-instances").send().await.unwrap();
    account.between.plan("RunInstances", [Fate::Refused("InvalidLaunchTemplateName.NotFoundException", "no template")]);
    transient(&account.compute.launch(&spec("r6")).await.unwrap_err(), "no template");
    account.compute.launch(&spec("r6")).await.unwrap();
}

#[tokio::test]
async fn a_launch_makes_one_instance_whatever_becomes_of_its_answers() {
    let account = Account::open().await;
    let compute = &account.compute;
    account.between.plan("RunInstances", [Fate::AnswerLost]);
    transient(&compute.launch(&spec("r1")).await.unwrap_err(), "ec2.RunInstances");
    let made = compute.launch(&spec("r1")).await.unwrap();
    assert_eq!(account.another().launch(&spec("r1")).await.unwrap().id, made.id);
    assert_eq!(account.count().await, 1);

    // No room in the first zone, and the answer of the second one is lost: the next attempt, though it should
    // not see the instance yet, goes to the zone in which the token counts.
    account.between.plan("RunInstances", [NO_ROOM, Fate::AnswerLost]);
    transient(&compute.launch(&spec("r2")).await.unwrap_err(), "ec2.RunInstances");
    let mismatch = Fate::Refused("IdempotentParameterMismatch", "Arguments are inconsistent.");
    account.between.plan("RunInstances", [mismatch]);
    account.between.plan("DescribeInstances", [Fate::Answered(NOTHING_LISTED)]);
    transient(&compute.launch(&spec("r2")).await.unwrap_err(), "not listed yet");
    let zones: Vec<_> = account.between.of("RunInstances")[1..]
        .iter()
        .map(|call| call.parameter("NetworkInterface.1.SubnetId"))
        .collect();
    assert_ne!(zones[0], zones[1]);
    assert_eq!(zones[1], zones[2]);
    compute.launch(&spec("r2")).await.unwrap();
    assert_eq!(account.count().await, 2);

    // The token of one that was terminated long ago, so that it is not listed any more.
    account.between.plan("RunInstances", [Fate::Refused("IdempotentInstanceTerminated", "The client token …")]);
    refused(&compute.launch(&spec("r3")).await.unwrap_err(), "terminated since");
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    let account = Account::open().await;
    let compute = &account.compute;
    let run = |code, message| account.between.plan("RunInstances", [Fate::Refused(code, message)]);
    run("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 5 allows.");
    let quota = compute.launch(&spec("r1")).await.unwrap_err();
    refused(&quota, "Service Quotas");
    refused(&quota, "limit of 5");
    run(
        "InvalidParameterValue",
        "Value (test-r1) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
    );
    transient(&compute.launch(&spec("r1")).await.unwrap_err(), "its role is not known to EC2 yet");
    run("InvalidParameterValue", "something else");
    refused(&compute.launch(&spec("r1")).await.unwrap_err(), "something else");
    run("RequestLimitExceeded", "Request limit exceeded.");
    assert!(matches!(compute.launch(&spec("r1")).await.unwrap_err(), CloudError::Throttled { .. }));
    run("UnauthorizedOperation", "You are not authorized to perform this operation.");
    refused(&compute.launch(&spec("r1")).await.unwrap_err(), "not authorized");

    // Three zones are tried, each once.
    let before = account.between.of("RunInstances").len();
    account.between.plan("RunInstances", [NO_ROOM, NO_ROOM, NO_ROOM]);
    transient(&compute.launch(&spec("r1")).await.unwrap_err(), "no zone has room for a t3.medium now");
    let mut zones: Vec<_> = account.between.of("RunInstances")[before..]
        .iter()
        .filter_map(|call| call.parameter("NetworkInterface.1.SubnetId"))
        .collect();
    zones.sort();
    zones.dedup();
    assert_eq!(zones.len(), 3);
    let unsupported = Fate::Refused(
        "Unsupported",
        "Your requested instance type is not supported in your requested Availability Zone.",
    );
    account.between.plan("RunInstances", [unsupported, NO_ROOM]);
    compute.launch(&spec("r1")).await.unwrap();

    let typo = LaunchSpec { instance_type: "t3.mikro".into(), ..spec("r2") };
    refused(&compute.launch(&typo).await.unwrap_err(), "t3.mikro");
    assert_eq!(account.count().await, 1);
}

#[tokio::test]
async fn what_was_launched_a_moment_ago_may_not_be_known_yet() {
    let account = Account::open().await;
    let compute = &account.compute;
    let made = compute.launch(&spec("r1")).await.unwrap();
    let unknown = Fate::Refused("InvalidInstanceID.NotFound", "The instance ID does not exist");
    account.between.plan("TerminateInstances", [unknown.clone()]);
    transient(&compute.terminate(&made.id).await.unwrap_err(), "not known yet");
    account.between.plan("StartInstances", [unknown.clone()]);
    transient(&compute.start(&made.id).await.unwrap_err(), "not known yet");
    compute.terminate(&made.id).await.unwrap();
    // One that nobody launched here is gone for good.
    account.between.plan("TerminateInstances", [unknown.clone()]);
    account.another().terminate(&made.id).await.unwrap();
    account.between.plan("StartInstances", [unknown]);
    refused(&account.another().start(&made.id).await.unwrap_err(), "InvalidInstanceID.NotFound");
}

#[tokio::test]
async fn subnets_are_as_the_settings_say_or_it_is_said_what_is_wrong_with_them() {
    let account = Account::open().await;
    let subnets = account.raw.describe_subnets().send().await.unwrap();
    let subnet = subnets.subnets()[1].subnet_id().unwrap().to_owned();
    let with = async |subnets: &[&str]| {
        let subnets = subnets.iter().map(|id| (*id).to_owned()).collect();
        Ec2::new(&account.between.aws_with(&account.moto, AwsSettings { subnets, ..settings() }).await)
    };
    let compute = with(&[&subnet]).await;
    for resource in ["r1", "r2"] {
        compute.launch(&spec(resource)).await.unwrap();
    }
    let used = account.between.of("RunInstances");
    assert!(used.iter().all(|call| call.parameter("NetworkInterface.1.SubnetId").as_ref() == Some(&subnet)));
    refused(&with(&[&subnet, "subnet-0none"]).await.launch(&spec("r3")).await.unwrap_err(), "STACKPRO_AWS_SUBNETS");

    let vpc = account.raw.create_vpc().cidr_block("10.9.0.0/16").send().await.unwrap().vpc.unwrap();
    let other =
        account.raw.create_subnet().vpc_id(vpc.vpc_id().unwrap()).cidr_block("10.9.1.0/24").send().await.unwrap();
    let other = other.subnet.unwrap().subnet_id.unwrap();
    refused(&with(&[&subnet, &other]).await.launch(&spec("r3")).await.unwrap_err(), "different VPCs");
}

/// Pages may be empty and not be the last.
const PAGES: [&str; 2] = [
    "<DescribeInstancesResponse><reservationSet/><nextToken>more</nextToken></DescribeInstancesResponse>",
    "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0abc</instanceId>\
     <instanceState><name>shutting-down</name></instanceState><instanceType>t3.micro</instanceType><tagSet>\
     <item><key>stackpro:installation</key><value>test</value></item><item><key>stackpro:resource</key>\
     <value>r9</value></item></tagSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>",
];

#[tokio::test]
async fn a_list_has_all_of_ours_and_nothing_else() {
    let account = Account::open().await;
    let theirs =
        account.between.aws_with(&account.moto, AwsSettings { installation: "other".into(), ..settings() }).await;
    Ec2::new(&theirs).launch(&spec("x1")).await.unwrap();
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(account.compute.launch(&spec(&format!("r{number}"))).await.unwrap().id);
    }
    let ours: Vec<_> = account.compute.list().await.unwrap().into_iter().map(|instance| instance.id).collect();
    made.sort();
    let mut sorted = ours.clone();
    sorted.sort();
    assert_eq!(sorted, made);
    assert!(Ec2::new(&theirs).describe(&made[0]).await.unwrap().is_none());

    account.between.plan("DescribeInstances", PAGES.map(Fate::Answered));
    let listed = account.compute.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, InstanceState::Terminated));
    let asked = account.between.of("DescribeInstances");
    assert_eq!(asked.last().unwrap().parameter("NextToken").as_deref(), Some("more"));
}
