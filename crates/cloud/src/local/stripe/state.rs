//! What the simulated Stripe knows: objects by id, and a transaction over them.
//!
//! An object is the JSON that Stripe answers, plus private fields that begin with `_` and are never
//! shown. Its kind is its `object` field. A [`Tx`] sees its own changes, and nothing of it is real until
//! it is committed whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Map, Value, json};

use super::Settings;
use super::error::{ApiError, Result};
use super::journal::Change;
use super::renewals;

#[derive(Default)]
pub(super) struct State {
    /// By their numbers: in the order in which they were made.
    objects: BTreeMap<u64, Value>,
    /// Their numbers, by their ids.
    numbers: HashMap<String, u64>,
    kinds: HashMap<String, BTreeSet<u64>>,
    /// Those of each customer, by their kinds.
    customers: HashMap<String, HashMap<String, BTreeSet<u64>>>,
    /// When the passing of time will do something to an object (seconds), soonest first; of several at once
    /// the one that was made first.
    due: BTreeSet<(i64, u64)>,
    next: u64,
}

impl State {
    pub(super) fn apply(&mut self, change: Change) {
        for id in change.remove {
            self.remove(&id);
        }
        for object in change.put {
            self.put(object);
        }
    }

    fn put(&mut self, object: Value) {
        let id = text(&object, "id");
        let number = self.numbers.get(id).copied().unwrap_or_else(|| {
            self.next += 1;
            self.numbers.insert(id.to_owned(), self.next);
            self.next
        });
        self.forget(number);
        let kind = text(&object, "object").to_owned();
        if let Some(customer) = object["customer"].as_str() {
            let theirs = self.customers.entry(customer.to_owned()).or_default();
            theirs.entry(kind.clone()).or_default().insert(number);
        }
        self.kinds.entry(kind).or_default().insert(number);
        if let Some(at) = renewals::due(&object) {
            self.due.insert((at, number));
        }
        self.objects.insert(number, object);
    }

    fn remove(&mut self, id: &str) {
        if let Some(number) = self.numbers.remove(id) {
            self.forget(number);
        }
    }

    /// Takes an object out of wherever it is found.
    fn forget(&mut self, number: u64) {
        let Some(object) = self.objects.remove(&number) else { return };
        if let Some(at) = renewals::due(&object) {
            self.due.remove(&(at, number));
        }
        let kind = text(&object, "object");
        let theirs = self.customers.get_mut(text(&object, "customer")).and_then(|theirs| theirs.get_mut(kind));
        for numbers in self.kinds.get_mut(kind).into_iter().chain(theirs) {
            numbers.remove(&number);
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        self.objects.get(self.numbers.get(id)?)
    }

    /// Oldest first.
    pub(super) fn of_kind(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.numbered(self.kinds.get(kind))
    }

    /// A customer's, oldest first.
    fn of_customer(&self, kind: &str, customer: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.numbered(self.customers.get(customer).and_then(|theirs| theirs.get(kind)))
    }

    fn numbered<'s>(&'s self, numbers: Option<&'s BTreeSet<u64>>) -> impl DoubleEndedIterator<Item = &'s Value> {
        numbers.into_iter().flatten().filter_map(|number| self.objects.get(number))
    }

    /// Everything, in the order in which it was made.
    pub(super) fn all(&self) -> Vec<Value> {
        self.objects.values().cloned().collect()
    }

    /// The object that time changes next, and when (seconds).
    pub(super) fn first_due(&self) -> Option<(i64, String)> {
        let (at, number) = self.due.first()?;
        self.objects.get(number).map(|object| (*at, text(object, "id").to_owned()))
    }
}

/// The request that causes a change, as its events name it.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) request: Option<String>,
    pub(super) idempotency_key: Option<String>,
}

