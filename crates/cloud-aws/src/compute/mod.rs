//! Instances: EC2. What all of an installation's instances share is in [`ground`] (network, security group,
//! launch template), how one begins in [`launch`], what it runs from in [`image`], and what it installs in
//! [`userdata`]; what must be so before is in [`check`].

mod check;
mod ground;
mod image;
mod launch;
mod userdata;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_ec2::types::{AttributeBooleanValue, Filter, InstanceStateName, Reservation};
use stackpro_cloud::{CloudError, Compute, Instance, InstanceState, LaunchSpec, Result};
use stackpro_domain::{InstanceId, Time};

use crate::error::{classify, code, is};
use crate::{Aws, AwsSettings, tags};

use ground::Ground;

const HTTP: u16 = 80;
/// Both doors are behind it, told apart by the server name (`crates/agent/src/public.rs`).
const HTTPS: u16 = 443;
/// How long after its launch an id may be unknown to other calls. "Eventual consistency", Amazon EC2 Developer
/// Guide: <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
const UNKNOWN_FOR: Duration = Duration::from_mins(5);
/// Instances in one page of a list.
const PAGE: i32 = 500;

/// EC2 of one account and region. A clone is the same one.
#[derive(Clone)]
pub struct Ec2 {
    api: aws_sdk_ec2::Client,
    parameters: aws_sdk_ssm::Client,
    settings: AwsSettings,
    /// What was found or made, until something says that it is not there any more.
    ground: Arc<tokio::sync::Mutex<Option<Arc<Ground>>>>,
    recent: Arc<Mutex<Recent>>,
}

/// What this process did a moment ago, and EC2 may not tell of yet. Losing it costs a look of the sweeper.
#[derive(Default)]
struct Recent {
    launched: HashMap<InstanceId, Instant>,
    /// Where a launch was last tried, by its token, when it is not known what came of it.
    tried: HashMap<String, String>,
}

impl Ec2 {
    pub fn new(aws: &Aws) -> Self {
        Self {
            api: aws_sdk_ec2::Client::new(aws.sdk()),
            parameters: aws_sdk_ssm::Client::new(aws.sdk()),
            settings: aws.settings().clone(),
            ground: Arc::default(),
            recent: Arc::default(),
        }
    }

    /// Of this installation, all that fit.
    async fn find(&self, filters: Vec<Filter>) -> Result<Vec<Instance>> {
        let ours = filter(&format!("tag:{}", tags::INSTALLATION), [&self.settings.installation]);
        let request = self.api.describe_instances().set_filters(Some(filters)).filters(ours);
        let mut pages = request.into_paginator().page_size(PAGE).send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify("ec2.DescribeInstances", error))?;
            let instances = page.reservations().iter().flat_map(Reservation::instances);
            found.extend(instances.filter_map(|instance| self.read(instance)));
        }
        Ok(found)
    }

    /// None when it is not this installation's.
    fn read(&self, instance: &aws_sdk_ec2::types::Instance) -> Option<Instance> {
        let pairs = instance.tags().iter().filter_map(|tag| Some((tag.key()?, tag.value()?)));
        let address: Option<IpAddr> = instance.public_ip_address().and_then(|address| address.parse().ok());
        let doors = address.map(|address| SocketAddr::new(address, HTTPS));
        Some(Instance {
            id: instance.instance_id()?.parse().ok()?,
            state: state(instance.state().and_then(|state| state.name())),
            instance_type: instance.instance_type().map_or_else(String::new, |kind| kind.as_str().to_owned()),
            tags: tags::read(&self.settings.installation, pairs)?,
            front: doors,
            control: doors,
            launched_at: Time(instance.launch_time().and_then(|time| time.to_millis().ok()).unwrap_or_default()),
        })
    }

    async fn unprotect(&self, id: &InstanceId) -> Result<()> {
        let off = AttributeBooleanValue::builder().value(false).build();
        let request = self.api.modify_instance_attribute().instance_id(id.as_str()).disable_api_termination(off);
        let answer = request.send().await;
        answer.map(drop).map_err(|error| classify("ec2.ModifyInstanceAttribute", error))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.launched.retain(|_, at| at.elapsed() < UNKNOWN_FOR);
        recent
    }

    /// Whether an id that EC2 does not know is one that it will know in a moment.
    fn not_known_yet(&self, call: &'static str, id: &InstanceId) -> Result<()> {
        if self.recent().launched.contains_key(id) {
            let cause = format!("{id} was launched a moment ago and is not known yet");
            return Err(CloudError::Transient { call, cause });
        }
        Ok(())
    }
}

#[async_trait]
impl Compute for Ec2 {
    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance> {
        Box::pin(self.launch_once(spec)).await
    }

    async fn describe(&self, id: &InstanceId) -> Result<Option<Instance>> {
        // By a filter: for an id as an argument that is not known yet the answer would be an error.
        Ok(self.find(vec![filter("instance-id", [id.as_str()])]).await?.pop())
    }

    async fn start(&self, id: &InstanceId) -> Result<()> {
        const CALL: &str = "ec2.StartInstances";
        let Err(error) = self.api.start_instances().instance_ids(id.as_str()).send().await else { return Ok(()) };
        // An instance that is stopping cannot be started yet, and a terminated one never.
        if is(&error, "IncorrectInstanceState") {
            let found = self.describe(id).await?;
            if found.is_none_or(|found| found.state != InstanceState::Terminated) {
                return Err(CloudError::Transient { call: CALL, cause: format!("{id} cannot be started yet") });
            }
        }
        if code(&error).is_some_and(launch::lacks_capacity) {
            return Err(CloudError::Transient { call: CALL, cause: format!("its zone has no room for {id} now") });
        }
        if code(&error) == Some("InvalidInstanceID.NotFound") {
            self.not_known_yet(CALL, id)?;
        }
        Err(classify(CALL, error))
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        const CALL: &str = "ec2.TerminateInstances";
        let ask = || self.api.terminate_instances().instance_ids(id.as_str()).send();
        let mut answer = ask().await;
        if answer.as_ref().is_err_and(|error| is(error, "OperationNotPermitted")) {
            self.unprotect(id).await?;
            answer = ask().await;
        }
        match answer {
            Ok(_) => Ok(()),
            // EC2 forgets a terminated instance after an hour or so.
            Err(error) if is(&error, "InvalidInstanceID.NotFound") => self.not_known_yet(CALL, id),
            Err(error) if is(&error, "InvalidInstanceID.Malformed") => Ok(()),
            // Whatever was wrong: it may be gone all the same.
            Err(error) => match self.describe(id).await? {
                Some(found) if found.state == InstanceState::Terminated => Ok(()),
                _ => Err(classify(CALL, error)),
            },
        }
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        let alive = ["pending", "running", "stopping", "stopped"];
        self.find(vec![filter("instance-state-name", alive)]).await
    }
}

/// One that is stopping is on its way, as a pending one is: it can be started only when it has stopped.
fn state(name: Option<&InstanceStateName>) -> InstanceState {
    match name {
        Some(InstanceStateName::Running) => InstanceState::Running,
        Some(InstanceStateName::Stopped) => InstanceState::Stopped,
        Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated) => InstanceState::Terminated,
        _ => InstanceState::Pending,
    }
}

fn filter(name: &str, values: impl IntoIterator<Item = impl AsRef<str>>) -> Filter {
    let values = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}
