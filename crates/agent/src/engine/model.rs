//! From a recipe's Compose file to what is run for one client: limits, isolation, and where the data lies.
//!
//! The input is the model that Compose itself makes of the file (`config --format json`). What a stack may not
//! have is refused by name; what it must have is set, whatever the file says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use stackpro_domain::recipe::Size;

use super::names;

/// Labels of everything that belongs to a stack: which agent made it, for whom, and from what exactly.
pub(crate) const AGENT: &str = "com.stackpro.agent";
pub(crate) const CLIENT: &str = "com.stackpro.client";
pub(crate) const MODEL: &str = "com.stackpro.model";
pub(crate) const SERVICE: &str = "com.docker.compose.service";

/// Users that a stack's containers see: so many, from 0. On the machine they are others.
pub(crate) const USERS: u32 = 65_536;

/// What a service may say of itself.
const KEPT: [&str; 24] = [
    "command",
    "depends_on",
    "entrypoint",
    "environment",
    "expose",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "networks",
    "platform",
    "pull_policy",
    "read_only",
    "restart",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "user",
    "volumes",
    "working_dir",
    "cap_add",
    "cap_drop",
];
/// What is replaced, and so may stand there for those who run the file by hand.
const REPLACED: [&str; 8] =
    ["ports", "mem_limit", "memswap_limit", "cpus", "pids_limit", "container_name", "logging", "deploy"];
/// Capabilities, within its own user namespace, that a service keeps: what an image's entry point needs to
/// give its data to the user under whom the program then runs.
const CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SETPCAP"];

/// Where and for whom it runs.
pub(crate) struct Place<'a> {
    pub agent: &'a str,
    pub client: &'a str,
    /// The recipe's files lie here.
    pub files: &'a Path,
    /// The services' hosts files lie here, where they have any.
    pub hosts: Option<&'a Path>,
    /// A folder for each volume is made here.
    pub volumes: &'a Path,
    pub sizes: &'a BTreeMap<String, Size>,
    /// The first of the users on the machine that stand for the stack's own. None: the engine has one
    /// mapping for all (Docker).
    pub first_user: Option<u32>,
    /// Networks are kept apart by Docker itself, and by Podman when it is told.
    pub isolate: bool,
}

/// What is run, and the volumes that it has.
#[derive(Debug)]
pub(crate) struct Model {
    pub json: Value,
    /// What its containers are labelled with: another model has another.
    pub label: String,
    pub volumes: BTreeSet<String>,
    pub services: BTreeSet<String>,
}

/// Makes the model of one client's stack. The error says what of the recipe is not possible.
pub(crate) fn prepare(config: Value, place: &Place) -> Result<Model, String> {
    let Value::Object(mut config) = config else { return Err("compose made no model of it".into()) };
    let Some(Value::Object(services)) = config.remove("services") else { return Err("it has no services".into()) };
    if let Some(missing) = place.sizes.keys().find(|name| !services.contains_key(*name)) {
        return Err(format!("recipe.toml gives {missing} a size, and compose.yaml has no such service"));
    }
    let mut volumes = BTreeSet::new();
    let mut prepared = Map::new();
    for (name, service) in services {
        let Value::Object(service) = service else { return Err(format!("service {name} is none")) };
        let made = prepare_service(&name, service, place, &mut volumes);
        prepared.insert(name.clone(), made.map_err(|cause| format!("service {name}: {cause}"))?);
    }
    let networks = networks(config.remove("networks"), place)?;
    let services: BTreeSet<String> = prepared.keys().cloned().collect();
    let mut json = json!({ "services": prepared, "networks": networks });
    let hash = blake3::hash(json.to_string().as_bytes()).to_hex().to_string();
    if let Some(services) = json["services"].as_object_mut() {
        for service in services.values_mut() {
            service["labels"][MODEL] = Value::String(hash.clone());
        }
    }
    Ok(Model { json, label: hash, volumes, services })
}