/// One change in the making.
pub(super) struct Tx<'a> {
    state: &'a State,
    pub(super) settings: &'a Settings,
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
    pub(super) origin: Origin,
    /// What this change makes of an object; none when it removes it.
    mine: BTreeMap<String, Option<Value>>,
    order: Vec<String>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(state: &'a State, settings: &'a Settings, now: i64, origin: Origin) -> Self {
        Self { state, settings, now, origin, mine: BTreeMap::new(), order: Vec::new() }
    }

    /// Forgets everything that was done so far.
    pub(super) fn rollback(&mut self) {
        self.mine.clear();
        self.order.clear();
    }

    pub(super) fn into_change(mut self) -> Change {
        let mut change = Change::default();
        for id in self.order {
            match self.mine.remove(&id).flatten() {
                Some(object) => change.put.push(object),
                None => change.remove.push(id),
            }
        }
        change
    }

    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        match self.mine.get(id) {
            Some(mine) => mine.as_ref(),
            None => self.state.get(id),
        }
    }

    /// The object of this kind; `param` is where its id was given (`id`: in the path).
    pub(super) fn need(&self, kind: &str, id: &str, param: &str) -> Result<Value> {
        let found = self.get(id).filter(|object| text(object, "object") == kind);
        found.cloned().ok_or_else(|| ApiError::missing(kind, id, param))
    }

    pub(super) fn put(&mut self, object: Value) {
        let id = text(&object, "id").to_owned();
        if self.mine.insert(id.clone(), Some(object)).is_none() {
            self.order.push(id);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        if self.mine.insert(id.to_owned(), None).is_none() {
            self.order.push(id.to_owned());
        }
    }

    /// Newest first, as Stripe lists; deleted ones are left out.
    pub(super) fn list(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let own = self.order.iter().rev().filter(|id| self.state.get(id).is_none()).filter_map(|id| self.get(id));
        let own = own.filter(move |object| text(object, "object") == kind);
        own.chain(self.seen(self.state.of_kind(kind).rev()))
    }

    /// The same of one customer's alone; those that became theirs in this change are the newest.
    pub(super) fn list_of(&self, kind: &str, customer: &str) -> impl Iterator<Item = &Value> {
        let theirs = move |object: &Value| text(object, "customer") == customer;
        let new = move |id: &&String| !self.state.get(id).is_some_and(theirs);
        let own = self.order.iter().rev().filter(new).filter_map(|id| self.get(id));
        let own = own.filter(move |object| text(object, "object") == kind);
        let old = self.seen(self.state.of_customer(kind, customer).rev());
        own.chain(old).filter(move |object| theirs(object))
    }

    /// As this change has made them.
    fn seen<'s>(&'s self, old: impl Iterator<Item = &'s Value>) -> impl Iterator<Item = &'s Value> {
        let untouched = self.mine.is_empty();
        let old = old.filter_map(move |object| if untouched { Some(object) } else { self.get(text(object, "id")) });
        old.filter(|object| object["deleted"] != true)
    }

    /// The end of an id that did not exist before: `prefix` plus 24 letters and digits.
    pub(super) fn id(prefix: &str) -> String {
        format!("{prefix}{}", random(24))
    }
}

pub(super) fn random(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}

/// A text field; empty when there is none.
pub(super) fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object[field].as_str().unwrap_or_default()
}

/// A number field; 0 when there is none.
pub(super) fn int(object: &Value, field: &str) -> i64 {
    object[field].as_i64().unwrap_or_default()
}

/// The object as it is shown: without private fields.
pub(super) fn public(object: &Value) -> Value {
    match object {
        Value::Object(fields) => {
            let shown = fields.iter().filter(|(name, _)| !name.starts_with('_'));
            Value::Object(shown.map(|(name, value)| (name.clone(), public_or_map(name, value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(public).collect()),
        other => other.clone(),
    }
}

/// Metadata is the caller's own, whatever its keys begin with.
fn public_or_map(name: &str, value: &Value) -> Value {
    if name == "metadata" { value.clone() } else { public(value) }
}

/// What `old` said where `new` says something else: an event's `previous_attributes`.
pub(super) fn difference(old: &Value, new: &Value) -> Map<String, Value> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return Map::new() };
    let mut changed = Map::new();
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let (before, after) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
        if before == after {
            continue;
        }
        let nested = before.is_object() && after.is_object() && before["object"] != "list";
        let value = if nested { Value::Object(difference(before, after)) } else { before.clone() };
        changed.insert(name.clone(), value);
    }
    changed
}

/// A list inside an object.
pub(super) fn list_of(data: Vec<Value>, url: &str) -> Value {
    json!({"object": "list", "data": data, "has_more": false, "url": url})
}

/// One object of the fields of several.
pub(super) fn together<const N: usize>(parts: [Value; N]) -> Value {
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}
