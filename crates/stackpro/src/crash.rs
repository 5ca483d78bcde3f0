//! How recovery is tested: at a chosen instant of a chosen step this process, or every agent of its local
//! cloud, dies as by kill -9, once; and a chosen step fails for good, once, so that its flow turns back.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use stackpro_cloud::local::LocalCloud;
use stackpro_flow::{Claim, Moment};

/// `[agents:][undo:]FLOW/STEP/before|after|recorded`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashAt {
    victim: Victim,
    undo: bool,
    flow: String,
    step: String,
    moment: &'static str,
    /// Exists once it has happened, and says how many agents died.
    marker: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Server,
    Agents,
}

impl CrashAt {
    pub(crate) fn parse(text: &str, data: &Path) -> Result<Self, String> {
        let form = || format!("crash_at is {text:?}, and must be [agents:][undo:]FLOW/STEP/before|after|recorded");
        let (victim, rest) = text.strip_prefix("agents:").map_or((Victim::Server, text), |rest| (Victim::Agents, rest));
        let (undo, rest) = rest.strip_prefix("undo:").map_or((false, rest), |rest| (true, rest));
        let mut parts = rest.split('/');
        let (Some(flow), Some(step), Some(moment), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        let moment = ["before", "after", "recorded"].into_iter().find(|m| *m == moment).ok_or_else(form)?;
        let marker = data.join(format!("crashed-{}", text.replace(['/', ':'], "-")));
        Ok(Self { victim, undo, flow: flow.to_owned(), step: step.to_owned(), moment, marker })
    }

    /// To be called at every instant; returns where nothing is to happen, and when the agents are dead.
    pub(crate) fn at(&self, claim: &Claim, moment: Moment, local: Option<&LocalCloud>) {
        let name = match moment {
            Moment::Before => "before",
            Moment::After => "after",
            Moment::Recorded => "recorded",
        };
        let here = name == self.moment
            && claim.undo == self.undo
            && claim.flow.kind == self.flow
            && claim.key.step == self.step;
        // Whoever makes the marker is the first: steps run side by side.
        let Some(mut marker) = here.then(|| File::create_new(&self.marker).ok()).flatten() else { return };
        match self.victim {
            Victim::Server => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
            Victim::Agents => {
                let Some(cloud) = local else { return };
                let killed = tokio::task::block_in_place(|| cloud.kill_agents());
                tracing::warn!(?killed, "every agent was killed, as the setting crash_at says");
                let _ = killed.and_then(|killed| writeln!(marker, "{killed}"));
            }
        }
    }
}

/// `FLOW/STEP`: what fails for good once it was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailAt {
    flow: String,
    step: String,
    /// Exists once it has failed: what is begun anew after that succeeds.
    marker: PathBuf,
}

impl FailAt {
    pub(crate) fn parse(text: &str, data: &Path) -> Result<Self, String> {
        match text.split_once('/') {
            Some((flow, step)) if !flow.is_empty() && !step.is_empty() && !step.contains('/') => {
                let marker = data.join(format!("failed-{flow}-{step}"));
                Ok(Self { flow: flow.to_owned(), step: step.to_owned(), marker })
            }
            _ => Err(format!("fail_at is {text:?}, and must be FLOW/STEP")),
        }
    }

    pub(crate) fn cause(&self, claim: &Claim) -> Option<String> {
        let here = !claim.undo && claim.flow.kind == self.flow && claim.key.step == self.step;
        (here && File::create_new(&self.marker).is_ok()).then(|| "the setting fail_at says so".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instant_is_parsed_or_the_form_is_told() {
        let data = Path::new("data");
        let plain = CrashAt::parse("provision/bucket/after", data).unwrap();
        assert!(plain.victim == Victim::Server && !plain.undo);
        assert!(CrashAt::parse("undo:migrate/cut_over/recorded", data).unwrap().undo);
        let agents = CrashAt::parse("agents:undo:migrate/copy/before", data).unwrap();
        assert!(agents.victim == Victim::Agents && agents.undo && agents.flow == "migrate");
        for bad in ["", "a/b", "a/b/c", "a/b/after/d", "agents:"] {
            assert!(CrashAt::parse(bad, data).unwrap_err().contains("must be"), "{bad}");
        }
        assert!(FailAt::parse("migrate/copy", data).is_ok());
        for bad in ["", "migrate", "/", "migrate/copy/after"] {
            assert!(FailAt::parse(bad, data).unwrap_err().contains("must be"), "{bad}");
        }
    }
}
