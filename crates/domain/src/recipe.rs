//! Recipes: what can be sold. A recipe is a folder with a `recipe.toml`, which this module reads, and, unless
//! it is built into the agent, a `compose.yaml` that an engine runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A recipe as its folder has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The folder's name.
    pub name: String,
    pub title: String,
    pub summary: String,
    /// None for a recipe that is built in.
    pub run: Option<Run>,
    /// The folder's other files, by name: `compose.yaml`, and what it mounts.
    pub files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    title: String,
    summary: String,
    run: Option<Run>,
}

/// How an engine runs it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The service and its port to which the front door leads.
    pub service: String,
    pub port: u16,
    /// A path at which any answer but a server error says that it works.
    pub health: String,
    #[serde(default)]
    pub hold: HoldBy,
    /// Names of variables that are made for each client and stay the same.
    #[serde(default)]
    pub secrets: Vec<String>,
    #[serde(default)]
    pub setup: Option<Setup>,
    #[serde(default)]
    pub login: Option<Login>,
    /// By plan, and `default` for the trial and every plan that is not named; then by service.
    pub size: BTreeMap<String, BTreeMap<String, Size>>,
}

/// How a stack is brought to rest before the rest of it is copied in a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldBy {
    /// Every program ends in its own way. Right for whatever keeps its word only when it ends in order.
    #[default]
    Stop,
    /// Every program is frozen and what it wrote is copied as it stands: faster, and right where every
    /// program survives a loss of power with all that it acknowledged.
    Freeze,
}

/// What is asked of a new stack, once, before anyone else reaches it. `${NAME}` in a form stands for a variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// What answers so when there is nothing to do (any more).
    pub done: Answer,
    #[serde(rename = "call")]
    pub calls: Vec<Call>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub path: String,
    pub status: u16,
}

/// A form that is posted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub path: String,
    pub form: BTreeMap<String, String>,
}

/// With what the client signs in first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub path: String,
    pub user: String,
    /// Which of the secrets is the password.
    pub password: String,
}

/// The most that a service may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub memory_mb: u32,
    pub cpus: f64,
    pub pids: u32,
}

/// Everything that an agent needs to run a recipe for one client.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compose {
    /// `compose.yaml`, and what it mounts, by name.
    pub files: BTreeMap<String, String>,
    /// What `${NAME}` stands for in `compose.yaml`. Some are secret, and some a client's own words.
    pub variables: BTreeMap<String, String>,
    pub service: String,
    pub port: u16,
    pub health: String,
    pub hold: HoldBy,
    pub setup: Option<Setup>,
    pub sizes: BTreeMap<String, Size>,
}

/// Without its secrets.
impl std::fmt::Debug for Compose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (files, variables) = (self.files.keys(), self.variables.keys());
        write!(f, "Compose {{ files: {files:?}, variables: {variables:?}, service: {:?} }}", self.service)
    }
}

/// Variables that every recipe has: id, host name, address and name of the client, and the owner's address.
pub const VARIABLES: [&str; 5] = ["CLIENT", "HOST", "URL", "COMPANY", "EMAIL"];
/// Bytes of all files of a recipe together.
const FILES: usize = 100_000;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadRecipe {
    #[error("recipe {0:?}: its folder's name must be lower-case letters, digits and single dashes (3 to 40)")]
    Name(String),
    #[error("recipe {name}: recipe.toml cannot be read: {cause}")]
    Syntax { name: String, cause: toml::de::Error },
    #[error("recipe {0}: it has a [run] and no compose.yaml, or the other way round")]
    Halves(String),
    #[error("recipe {0}: its files are larger than {FILES} bytes")]
    TooLarge(String),
    #[error("recipe {name}: {what}")]
    Wrong { name: String, what: String },
}

impl Recipe {
    /// Reads and checks a recipe's folder: its name, its `recipe.toml`, and its other files.
    pub fn parse(name: &str, toml: &str, files: BTreeMap<String, String>) -> Result<Self, BadRecipe> {
        let own = name.to_owned();
        if !crate::names::is_label(name) {
            return Err(BadRecipe::Name(own));
        }
        let file: RecipeFile = toml::from_str(toml).map_err(|cause| BadRecipe::Syntax { name: own.clone(), cause })?;
        if file.run.is_some() != files.contains_key("compose.yaml") {
            return Err(BadRecipe::Halves(own));
        }
        if files.values().map(String::len).sum::<usize>() > FILES {
            return Err(BadRecipe::TooLarge(own));
        }
        if let Some(what) = file.run.as_ref().and_then(Run::wrong) {
            return Err(BadRecipe::Wrong { name: own, what });
        }
        Ok(Self { name: own, title: file.title, summary: file.summary, run: file.run, files })
    }

    /// What an agent needs to run it for a client of that plan (none: a trial); none when it is built in.
    pub fn compose(&self, plan: Option<&str>, variables: BTreeMap<String, String>) -> Option<Compose> {
        let run = self.run.as_ref()?;
        let mut sizes = run.size.get("default").cloned().unwrap_or_default();
        sizes.extend(plan.and_then(|plan| run.size.get(plan)).into_iter().flatten().map(|(k, v)| (k.clone(), *v)));
        let setup = run.setup.clone().map(|mut setup| {
            for value in setup.calls.iter_mut().flat_map(|call| call.form.values_mut()) {
                *value = substitute(value, &variables);
            }
            setup
        });
        Some(Compose {
            files: self.files.clone(),
            variables,
            service: run.service.clone(),
            port: run.port,
            health: run.health.clone(),
            hold: run.hold,
            setup,
            sizes,
        })
    }
}

