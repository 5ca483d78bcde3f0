//! The gate that every write of a stack passes, and at which writes wait while a move cuts over.
//!
//! Reads of a built-in stack never wait. Those of a stack in containers pass too, and wait only while it is at
//! rest, which is less than the hold. A hold ends by a commit, by a release, or by its deadline, whichever is first; a
//! commit after the deadline is refused, so that a source that serves again never also forwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// The longest that a hold waits for the writes that run already, before it lets go of those that wait.
const DRAIN: Duration = Duration::from_millis(700);
/// The same for a stack in containers, whose programs answer as fast as they do.
const SLOW_DRAIN: Duration = Duration::from_secs(3);
/// A read that takes longer is a download or a stream: a stack's rest does not wait for it, and ends it.
const LONG_READ: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    position: Position,
    writing: usize,
    /// Whether a hold holds reads too.
    at_rest: bool,
    /// When each read that runs began.
    reading: BTreeMap<u64, Instant>,
    reads: u64,
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

/// A write, or a read of a stack in containers, that is under way.
pub(crate) struct Passage {
    gate: Arc<Gate>,
    /// None for a write.
    read: Option<u64>,
}

/// A commit whose decision is not made yet. Dropped, the stack serves on.
pub(crate) struct Decision<'a> {
    gate: &'a Gate,
    pub hold: Hold,
}

impl Gate {
    /// Waits while writes are held. `None` when the stack has moved.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<Passage> {
        self.pass(false).await
    }

    /// Waits while reads are held too. `None` when the stack has moved.
    pub(crate) async fn enter_to_read(self: &Arc<Self>) -> Option<Passage> {
        self.pass(true).await
    }

    async fn pass(self: &Arc<Self>, read: bool) -> Option<Passage> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wait_until = {
                let mut state = self.state();
                let held = !read || state.at_rest;
                match state.position {
                    Position::Moved => return None,
                    Position::Held(hold) if held => Some(hold.until),
                    Position::Committing if held => None,
                    _ => return Some(Passage { gate: Arc::clone(self), read: state.begin(read) }),
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
        let hold = self.begin_hold(longest)?;
        let undo = Undo(self, hold);
        self.drained(hold.until.min(hold.since + DRAIN), |state| state.writing == 0).await?;
        std::mem::forget(undo);
        Some(hold)
    }

    /// As [`Gate::hold`], then lets no read in either, and waits for those that run and are not long.
    pub(crate) async fn hold_all(&self, longest: Duration) -> Option<Hold> {
        let hold = self.begin_hold(longest)?;
        let undo = Undo(self, hold);
        let until = hold.until.min(hold.since + SLOW_DRAIN);
        self.drained(until, |state| state.writing == 0).await?;
        self.state().at_rest = true;
        let short = |began: &Instant| began.elapsed() < LONG_READ;
        self.drained(until, |state| !state.reading.values().any(short)).await?;
        std::mem::forget(undo);
        Some(hold)
    }

    fn begin_hold(&self, longest: Duration) -> Option<Hold> {
        let since = Instant::now();
        let hold = Hold { id: rand::random(), since, until: since + longest };
        let mut state = self.state();
        if state.position != Position::Open {
            return None;
        }
        state.position = Position::Held(hold);
        Some(hold)
    }

    /// Waits until what runs has ended so far. `None` when it has not by then.
    async fn drained(&self, until: Instant, is_drained: impl Fn(&State) -> bool) -> Option<()> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_drained(&self.state()) {
                return Some(());
            }
            timeout_at(until, changed).await.ok()?;
        }
    }

    /// Waits until a hold is over, whichever way. `true` when the stack has moved.
    pub(crate) async fn ended(&self, id: u64) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = match self.state().position {
                Position::Held(hold) if hold.id == id => Some(hold.until),
                Position::Committing => None,
                position => return position == Position::Moved,
            };
            match until {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
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

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state().position, Position::Held(_) | Position::Committing)
    }

    pub(crate) fn is_moved(&self) -> bool {
        self.state().position == Position::Moved
    }

    fn turn(&self, from: impl Fn(Position) -> bool, to: Position) {
        let mut state = self.state();
        if from(state.position) {
            state.position = to;
            state.at_rest &= to != Position::Open;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// The state, in which a hold whose time is over is none.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.position, Position::Held(hold) if hold.until <= Instant::now()) {
            state.position = Position::Open;
            state.at_rest = false;
            self.changed.notify_waiters();
        }
        state
    }
}

impl State {
    /// Counts a passage. The number of a read.
    fn begin(&mut self, read: bool) -> Option<u64> {
        if read {
            self.reads += 1;
            self.reading.insert(self.reads, Instant::now());
            return Some(self.reads);
        }
        self.writing += 1;
        None
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

impl Drop for Passage {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        match &self.read {
            Some(read) => drop(state.reading.remove(read)),
            None => state.writing -= 1,
        }
        drop(state);
        self.gate.changed.notify_waiters();
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
    async fn a_rest_waits_for_reads_and_not_for_long_ones() {
        let gate = Arc::new(Gate::default());
        let read = gate.enter_to_read().await.unwrap();
        let hold = gate.hold(LONG).await.unwrap();
        drop(gate.enter_to_read().await.unwrap());
        gate.release(hold.id);
        let began = Instant::now();
        assert!(gate.hold_all(LONG).await.is_none());
        assert_eq!(began.elapsed(), SLOW_DRAIN);
        drop(gate.enter_to_read().await.unwrap());
        tokio::time::advance(LONG_READ).await;
        let hold = gate.hold_all(LONG).await.unwrap();
        let ended = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.ended(hold.id).await }
        });
        let began = Instant::now();
        assert!(gate.enter_to_read().await.is_some());
        assert_eq!(began.elapsed(), LONG, "a read waits for the end of the rest");
        assert!(!ended.await.unwrap());
        drop(read);
        let hold = gate.hold_all(LONG).await.unwrap();
        gate.decide(hold.id).unwrap().moved();
        assert!(gate.ended(hold.id).await);
        assert!(gate.enter_to_read().await.is_none());
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
