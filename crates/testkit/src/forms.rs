//! Forms of a page as a browser without JavaScript would send them.

/// One `<form>`: where it goes and what it holds before anyone types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// As it stands in the page; empty: the page itself.
    pub action: String,
    /// `post` or `get`, lower case.
    pub method: String,
    pub fields: Vec<(String, String)>,
}

impl Form {
    /// All forms of a page, in order. Reads the markup that our own templates write, not all of HTML.
    pub fn all(page: &str) -> Vec<Self> {
        page.split("<form").skip(1).map(|rest| Self::parse(rest.split("</form>").next().unwrap_or(rest))).collect()
    }

    /// The first form whose action contains `part`.
    pub fn find(page: &str, part: &str) -> Option<Self> {
        Self::all(page).into_iter().find(|form| form.action.contains(part))
    }

    /// Types into a field, or adds it (a button's name and value).
    #[must_use]
    pub fn fill(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(field, _)| field != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once('>').unwrap_or((text, ""));
        let mut fields = Vec::new();
        for tag in body.split("<input").skip(1).map(|rest| rest.split('>').next().unwrap_or(rest)) {
            let kind = attribute(tag, "type").unwrap_or_default();
            let checkable = kind == "radio" || kind == "checkbox";
            if kind == "submit" || checkable && !tag.contains("checked") {
                continue;
            }
            if let Some(name) = attribute(tag, "name") {
                fields.push((name, attribute(tag, "value").unwrap_or_default()));
            }
        }
        for rest in body.split("<select").skip(1) {
            let select = rest.split("</select>").next().unwrap_or(rest);
            let options: Vec<&str> = select.split("<option").skip(1).collect();
            let chosen = options.iter().find(|o| o.split('>').next().is_some_and(|tag| tag.contains("selected")));
            let value = chosen.or(options.first()).and_then(|option| attribute(option, "value"));
            if let (Some(name), Some(value)) = (attribute(select, "name"), value) {
                fields.push((name, value));
            }
        }
        let method = attribute(head, "method").unwrap_or_else(|| "get".to_owned()).to_lowercase();
        Self { action: attribute(head, "action").unwrap_or_default(), method, fields }
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let tag = tag.split('>').next().unwrap_or(tag);
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = tag[start..].split('"').next()?;
    Some(unescape(value))
}

fn unescape(text: &str) -> String {
    let entities = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    entities.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_sent_as_a_browser_would() {
        let page = r#"<form action="/a?b=1&amp;c=2" method="POST"><input type="hidden" name="csrf" value="x&quot;y">
            <input name="email" type="email"><input type="radio" name="plan" value="one"><input type="radio" name="plan"
            value="two" checked><select name="s"><option value="p">P</option><option value="q" selected>Q</option></select>
            <input type="submit" name="go" value="1"></form><form action="/other"></form>"#;
        let form = Form::find(page, "/a").unwrap().fill("email", "ann@acme.example");
        assert_eq!(form.action, "/a?b=1&c=2");
        assert_eq!(form.method, "post");
        let mut fields = form.fields.clone();
        fields.sort();
        let expected = [("csrf", "x\"y"), ("email", "ann@acme.example"), ("plan", "two"), ("s", "q")];
        assert_eq!(fields, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(Form::all(page).len(), 2);
    }
}