fn prepare_service(
    name: &str,
    mut service: Map<String, Value>,
    place: &Place,
    volumes: &mut BTreeSet<String>,
) -> Result<Value, String> {
    service.retain(|_, value| !value.is_null());
    let unknown = service.keys().find(|key| !KEPT.contains(&key.as_str()) && !REPLACED.contains(&key.as_str()));
    if let Some(key) = unknown {
        return Err(format!("a stack may not have {key:?}"));
    }
    if !service.contains_key("image") {
        return Err("it has no image".into());
    }
    let Some(size) = place.sizes.get(name) else {
        return Err("recipe.toml gives it no size ([run.size.default])".into());
    };
    service.retain(|key, _| KEPT.contains(&key.as_str()));
    let wanted = service.remove("cap_add").unwrap_or_default();
    for capability in wanted.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !CAPABILITIES.contains(&capability.trim_start_matches("CAP_")) {
            return Err(format!("a stack may not have the capability {capability}"));
        }
    }
    service.entry("restart").or_insert_with(|| "unless-stopped".into());
    let mounts = service.remove("volumes").unwrap_or_default();
    let mounts = mounts.as_array().into_iter().flatten().map(|mount| mount_of(mount, place, volumes));
    let mut mounts: Vec<Value> = mounts.collect::<Result<_, String>>()?;
    mounts.extend(place.hosts.map(|folder| bind(&names::file(folder, name), &"/etc/hosts".into(), true)));
    let memory = u64::from(size.memory_mb) * 1024 * 1024;
    let labels = service.entry("labels").or_insert_with(|| json!({}));
    labels[AGENT] = place.agent.into();
    labels[CLIENT] = place.client.into();
    let set = json!({
        "volumes": mounts,
        "mem_limit": memory.to_string(),
        // As much as memory: no swap beside it.
        "memswap_limit": memory.to_string(),
        "cpus": size.cpus,
        "pids_limit": size.pids,
        "cap_drop": ["ALL"],
        "cap_add": CAPABILITIES,
        "security_opt": ["no-new-privileges"],
        "logging": { "driver": "json-file", "options": { "max-size": "10m" } },
    });
    if let Value::Object(set) = set {
        service.extend(set);
    }
    if let Some(first) = place.first_user {
        let map = format!("auto:size={USERS},uidmapping=0:{first}:{USERS},gidmapping=0:{first}:{USERS}");
        service.insert("userns_mode".into(), map.into());
        // A program that opens /dev/stderr by its name (Apache's log) may do so when it is a terminal. A pipe
        // belongs to the machine's root, whom the stack's users are not.
        service.insert("tty".into(), true.into());
    }
    Ok(Value::Object(service))
}

/// A volume becomes a folder of the stack's, and a file of the recipe's is mounted to be read.
fn mount_of(mount: &Value, place: &Place, volumes: &mut BTreeSet<String>) -> Result<Value, String> {
    let (kind, source) = (mount["type"].as_str().unwrap_or_default(), mount["source"].as_str().unwrap_or_default());
    match kind {
        "tmpfs" => Ok(mount.clone()),
        "volume" if is_name(source) => {
            volumes.insert(source.to_owned());
            Ok(bind(&place.volumes.join(source), &mount["target"], mount["read_only"] == true))
        }
        "volume" => Err("a volume needs a name, of small letters, digits, - and _".into()),
        "bind" => {
            let path = Path::new(source);
            let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
            if plain && path.starts_with(place.files) && path != place.files {
                Ok(bind(path, &mount["target"], true))
            } else {
                Err(format!("it may mount volumes and the recipe's own files, not {source:?}"))
            }
        }
        _ => Err(format!("a stack may not mount {kind:?}")),
    }
}

