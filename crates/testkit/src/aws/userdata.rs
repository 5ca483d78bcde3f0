//! What an instance's user data makes of it.

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// As an instance gets it.
pub(crate) fn decoded(encoded: &str) -> Result<String, String> {
    let decoded = STANDARD.decode(encoded.trim()).map_err(|error| error.to_string())?;
    String::from_utf8(decoded).map_err(|error| error.to_string())
}

/// The agent's file, as the user data's script leaves it on an instance, at this address instead of all.
pub(crate) fn agent_file(text: &str, id: &str, address: Ipv4Addr) -> Result<Value, String> {
    // A cloud-config is YAML, which ours is by being JSON.
    let json = text.strip_prefix("#cloud-config\n").ok_or("the user data is no cloud-config")?;
    let config: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let files = config["write_files"].as_array().cloned().unwrap_or_default();
    let file = files.iter().find(|file| file["path"].as_str().is_some_and(|path| path.ends_with("/agent.json.in")));
    let content = file.and_then(|file| file["content"].as_str()).ok_or("the user data writes no agent.json.in")?;
    let content = content.replace("@ID@", id).replace("@ADDRESS@", &address.to_string());
    let mut agent: Value = serde_json::from_str(&content).map_err(|error| error.to_string())?;
    agent["public"] = serde_json::json!({ "http": format!("{address}:80"), "https": format!("{address}:443") });
    Ok(agent)
}
