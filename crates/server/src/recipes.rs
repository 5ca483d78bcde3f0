//! The recipes that this installation knows, and those that it sells: what is in `recipes` is built in, and an
//! operator's own folder adds to it and replaces.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rust_embed::Embed;
use stackpro_domain::recipe::{BadRecipe, Recipe, VARIABLES};
use stackpro_store::Client;

use crate::world::World;

#[derive(Embed)]
#[folder = "../../recipes"]
struct BuiltIn;

/// Why the recipes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipesError {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Bad(#[from] BadRecipe),
    #[error("there is no recipe {0:?}; there are {1}")]
    Unknown(String, String),
    #[error("no recipe is sold: at least one has to be")]
    NoneSold,
}

/// Every recipe that is known, by name, and the names of those that are sold.
#[derive(Clone, Debug)]
pub struct Recipes {
    known: BTreeMap<String, Recipe>,
    sold: Vec<String>,
}

impl Recipes {
    /// The built-in recipes, those in a folder of the operator's, and which of them are sold; the first is
    /// what a client gets who chooses none.
    pub fn read(folder: Option<&Path>, sold: &[String]) -> Result<Self, RecipesError> {
        let mut folders = built_in();
        if let Some(folder) = folder {
            folders.extend(read_folders(folder)?);
        }
        let mut known = BTreeMap::new();
        for (name, mut files) in folders {
            let toml = files.remove("recipe.toml").unwrap_or_default();
            known.insert(name.clone(), Recipe::parse(&name, &toml, files)?);
        }
        if sold.is_empty() {
            return Err(RecipesError::NoneSold);
        }
        if let Some(name) = sold.iter().find(|name| !known.contains_key(*name)) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(RecipesError::Unknown(name.clone(), names.join(", ")));
        }
        Ok(Self { known, sold: sold.to_vec() })
    }

    /// Also one that is not sold any more: there may be clients who have it.
    pub fn get(&self, name: &str) -> Option<&Recipe> {
        self.known.get(name)
    }

    pub fn sold(&self) -> impl Iterator<Item = &Recipe> {
        self.sold.iter().filter_map(|name| self.known.get(name))
    }

    /// The name of the recipe that was chosen, or of the first; none when it is not sold.
    pub fn choose(&self, name: Option<&str>) -> Option<String> {
        self.sold.iter().find(|sold| name.is_none_or(|name| name == *sold)).cloned()
    }
}

impl Default for Recipes {
    /// What is built into the agent, alone.
    fn default() -> Self {
        let site = Recipe {
            name: SITE.into(),
            title: "Website and files".into(),
            summary: String::new(),
            run: None,
            files: BTreeMap::new(),
        };
        Self { known: [(SITE.to_owned(), site)].into(), sold: vec![SITE.into()] }
    }
}

/// The recipe that needs no engine.
pub const SITE: &str = "site";

type Folders = BTreeMap<String, BTreeMap<String, String>>;

fn built_in() -> Folders {
    let mut folders = Folders::new();
    for path in BuiltIn::iter() {
        if let (Some((folder, name)), Some(file)) = (path.split_once('/'), BuiltIn::get(&path)) {
            let text = String::from_utf8_lossy(&file.data).into_owned();
            folders.entry(folder.to_owned()).or_default().insert(name.to_owned(), text);
        }
    }
    folders
}

fn read_folders(folder: &Path) -> Result<Folders, RecipesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| RecipesError::File { path, cause }
    };
    let mut folders = Folders::new();
    for found in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = found.map_err(failed(folder))?.path();
        if !path.join("recipe.toml").is_file() {
            continue;
        }
        let mut files = BTreeMap::new();
        for file in std::fs::read_dir(&path).map_err(failed(&path))? {
            let file = file.map_err(failed(&path))?.path();
            let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
            files.insert(file.file_name().unwrap_or_default().to_string_lossy().into_owned(), text);
        }
        folders.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), files);
    }
    Ok(folders)
}

/// What `${NAME}` stands for, for one client.
pub(crate) fn variables(world: &World, client: &Client, recipe: &Recipe, owner: &str) -> BTreeMap<String, String> {
    let values = [
        client.id.to_string(),
        client.host.clone(),
        world.settings.client_url(&client.host),
        client.company.clone(),
        owner.to_owned(),
    ];
    let secrets = recipe.run.iter().flat_map(|run| &run.secrets);
    let secrets = secrets.map(|name| (name.clone(), world.secrets.recipe_secret(&client.id, name)));
    VARIABLES.iter().map(|name| (*name).to_owned()).zip(values).chain(secrets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sold(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_built_in_can_be_sold_and_what_is_not_there_cannot() {
        let recipes = Recipes::read(None, &sold(&["site", "wordpress"])).unwrap();
        assert_eq!(recipes.sold().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>(), ["site", "wordpress"]);
        assert!(recipes.get("wordpress").unwrap().files.contains_key("uploads.ini"));
        assert_eq!(recipes.choose(None).as_deref(), Some("site"));
        assert_eq!(recipes.choose(Some("wordpress")).as_deref(), Some("wordpress"));
        assert_eq!((recipes.choose(Some("drupal")), recipes.choose(Some(""))), (None, None));
        let unknown = Recipes::read(None, &sold(&["drupal"])).unwrap_err().to_string();
        assert!(unknown.contains("drupal") && unknown.contains("wordpress"), "{unknown}");
        assert!(Recipes::read(None, &[]).is_err());
    }

    #[test]
    fn an_operators_folder_adds_and_replaces() {
        let dir = tempfile::tempdir().unwrap();
        for (name, title) in [("site", "Their site"), ("wiki", "Wiki")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            let toml = format!("title = {title:?}\nsummary = \"s\"");
            std::fs::write(dir.path().join(name).join("recipe.toml"), toml).unwrap();
        }
        std::fs::create_dir(dir.path().join("no-recipe")).unwrap();
        let recipes = Recipes::read(Some(dir.path()), &sold(&["wiki"])).unwrap();
        assert_eq!(recipes.get("site").unwrap().title, "Their site");
        assert_eq!(recipes.get("wiki").unwrap().title, "Wiki");
        assert!(recipes.get("wordpress").is_some() && recipes.get("no-recipe").is_none());
        std::fs::write(dir.path().join("wiki/recipe.toml"), "title = 1").unwrap();
        let bad = Recipes::read(Some(dir.path()), &sold(&["site"])).unwrap_err().to_string();
        assert!(bad.contains("wiki"), "{bad}");
        let nowhere = Recipes::read(Some(&dir.path().join("nowhere")), &sold(&["site"])).unwrap_err().to_string();
        assert!(nowhere.contains("nowhere"), "{nowhere}");
    }
}
