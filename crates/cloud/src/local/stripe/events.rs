//! Events and who is told of them.
//!
//! An event and its deliveries are part of the change that causes them, so that none is without the
//! other. Webhook endpoints are created by the API or come from the settings.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::{Call, page};
use super::error::{ApiError, Result};
use super::form::{Params, nullable};
use super::state::{Tx, difference, int, public, random, text};
use super::{API_VERSION, WebhookEndpoint};

impl Tx<'_> {
    /// Stores a new object and tells of it.
    pub(super) fn created(&mut self, object: Value, event: &str) -> Value {
        self.put(object.clone());
        self.emit(event, &object, None);
        object
    }

    /// Stores a changed object and tells what changed, if anything that is shown did.
    pub(super) fn updated(&mut self, object: Value, event: &str) -> Value {
        let old = self.get(text(&object, "id")).map(public).unwrap_or_default();
        let changed = difference(&old, &public(&object));
        self.put(object.clone());
        if !changed.is_empty() {
            self.emit(event, &object, Some(Value::Object(changed)));
        }
        object
    }

    /// Records an event about `object` as it is now, and a delivery for each endpoint that wants it.
    pub(super) fn emit(&mut self, event: &str, object: &Value, previous: Option<Value>) {
        let id = Tx::id("evt_");
        let wants = |endpoint: &&Value| {
            let listed = endpoint["enabled_events"].as_array();
            let wanted = listed.is_some_and(|list| list.iter().any(|one| one == "*" || one == event));
            endpoint["status"] == "enabled" && wanted
        };
        let endpoints: Vec<String> =
            self.list("webhook_endpoint").filter(wants).map(|one| text(one, "id").to_owned()).collect();
        let mut data = json!({"object": public(object)});
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        self.put(json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": self.now, "livemode": false,
            "type": event, "data": data, "pending_webhooks": endpoints.len(),
            "request": {"id": self.origin.request, "idempotency_key": self.origin.idempotency_key},
        }));
        for endpoint in endpoints {
            self.put(json!({"id": format!("_delivery:{id}:{endpoint}"), "object": "_delivery",
                "event": id, "endpoint": endpoint, "created": self.now}));
        }
    }

    /// A delivery is over: received, or given up.
    pub(super) fn delivered(&mut self, delivery: &str) {
        let Some(event) = self.get(delivery).map(|found| text(found, "event").to_owned()) else { return };
        self.remove(delivery);
        if let Some(mut event) = self.get(&event).cloned() {
            event["pending_webhooks"] = (int(&event, "pending_webhooks") - 1).max(0).into();
            self.put(event);
        }
    }
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let one = call.params.text("type")?;
    let several = call.params.texts("types")?;
    let pending = call.params.flag("delivery_success")?;
    page(tx, call, "event", |event| {
        let kind = text(event, "type");
        let fits = |wanted: &str| wanted.strip_suffix('*').map_or(wanted == kind, |start| kind.starts_with(start));
        one.as_deref().is_none_or(fits)
            && (several.is_empty() || several.iter().any(|wanted| fits(wanted)))
            && pending.is_none_or(|success| success == (int(event, "pending_webhooks") == 0))
    })
}

/// Makes the settings' endpoints exist, and those of former settings disappear.
pub(super) fn keep_endpoints(tx: &mut Tx<'_>, wanted: &[WebhookEndpoint]) {
    let id_of = |url: &str| {
        let hash = Sha256::digest(url);
        hash[..12].iter().fold("we_set".to_owned(), |id, byte| format!("{id}{byte:02x}"))
    };
    for endpoint in wanted {
        let mut object = endpoint_object(tx, id_of(&endpoint.url), &endpoint.url, vec!["*".to_owned()]);
        object["_secret"] = endpoint.secret.as_str().into();
        object["_from_settings"] = true.into();
        let same = tx.get(text(&object, "id")).is_some_and(|old| old["_secret"] == object["_secret"]);
        if !same {
            tx.put(object);
        }
    }
    let stale =
        |object: &&Value| object["_from_settings"] == true && wanted.iter().all(|one| one.url != text(object, "url"));
    let gone: Vec<String> = tx.list("webhook_endpoint").filter(stale).map(|one| text(one, "id").to_owned()).collect();
    for id in gone {
        remove_endpoint(tx, &id);
    }
}

fn endpoint_object(tx: &Tx<'_>, id: String, url: &str, enabled_events: Vec<String>) -> Value {
    json!({
        "id": id, "object": "webhook_endpoint", "api_version": null, "application": null, "created": tx.now,
        "description": null, "enabled_events": enabled_events, "livemode": false, "metadata": {},
        "status": "enabled", "url": url,
    })
}

/// An address that a request can be made to. Returns its origin: `https://example.com`.
pub(super) fn check_url(url: &str, param: &str) -> Result<String> {
    let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let origin = parsed.filter(reqwest::Url::has_host).map(|url| url.origin().ascii_serialization());
    origin.ok_or_else(|| ApiError::invalid("url_invalid", format!("Not a valid URL: {param}"), param))
}

pub(super) fn create_endpoint(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let url = call.params.required("url")?;
    check_url(&url, "url")?;
    let events = call.params.texts("enabled_events")?;
    if events.is_empty() {
        return Err(call.params.absent("enabled_events"));
    }
    let mut endpoint = endpoint_object(tx, Tx::id("we_"), &url, events);
    if let Some(version) = call.params.text("api_version")? {
        endpoint["api_version"] = nullable(version);
    }
    describe(&mut endpoint, &mut call.params)?;
    let secret = format!("whsec_{}", random(32));
    endpoint["_secret"] = secret.as_str().into();
    tx.put(endpoint.clone());
    // The one time that it is shown.
    endpoint["secret"] = secret.into();
    Ok(endpoint)
}

fn describe(endpoint: &mut Value, params: &mut Params) -> Result<()> {
    if let Some(description) = params.text("description")? {
        endpoint["description"] = nullable(description);
    }
    endpoint["metadata"] = params.metadata(&endpoint["metadata"])?;
    Ok(())
}

pub(super) fn list_endpoints(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    page(tx, call, "webhook_endpoint", |_| true)
}

pub(super) fn update_endpoint(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut endpoint = tx.need("webhook_endpoint", call.id(), "id")?;
    let params = &mut call.params;
    if let Some(url) = params.text("url")? {
        check_url(&url, "url")?;
        endpoint["url"] = url.into();
    }
    let events = params.texts("enabled_events")?;
    if !events.is_empty() {
        endpoint["enabled_events"] = events.into();
    }
    if let Some(disabled) = params.flag("disabled")? {
        endpoint["status"] = if disabled { "disabled" } else { "enabled" }.into();
    }
    describe(&mut endpoint, params)?;
    tx.put(endpoint.clone());
    Ok(endpoint)
}

pub(super) fn delete_endpoint(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    tx.need("webhook_endpoint", call.id(), "id")?;
    remove_endpoint(tx, call.id());
    Ok(json!({"id": call.id(), "object": "webhook_endpoint", "deleted": true}))
}

fn remove_endpoint(tx: &mut Tx<'_>, id: &str) {
    let waiting = tx.list("_delivery").filter(|one| text(one, "endpoint") == id);
    let waiting: Vec<String> = waiting.map(|one| text(one, "id").to_owned()).collect();
    for delivery in waiting {
        tx.delivered(&delivery);
    }
    tx.remove(id);
}
