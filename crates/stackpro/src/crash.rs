//! How recovery is tested: this process ends itself as kill -9 does, at a chosen instant of a chosen step,
//! once; and a chosen step fails for good, so that its flow turns back.

use std::path::{Path, PathBuf};

use stackpro_flow::{Claim, Moment};

/// `[undo:]FLOW/STEP/before|after|recorded`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashAt {
    undo: bool,
    flow: String,
    step: String,
    moment: &'static str,
    /// Exists once it has happened.
    marker: PathBuf,
}

impl CrashAt {
    pub(crate) fn parse(text: &str, data: &Path) -> Result<Self, String> {
        let form = || format!("crash_at is {text:?}, and must be [undo:]FLOW/STEP/before|after|recorded");
        let (undo, rest) = text.strip_prefix("undo:").map_or((false, text), |rest| (true, rest));
        let mut parts = rest.split('/');
        let (Some(flow), Some(step), Some(moment), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        let moment = ["before", "after", "recorded"].into_iter().find(|m| *m == moment).ok_or_else(form)?;
        let marker = data.join(format!("crashed-{}", text.replace(['/', ':'], "-")));
        Ok(Self { undo, flow: flow.to_owned(), step: step.to_owned(), moment, marker })
    }

    /// To be called at every instant; returns only where nothing is to happen.
    pub(crate) fn at(&self, claim: &Claim, moment: Moment) {
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
        if here && std::fs::File::create_new(&self.marker).is_ok() {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

/// `FLOW/STEP`: what fails for good once it was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailAt {
    flow: String,
    step: String,
}

impl FailAt {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((flow, step)) if !flow.is_empty() && !step.is_empty() && !step.contains('/') => {
                Ok(Self { flow: flow.to_owned(), step: step.to_owned() })
            }
            _ => Err(format!("fail_at is {text:?}, and must be FLOW/STEP")),
        }
    }

    pub(crate) fn cause(&self, claim: &Claim) -> Option<String> {
        let here = !claim.undo && claim.flow.kind == self.flow && claim.key.step == self.step;
        here.then(|| "the setting fail_at says so".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instant_is_parsed_or_the_form_is_told() {
        let data = Path::new("data");
        assert!(CrashAt::parse("provision/bucket/after", data).is_ok());
        assert!(CrashAt::parse("undo:migrate/cut_over/recorded", data).unwrap().undo);
        for bad in ["", "a/b", "a/b/c", "a/b/after/d"] {
            assert!(CrashAt::parse(bad, data).unwrap_err().contains("must be"), "{bad}");
        }
        assert!(FailAt::parse("migrate/copy").is_ok());
        for bad in ["", "migrate", "/", "migrate/copy/after"] {
            assert!(FailAt::parse(bad).unwrap_err().contains("must be"), "{bad}");
        }
    }
}
