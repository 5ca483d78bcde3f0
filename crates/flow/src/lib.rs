//! Durable steps: what runs next, leases, retries, undo.
//!
//! A flow is a table of steps ([`FlowSpec`]), each with a `run` and an `undo`. What was decided before the
//! first step (ids, tokens, names) is in the flow's parameters, so that a step that is made twice makes one
//! thing. [`state`] decides, as pure functions over plain values, what may run and what an outcome
//! changes; a [`Journal`] keeps those values (the store implements it, in one transaction each); the
//! [`Runner`] carries the steps out. There is no SQL here, and nothing that knows a cloud.
//!
//! Leases are counted on the journal's clock, which is real time: moving the business's clock moves no lease.

mod journal;
mod runner;
mod spec;
pub mod state;

pub use journal::{Ask, Claim, Ended, Journal, JournalError, LeaseKey};
pub use runner::{Moment, Runner, RunnerConfig};
pub use spec::{FlowSpec, Registry, StepCtx, StepError, StepFn, StepResult, StepSpec, UndoError, UndoFn, UndoResult};
pub use state::{Flow, FlowState, NewFlow, Outcome, Step, StepState};
