//! Parameters as Stripe takes them: `items[0][price]=price_1&metadata[k]=v&expand[]=customer`.
//!
//! A tree of texts, read by type and taken out as it is read: what is left at the end is unknown to the
//! endpoint, and [`Params::finish`] refuses it by name.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::error::{ApiError, Result};

/// More nesting or more pairs than any endpoint takes.
const MAX_DEPTH: usize = 8;
const MAX_PAIRS: usize = 1_000;

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Tree(BTreeMap<String, Node>),
}

/// One level of parameters. `path` is how the level is called in an error: `items[0]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    path: String,
    fields: BTreeMap<String, Node>,
}

impl Params {
    /// Reads a query or a body; either may be empty.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut params = Self::default();
        for (count, pair) in text.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if count >= MAX_PAIRS {
                return Err(ApiError::state("The request has too many parameters."));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.insert(&decode(name)?, decode(value)?)?;
        }
        Ok(params)
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.fields.extend(other.fields);
    }

    fn insert(&mut self, name: &str, value: String) -> Result<()> {
        let bad = || ApiError::invalid("parameter_invalid", format!("Invalid parameter name: {name}"), name);
        let keys = split_name(name).filter(|keys| keys.len() <= MAX_DEPTH).ok_or_else(bad)?;
        let (last, parents) = keys.split_last().ok_or_else(bad)?;
        let mut level = &mut self.fields;
        for key in parents {
            let key = index_or_name(key, level);
            match level.entry(key).or_insert_with(|| Node::Tree(BTreeMap::new())) {
                Node::Tree(tree) => level = tree,
                Node::Text(_) => return Err(bad()),
            }
        }
        let key = index_or_name(last, level);
        level.insert(key, Node::Text(value));
        Ok(())
    }

    /// How `name` at this level is called in an error.
    pub(super) fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}[{name}]", self.path) }
    }

    /// A text; the empty one too, which Stripe reads as "unset".
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.fields.remove(name) {
            None => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text)),
            Some(Node::Tree(_)) => {
                let param = self.name(name);
                Err(ApiError::invalid("parameter_invalid_string", format!("Invalid string: {param}"), &param))
            }
        }
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String> {
        let param = self.name(name);
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(ApiError::invalid(
                "parameter_invalid_empty",
                format!(
                    "You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; however '{param}' cannot be unset."
                ),
                &param,
            )),
            None => Err(self.absent(name)),
        }
    }

    pub(super) fn absent(&self, name: &str) -> ApiError {
        let param = self.name(name);
        ApiError::invalid("parameter_missing", format!("Missing required param: {param}."), &param)
    }

    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>> {
        let param = self.name(name);
        let Some(text) = self.text(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        let bad = |_| ApiError::invalid("parameter_invalid_integer", format!("Invalid integer: {text}"), &param);
        text.parse().map(Some).map_err(bad)
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        let param = self.name(name);
        match self.text(name)?.as_deref() {
            None | Some("") => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => {
                Err(ApiError::invalid("parameter_invalid_boolean", format!("Invalid boolean: {text}"), &param))
            }
        }
    }

    pub(super) fn one_of(&mut self, name: &str, allowed: &[&'static str]) -> Result<Option<&'static str>> {
        let param = self.name(name);
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = allowed.iter().find(|one| **one == text).copied();
        let message = || format!("Invalid {param}: must be one of {}", allowed.join(", "));
        found.map(Some).ok_or_else(|| ApiError::invalid("parameter_invalid", message(), &param))
    }

    /// A nested level: `recurring[interval]`.
    pub(super) fn level(&mut self, name: &str) -> Result<Option<Self>> {
        let path = self.name(name);
        match self.fields.remove(name) {
            None => Ok(None),
            Some(Node::Tree(fields)) => Ok(Some(Self { path, fields })),
            Some(Node::Text(text)) if text.is_empty() => Ok(None),
            Some(Node::Text(_)) => {
                Err(ApiError::invalid("parameter_invalid_object", format!("Invalid object: {path}"), &path))
            }
        }
    }

    /// A list of levels, by index: `line_items[0][price]`.
    pub(super) fn levels(&mut self, name: &str) -> Result<Vec<Self>> {
        let Some(list) = self.level(name)? else { return Ok(Vec::new()) };
        let path = list.path;
        let bad =
            |key: &str| ApiError::invalid("parameter_invalid_array", format!("Invalid array: {path}[{key}]"), &path);
        let mut entries = Vec::new();
        for (key, node) in list.fields {
            let index: usize = key.parse().map_err(|_| bad(&key))?;
            let Node::Tree(fields) = node else { return Err(bad(&key)) };
            entries.push((index, Self { path: format!("{path}[{index}]"), fields }));
        }
        entries.sort_by_key(|(index, _)| *index);
        Ok(entries.into_iter().map(|(_, level)| level).collect())
    }

    /// A list of texts: `expand[]=a&expand[]=b`.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>> {
        let Some(list) = self.level(name)? else { return Ok(Vec::new()) };
        let path = list.path;
        let bad = || ApiError::invalid("parameter_invalid_array", format!("Invalid array: {path}"), &path);
        let mut entries = Vec::new();
        for (key, node) in list.fields {
            let index: usize = key.parse().map_err(|_| bad())?;
            let Node::Text(text) = node else { return Err(bad()) };
            entries.push((index, text));
        }
        entries.sort();
        Ok(entries.into_iter().map(|(_, text)| text).collect())
    }

    /// Merges the given metadata into `old`; an empty value removes its key, an empty whole removes all.
    pub(super) fn metadata(&mut self, old: &Value) -> Result<Value> {
        if matches!(self.fields.get("metadata"), Some(Node::Text(text)) if text.is_empty()) {
            self.fields.remove("metadata");
            return Ok(Value::Object(Map::new()));
        }
        let mut merged = old.as_object().cloned().unwrap_or_default();
        let Some(level) = self.level("metadata")? else { return Ok(Value::Object(merged)) };
        for (key, node) in level.fields {
            match node {
                Node::Text(text) if text.is_empty() => drop(merged.remove(&key)),
                Node::Text(text) => drop(merged.insert(key, text.into())),
                Node::Tree(_) => {
                    let param = format!("{}[{key}]", level.path);
                    return Err(ApiError::invalid(
                        "parameter_invalid_string",
                        format!("Invalid string: {param}"),
                        &param,
                    ));
                }
            }
        }
        Ok(Value::Object(merged))
    }

    /// Refuses what no one has read.
    pub(super) fn finish(&self) -> Result<()> {
        let Some(name) = self.fields.keys().next() else { return Ok(()) };
        let param = self.name(name);
        Err(ApiError::invalid("parameter_unknown", format!("Received unknown parameter: {param}"), &param))
    }
}

/// A given text as a value: an empty one unsets.
pub(super) fn nullable(text: String) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn decode(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| ApiError::state("The request is not valid UTF-8."))
}