fn bind(source: &Path, target: &Value, read_only: bool) -> Value {
    let (source, options) = (source.display().to_string(), json!({ "create_host_path": false }));
    json!({ "type": "bind", "source": source, "target": target, "read_only": read_only, "bind": options })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 60
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn networks(networks: Option<Value>, place: &Place) -> Result<Value, String> {
    let mut made = Map::new();
    for (name, network) in networks.as_ref().and_then(Value::as_object).into_iter().flatten() {
        if network["external"] == true || !matches!(network["driver"].as_str(), None | Some("bridge")) {
            return Err(format!("network {name}: a stack has networks of its own, and only those"));
        }
        let options = if place.isolate { json!({ "isolate": "true" }) } else { json!({}) };
        let labels = json!({ AGENT: place.agent, CLIENT: place.client });
        let internal = network["internal"] == true;
        made.insert(
            name.clone(),
            json!({ "driver": "bridge", "driver_opts": options, "internal": internal, "labels": labels }),
        );
    }
    Ok(Value::Object(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> BTreeMap<String, Size> {
        [("web", 64), ("db", 32)].map(|(name, memory_mb)| (name.into(), Size { memory_mb, cpus: 0.5, pids: 20 })).into()
    }

    fn config() -> Value {
        json!({
            "name": "any",
            "services": {
                "web": {
                    "image": "web:1", "command": null, "ports": [{ "published": "80", "target": 80 }],
                    "environment": { "A": "b$$c" }, "networks": { "default": null }, "mem_limit": "9999999999",
                    "cap_add": ["CAP_CHOWN"], "labels": { "com.stackpro.client": "another" },
                    "volumes": [
                        { "type": "volume", "source": "site", "target": "/site" },
                        { "type": "bind", "source": "/recipe/php.ini", "target": "/php.ini" },
                    ],
                },
                "db": { "image": "db:1", "volumes": [{ "type": "volume", "source": "db", "target": "/db" }] },
            },
            "networks": { "default": { "name": "any_default", "ipam": {} } },
            "volumes": { "site": {}, "db": {} },
        })
    }

    fn run(config: Value, sizes: &BTreeMap<String, Size>, first_user: Option<u32>) -> Result<Model, String> {
        let place = Place {
            agent: "i-1",
            client: "acme",
            files: Path::new("/recipe"),
            hosts: first_user.map(|_| Path::new("/stack/hosts")),
            volumes: Path::new("/stack/volumes"),
            sizes,
            first_user,
            isolate: true,
        };
        prepare(config, &place)
    }

    #[test]
    fn every_service_is_bounded_and_its_data_lies_with_the_stack() {
        let model = run(config(), &sizes(), Some(1_000_000)).unwrap();
        assert_eq!(model.volumes, ["db", "site"].map(String::from).into());
        let web = &model.json["services"]["web"];
        assert_eq!(web["mem_limit"], "67108864");
        assert_eq!((&web["cpus"], &web["pids_limit"]), (&json!(0.5), &json!(20)));
        assert_eq!(web["volumes"][0]["source"], "/stack/volumes/site");
        assert_eq!(web["volumes"][1]["read_only"], true);
        let hosts = (&web["volumes"][2]["source"], &web["volumes"][2]["target"]);
        assert_eq!(hosts, (&json!("/stack/hosts/web.hosts"), &json!("/etc/hosts")));
        assert!(web.get("ports").is_none(), "nothing is published");
        assert_eq!((&web["cap_drop"], &web["security_opt"]), (&json!(["ALL"]), &json!(["no-new-privileges"])));
        assert_eq!((&web["labels"][CLIENT], &web["labels"][AGENT]), (&json!("acme"), &json!("i-1")));
        assert!(web["userns_mode"].as_str().unwrap().contains("0:1000000:65536"));
        assert_eq!(web["environment"]["A"], "b$$c");
        let db = &model.json["services"]["db"];
        assert_eq!(db["labels"][MODEL], web["labels"][MODEL]);
        assert_eq!(model.json["networks"]["default"]["driver_opts"]["isolate"], "true");
        assert!(run(config(), &sizes(), None).unwrap().json["services"]["web"].get("userns_mode").is_none());
    }

    #[test]
    fn the_label_changes_with_what_is_run() {
        let label = |model: Model| model.json["services"]["web"]["labels"][MODEL].clone();
        let (one, same) = (run(config(), &sizes(), None).unwrap(), run(config(), &sizes(), None).unwrap());
        assert_eq!(label(one), label(same));
        let mut larger = sizes();
        larger.get_mut("db").unwrap().memory_mb = 33;
        assert_ne!(label(run(config(), &sizes(), None).unwrap()), label(run(config(), &larger, None).unwrap()));
    }

    #[test]
    fn what_would_leave_the_stack_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut config = config();
            change(&mut config);
            run(config, &sizes(), None).unwrap_err()
        };
        for (key, value) in [
            ("privileged", json!(true)),
            ("network_mode", json!("host")),
            ("pid", json!("host")),
            ("devices", json!(["/dev/sda"])),
            ("userns_mode", json!("host")),
            ("security_opt", json!(["seccomp=unconfined"])),
            ("build", json!({ "context": "." })),
            ("extra_hosts", json!(["a=host-gateway"])),
        ] {
            let cause = refused(&|config| config["services"]["db"][key] = value.clone());
            assert!(cause.contains(key) && cause.contains("service db"), "{cause}");
        }
        for source in ["/", "/etc/passwd", "/recipe", "/recipe/../etc/shadow", "/recipes/x"] {
            let mount = json!({ "type": "bind", "source": source, "target": "/x" });
            assert!(refused(&|config| config["services"]["db"]["volumes"][0] = mount.clone()).contains(source));
        }
        for name in ["", "../x", "a/b"] {
            refused(&|config| config["services"]["db"]["volumes"][0]["source"] = json!(name));
        }
        assert!(refused(&|config| config["services"]["db"]["cap_add"] = json!(["SYS_ADMIN"])).contains("SYS_ADMIN"));
        assert!(refused(&|config| config["networks"]["default"]["external"] = json!(true)).contains("default"));
        assert!(refused(&|config| config["services"]["cache"] = json!({ "image": "c" })).contains("no size"));
        assert!(refused(&|config| drop(config["services"].as_object_mut().unwrap().remove("db"))).contains("db"));
        assert!(run(Value::Null, &sizes(), None).is_err());
    }
}
