//! What a test sees of the toy world, and does to it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use stackpro_domain::Time;
use stackpro_flow::NewFlow;

use crate::toy::{ALL, World};

impl World {
    /// What exists now: `flow.step`, sorted.
    pub(crate) fn made(&self) -> Vec<String> {
        list(&self.folder.join("made"))
    }

    /// Steps that two executed at the same time.
    pub(crate) fn violations(&self) -> Vec<String> {
        list(&self.folder.join("seen")).into_iter().filter(|name| name.starts_with("twice-")).collect()
    }

    /// Whether this process has begun to execute a step.
    pub(crate) fn worked(&self, process: u32) -> bool {
        self.folder.join("seen").join(format!("worked-{process}")).exists()
    }

    pub(crate) fn open_the_gate(&self) {
        fs::write(self.folder.join("gate"), b"").unwrap();
    }
}

fn list(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A flow of one of the toy's kinds, to be enqueued.
pub(crate) fn flow(id: &str, subject: &str, kind: &str) -> NewFlow {
    let spec = ALL.into_iter().find(|spec| spec.kind == kind).unwrap();
    spec.begin(id.parse().unwrap(), subject, &Value::Null, Time(1)).unwrap()
}
