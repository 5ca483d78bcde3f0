//! The page for developers, drawn from the OpenAPI document, so that the two cannot differ.

use askama::Template;
use serde_json::Value;

use super::assets;
use super::frame::SiteFrame;

/// `GET /api`
#[derive(Template)]
#[template(path = "site/api.html")]
pub struct ApiReference {
    pub frame: SiteFrame,
    pub version: String,
    pub groups: Vec<Group>,
}

/// Operations that belong together: those of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub operations: Vec<Operation>,
}

/// One method of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub method: String,
    pub path: String,
    pub summary: String,
    pub description: String,
    /// Of the path and the query.
    pub parameters: Vec<Field>,
    pub body: Vec<Field>,
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: String,
    pub required: bool,
    pub description: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: String,
    pub description: String,
    pub fields: Vec<Field>,
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

impl ApiReference {
    /// Reads what the page needs of an OpenAPI 3 document; what is not there is left out.
    pub fn from_openapi(frame: SiteFrame, document: &Value) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for method in METHODS {
                let Some(operation) = item.get(method) else { continue };
                let name = operation["tags"][0].as_str().unwrap_or("Everything else");
                let read = operation_of(document, path, method, operation);
                match groups.iter_mut().find(|group| group.name == name) {
                    Some(group) => group.operations.push(read),
                    None => groups.push(Group { name: name.into(), operations: vec![read] }),
                }
            }
        }
        Self { frame, version: text(&document["info"]["version"]), groups }
    }
}

fn operation_of(document: &Value, path: &str, method: &str, operation: &Value) -> Operation {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let answers = operation["responses"].as_object().into_iter().flatten();
    Operation {
        method: method.to_uppercase(),
        path: path.into(),
        summary: text(&operation["summary"]),
        description: text(&operation["description"]),
        parameters: parameters
            .map(|parameter| Field {
                name: text(&parameter["name"]),
                kind: kind(&parameter["schema"]),
                required: parameter["required"].as_bool().unwrap_or(false),
                description: text(&parameter["description"]),
            })
            .collect(),
        body: fields(document, content(&operation["requestBody"])),
        answers: answers
            .map(|(status, answer)| Answer {
                status: status.clone(),
                description: text(&answer["description"]),
                fields: fields(document, content(answer)),
            })
            .collect(),
    }
}

/// The schema of the first content type.
fn content(body: &Value) -> &Value {
    body["content"].as_object().and_then(|types| types.values().next()).map_or(&Value::Null, |kind| &kind["schema"])
}

/// The fields of an object, one level deep: what is inside them is named by its type.
fn fields(document: &Value, schema: &Value) -> Vec<Field> {
    let schema = resolve(document, schema);
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| Field {
            name: name.clone(),
            kind: kind(property),
            required: required.contains(&name.as_str()),
            description: text(&property["description"]),
        })
        .collect()
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(name) = reference(schema) else { return schema };
    &document["components"]["schemas"][name]
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// A type in a word or two: `string`, `User`, `list of Step`, `string or nothing`.
fn kind(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return name.into();
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let one = |name: &str| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "null" => "nothing".into(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "anything".into(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_grouped_and_references_followed() {
        let document = serde_json::json!({
            "info": {"version": "1"},
            "paths": {"/api/x": {"post": {"tags": ["Sign-up"], "summary": "Make", "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/X"}}}},
                "responses": {"201": {"description": "Made"}}}, "get": {"tags": ["Sign-up"]}}, "/health": {"get": {}}},
            "components": {"schemas": {"X": {"required": ["email"], "properties": {"email": {"type": "string"}, "tags": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/T"}}}}}}
        });
        let page = ApiReference::from_openapi(SiteFrame::default(), &document);
        let names: Vec<_> = page.groups.iter().map(|group| (group.name.as_str(), group.operations.len())).collect();
        assert_eq!(names, [("Sign-up", 2), ("Everything else", 1)]);
        let post = page.groups[0].operations.iter().find(|operation| operation.method == "POST").unwrap();
        assert!(post.body[0].required && !post.body[1].required);
        assert_eq!(post.body[1].kind, "list of T or nothing");
        assert_eq!(post.answers[0].status, "201");
    }

    #[test]
    fn any_document_gives_a_page() {
        for document in
            [Value::Null, serde_json::json!({"paths": 3}), serde_json::json!({"paths": {"/a": {"get": null}}})]
        {
            assert!(ApiReference::from_openapi(SiteFrame::default(), &document).render().is_ok());
        }
    }
}
