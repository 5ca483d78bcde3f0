//! The gate that every write of a stack passes, and at which writes wait while a move cuts over.
//!
//! Reads never wait. A hold ends by a commit, by a release, or by its deadline, whichever is first; a
//! commit after the deadline is refused, so that a source that serves again never also forwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// The longest that a hold waits for the writes that run already, before it lets go of those that wait.
const DRAIN: Duration = Duration::from_millis(700);

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    position: Position,
    writing: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Open,
    Held(Hold),
    /// The decision is being written to the disk: no deadline any more.
    Committing,
    /// The stack is elsewhere.
    Moved,
}

/// One hold, told apart from any other by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub id: u64,
    pub since: Instant,
    pub until: Instant,
}

/// A write that is under way.
pub(crate) struct Writing(Arc<Gate>);

/// A commit whose decision is not made yet. Dropped, the stack serves on.
pub(crate) struct Decision<'a> {
    gate: &'a Gate,
    pub hold: Hold,
}

impl Gate {
    /// Waits while writes are held. `None` when the stack has moved.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<Writing> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wait_until = {
                let mut state = self.state();
                match state.position {
                    Position::Open => {
                        state.writing += 1;
                        return Some(Writing(Arc::clone(self)));
                    }
                    Position::Moved => return None,
                    Position::Held(hold) => Some(hold.until),
                    Position::Committing => None,
                }
            };
            match wait_until {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        }
    }

    /// Lets no new write in, and waits for those that run. `None` when one of them takes too long, or when
    /// the stack is not free to be held: it serves on then.
    pub(crate) async fn hold(&self, longest: Duration) -> Option<Hold> {
        let since = Instant::now();
        let hold = Hold { id: rand::random(), since, until: since + longest };
        {
            let mut state = self.state();
            if state.position != Position::Open {
                return None;
            }
            state.position = Position::Held(hold);
        }
        let undo = Undo(self, hold);
        let bound = hold.until.min(since + DRAIN);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().writing == 0 {
                std::mem::forget(undo);
                return Some(hold);
            }
            if timeout_at(bound, changed).await.is_err() {
                return None;
            }
        }
    }

    pub(crate) fn release(&self, id: u64) {
        self.turn(|position| matches!(position, Position::Held(hold) if hold.id == id), Position::Open);
    }

    /// Begins the commit of a hold. `None` when it is over.
    pub(crate) fn decide(&self, id: u64) -> Option<Decision<'_>> {
        let mut state = self.state();
        let Position::Held(hold) = state.position else { return None };
        if hold.id != id {
            return None;
        }
        state.position = Position::Committing;
        Some(Decision { gate: self, hold })
    }

    /// The stack is elsewhere, as was decided before this process began.
    pub(crate) fn set_moved(&self) {
        self.turn(|_| true, Position::Moved);
    }

    pub(crate) fn is_moved(&self) -> bool {
        self.state().position == Position::Moved
    }

    fn turn(&self, from: impl Fn(Position) -> bool, to: Position) {
        let mut state = self.state();
        if from(state.position) {
            state.position = to;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// The state, in which a hold whose time is over is none.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.position, Position::Held(hold) if hold.until <= Instant::now()) {
            state.position = Position::Open;
            self.changed.notify_waiters();
        }
        state
    }
}

impl Decision<'_> {
    pub(crate) fn moved(self) {
        self.gate.turn(|_| true, Position::Moved);
    }
}

impl Drop for Decision<'_> {
    fn drop(&mut self) {
        self.gate.turn(|position| position == Position::Committing, Position::Open);
    }
}

/// Lets go of a hold whose drain failed, or whose caller went away.
struct Undo<'a>(&'a Gate, Hold);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.0.release(self.1.id);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.state().writing -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_held_write_goes_on_after_release_and_after_the_deadline() {
        let gate = Arc::new(Gate::default());
        let hold = gate.hold(LONG).await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.release(hold.id);
        assert!(waiting.await.unwrap());
        let hold = gate.hold(LONG).await.unwrap();
        let began = Instant::now();
        assert!(gate.enter().await.is_some());
        assert_eq!(began.elapsed(), LONG);
        assert!(gate.decide(hold.id).is_none(), "a commit after the deadline");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_write_ends_the_hold_and_not_the_write() {
        let gate = Arc::new(Gate::default());
        let writing = gate.enter().await.unwrap();
        let began = Instant::now();
        assert!(gate.hold(LONG).await.is_none());
        assert_eq!(began.elapsed(), DRAIN);
        assert!(gate.enter().await.is_some());
        drop(writing);
        assert!(gate.hold(LONG).await.is_some());
        assert!(gate.hold(LONG).await.is_none(), "one hold at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_is_final_or_undone() {
        let gate = Arc::new(Gate::default());
        let hold = gate.hold(LONG).await.unwrap();
        assert!(gate.decide(hold.id + 1).is_none());
        drop(gate.decide(hold.id).unwrap());
        assert!(gate.enter().await.is_some());
        let hold = gate.hold(LONG).await.unwrap();
        let decision = gate.decide(hold.id).unwrap();
        tokio::time::advance(LONG * 2).await;
        decision.moved();
        assert!(gate.enter().await.is_none() && gate.is_moved());
        gate.release(hold.id);
        assert!(gate.is_moved());
    }
}