/// `a[b][]` → `a`, `b`, ``; none when the brackets are not in order.
fn split_name(name: &str) -> Option<Vec<&str>> {
    let (head, mut rest) = match name.find('[') {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    let mut keys = vec![head];
    while !rest.is_empty() {
        let (key, after) = rest.strip_prefix('[')?.split_once(']')?;
        keys.push(key);
        rest = after;
    }
    (!head.is_empty()).then_some(keys)
}

fn index_or_name(key: &str, level: &BTreeMap<String, Node>) -> String {
    if key.is_empty() { level.len().to_string() } else { key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_names_become_levels_lists_and_metadata() {
        let text = "items[1][price]=b&items[0][price]=a%20%5B&expand[]=x&expand[]=y&metadata[k]=v+w&metadata[gone]=";
        let mut params = Params::parse(text).unwrap();
        let mut items = params.levels("items").unwrap();
        assert_eq!(items[0].required("price").unwrap(), "a [");
        assert_eq!(items[1].required("price").unwrap(), "b");
        assert_eq!(params.texts("expand").unwrap(), ["x", "y"]);
        let old = serde_json::json!({"gone": "1", "kept": "2"});
        assert_eq!(params.metadata(&old).unwrap(), serde_json::json!({"k": "v w", "kept": "2"}));
        params.finish().unwrap();
    }

    #[test]
    fn what_nobody_read_is_refused_by_its_full_name() {
        let mut params = Params::parse("recurring[intervall]=month").unwrap();
        let level = params.level("recurring").unwrap().unwrap();
        let error = level.finish().unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (Some("parameter_unknown"), Some("recurring[intervall]")));
    }

    #[test]
    fn hostile_names_are_errors_not_panics() {
        for name in ["a]=1", "[x]=1", "a[b=1", "a=1&a[b]=2", "a[b]x=1", "%ff=1", "a[1][2][3][4][5][6][7][8][9]=1"] {
            let parsed = Params::parse(name);
            assert!(parsed.is_err() || parsed.unwrap().finish().is_err(), "{name}");
        }
    }
}