impl Run {
    fn wrong(&self) -> Option<String> {
        let Some(default) = self.size.get("default") else {
            return Some("there is no [run.size.default], which says what each service may take".into());
        };
        if !default.contains_key(&self.service) {
            return Some(format!("[run.size.default] has no {}, which is its [run] service", self.service));
        }
        for (plan, sizes) in &self.size {
            for (service, size) in sizes {
                if size.memory_mb < 8 || size.pids < 1 || !(0.01..=256.0).contains(&size.cpus) {
                    return Some(format!("[run.size.{plan}.{service}]: at least 8 MB, 0.01 CPUs and 1 process"));
                }
                if !default.contains_key(service) {
                    return Some(format!("[run.size.{plan}] has {service}, which [run.size.default] has not"));
                }
            }
        }
        for name in &self.secrets {
            let fits = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if !fits || name.is_empty() || VARIABLES.contains(&name.as_str()) {
                return Some(format!("the secret {name:?}: capital letters, digits and _, and none of {VARIABLES:?}"));
            }
        }
        if let Some(login) = self.login.as_ref().filter(|login| !self.secrets.contains(&login.password)) {
            return Some(format!("[run.login]: {} is none of its secrets", login.password));
        }
        let setup = self.setup.iter().flat_map(|s| s.calls.iter().map(|c| &c.path).chain([&s.done.path]));
        let paths = setup.chain([&self.health]).chain(self.login.iter().map(|login| &login.path));
        let bad = paths.into_iter().find(|path| !path.starts_with('/'));
        bad.map(|path| format!("the path {path:?} must begin with /"))
    }
}

/// Replaces each `${NAME}` whose name is known. What it stands for is not looked at again.
fn substitute(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${");
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}').and_then(|(name, rest)| Some((variables.get(name)?, rest))) {
            Some((value, rest)) => done.extend([value, rest]),
            None => done.extend(["${", part]),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        title = "Blog"
        summary = "A blog."
        [run]
        service = "web"
        port = 80
        health = "/"
        hold = "freeze"
        secrets = ["PASSWORD"]
        login = { path = "/in", user = "admin", password = "PASSWORD" }
        [run.setup]
        done = { path = "/in", status = 200 }
        call = [{ path = "/install", form = { name = "${COMPANY}: ${NOBODY} ${", password = "${PASSWORD}" } }]
        [run.size.default]
        web = { memory_mb = 64, cpus = 0.5, pids = 20 }
        db = { memory_mb = 64, cpus = 0.5, pids = 20 }
        [run.size.business]
        web = { memory_mb = 512, cpus = 2, pids = 200 }
    "#;

    fn files() -> BTreeMap<String, String> {
        [("compose.yaml".to_owned(), "services: {}".to_owned())].into()
    }

    #[test]
    fn a_plan_gets_its_size_and_a_client_their_words() {
        let recipe = Recipe::parse("blog", TOML, files()).unwrap();
        let words = [("COMPANY", "${PASSWORD} & Sons"), ("PASSWORD", "secret")];
        let variables: BTreeMap<_, _> = words.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let trial = recipe.compose(None, variables.clone()).unwrap();
        assert_eq!((trial.sizes["web"].memory_mb, trial.sizes["db"].memory_mb), (64, 64));
        let business = recipe.compose(Some("business"), variables.clone()).unwrap();
        assert_eq!((business.sizes["web"].memory_mb, business.sizes["db"].memory_mb), (512, 64));
        assert_eq!(recipe.compose(Some("starter"), variables).unwrap().sizes, trial.sizes);
        let form = &trial.setup.as_ref().unwrap().calls[0].form;
        assert_eq!(form["name"], "${PASSWORD} & Sons: ${NOBODY} ${");
        assert_eq!(form["password"], "secret");
        assert!(!format!("{trial:?}").contains("secret"));
    }

    #[test]
    fn a_bad_recipe_is_refused_and_says_why() {
        let refused = |toml: &str| Recipe::parse("blog", toml, files()).unwrap_err().to_string();
        assert!(Recipe::parse("../blog", TOML, files()).unwrap_err().to_string().contains("name"));
        assert!(Recipe::parse("blog", TOML, BTreeMap::new()).unwrap_err().to_string().contains("no compose.yaml"));
        assert!(refused(&TOML.replace("port = 80", "prot = 80")).contains("prot"));
        assert!(refused(&TOML.replace("size.default", "size.starter")).contains("[run.size.default]"));
        assert!(refused(&TOML.replace("memory_mb = 512", "memory_mb = 1")).contains("[run.size.business.web]"));
        assert!(refused(&TOML.replace("[\"PASSWORD\"]", "[\"URL\"]")).contains("URL"));
        assert!(refused(&TOML.replace("[\"PASSWORD\"]", "[]")).contains("none of its secrets"));
        assert!(refused(&TOML.replace("\"/in\", user", "\"in\", user")).contains("begin with /"));
        assert!(refused(&TOML.replace("service = \"web\"", "service = \"app\"")).contains("app"));
        let large = [("compose.yaml".to_owned(), "x".repeat(FILES + 1))].into();
        assert!(Recipe::parse("blog", TOML, large).unwrap_err().to_string().contains("larger"));
    }

    #[test]
    fn a_built_in_recipe_has_nothing_to_run() {
        let recipe = Recipe::parse("site", "title = \"Site\"\nsummary = \"s\"", BTreeMap::new()).unwrap();
        assert!(recipe.compose(None, BTreeMap::new()).is_none());
        assert!(Recipe::parse("site", "title = \"Site\"\nsummary = \"s\"", files()).is_err());
    }
}
